"""Replay's clock against live: how fast a replay says that policies decode, and how fast they did."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from metasd.sim.replay.run import Replay


@dataclass(frozen=True, slots=True)
class Forecast:
    """Tokens a second of one policy on the same prompts; None where there was no clock."""

    policy: str
    predicted: float | None
    live: float | None

    @property
    def error(self) -> float | None:
        """By which share of the live speed the prediction is too high."""
        return self.predicted / self.live - 1 if self.predicted is not None and self.live else None

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"error": self.error}


def forecast(replayed: Replay, live: float | None) -> Forecast:
    """What ``replayed`` promised of a run that made ``live`` tokens a second."""
    return Forecast(replayed.policy, replayed.ledger.totals().tokens_per_second, live)
