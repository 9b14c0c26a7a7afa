"""The experiments by name, and how they are run: one after the other, each kept as soon as it is done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from metasd import __version__
from metasd.core import files, jsontext
from metasd.core.errors import UsageError
from metasd.sim.compare.job import fingerprint
from metasd.sim.reproduce import choices, every, feedback, policies, shift, switches
from metasd.sim.reproduce.finding import Outcome, Setting
from metasd.sim.reproduce.matched import without_total
from metasd.traces.trace import Trace

Experiment = Callable[[Setting], Outcome]
SCHEMA = 2
"""Goes up when experiments say more, or other things: what an earlier one wrote is then measured anew."""

EXPERIMENTS: dict[str, tuple[str, Experiment]] = {
    "policies": ("a. MetaSD-UCB against drafters and policies", policies.run),
    "feedback": ("b. Block divergence against block efficiency", feedback.run),
    "choices": ("c. Beta, forgetting, lengths of drafts and answers, number of drafters", choices.run),
    "shift": ("d. Two tasks in a prompt, reworded prompts, other domains, and a router", shift.run),
    "switches": ("e. Switches, catch-up and the share of the best drafter", switches.run),
    "every": ("f. All drafters in every round", every.run),
}
"""Title and function of each experiment."""


def run(
    trace: Trace,
    out: Path,
    *,
    names: Sequence[str] = (),
    seeds: int,
    quick: bool,
    shifted: Trace | None = None,
    said: Callable[[str, bool], object] | None = None,
) -> list[dict[str, Any]]:
    """Documents of the experiments ``names`` (all by default), each written to OUT/NAME.json when it is done.

    One that lies there already, of the same trace, settings and version, is taken as it is (``said`` is told so).
    Raises UsageError for an unknown name, and for a second trace that does not go with the first.
    """
    for name in names:
        if name not in EXPERIMENTS:
            raise UsageError(f"unknown experiment {name!r}; choose among {', '.join(EXPERIMENTS)}")
    config = {
        "trace": trace.name,
        "contents": fingerprint(trace),
        "seeds": seeds,
        "quick": quick,
        "metasd": __version__,
        "schema": SCHEMA,
    }
    if shifted is not None:
        shift.check(trace, shifted)
    files.make_folder(out)
    beside = None if shifted is None else without_total(shifted)
    setting, found = Setting(without_total(trace), seeds, quick, beside, trace), []
    for name in names or EXPERIMENTS:
        of = config | {"shifted": fingerprint(shifted)} if name == "shift" and shifted is not None else config
        path, head = out / f"{name}.json", {"experiment": name, "title": EXPERIMENTS[name][0], "config": of}
        kept = _kept(path, head)
        if said is not None:
            said(name, kept is not None)
        if kept is None:
            kept = head | EXPERIMENTS[name][1](setting).to_json()
            files.write_text(path, jsontext.dumps(kept, indent=1) + "\n")
        found.append(kept)
    return found


def _kept(path: Path, head: dict[str, Any]) -> dict[str, Any] | None:
    try:
        document = jsontext.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    same = isinstance(document, dict) and all(document.get(key) == value for key, value in head.items())
    return document if same else None
