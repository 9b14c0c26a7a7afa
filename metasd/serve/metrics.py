"""The counters of a server as Prometheus metrics, beside vLLM's own, where ``prometheus_client`` is installed.

They live in the process that drafts. vLLM's ``/metrics`` shows them where that is the one that serves, or where the
environment has ``PROMETHEUS_MULTIPROC_DIR``, which vLLM reads too.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from functools import cache
from typing import Any

_SUMS = {
    "requests": "Requests seen.",
    "rounds": "Rounds judged.",
    "drafts": "Rounds with a draft.",
    "drafted": "Draft tokens that the target checked.",
    "accepted": "Draft tokens that it accepted.",
    "emitted": "Tokens of all rounds.",
    "dropped_drafts": "Drafts that were never judged.",
    "adapter_seconds": "Seconds in the adapter, reading prompts left out.",
    "request_steps": "Requests by step: what the adapter's seconds are shared by.",
}
_BY = {
    "arms": ("metasd_arm_rounds", "arm", "Rounds by arm."),
    "accepted_by_position": ("metasd_accepted_at", "position", "Draft tokens accepted, by position in the draft."),
}


class Metrics:
    """What was counted, added to the metrics of this process; engines of one process share them."""

    def __init__(self) -> None:
        self._told: dict[tuple[str, str], float] = {}
        self.active = _made() is not None

    def tell(self, counted: Mapping[str, Any]) -> None:
        """Add what ``counted`` (``Counters.to_json``) has more than at the last call."""
        made = _made()
        if made is None:
            return
        for name in _SUMS:
            self._add(made[name], (name, ""), counted[name])
        for name in _BY:
            values = counted[name]
            rows = values.items() if isinstance(values, Mapping) else enumerate(values)
            for label, value in rows:
                self._add(made[name].labels(str(label)), (name, str(label)), value)

    def _add(self, counter: Any, key: tuple[str, str], value: float) -> None:
        counter.inc(value - self._told.get(key, 0.0))
        self._told[key] = value


@cache
def _made() -> dict[str, Any] | None:
    """The counters by name, registered once a process; None without ``prometheus_client``."""
    try:
        client = importlib.import_module("prometheus_client")
    except ImportError:
        return None
    sums = {name: client.Counter(f"metasd_{name}", text) for name, text in _SUMS.items()}
    return sums | {name: client.Counter(full, text, [label]) for name, (full, label, text) in _BY.items()}
