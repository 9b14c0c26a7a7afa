"""What a round costs in seconds: a small model fitted to timings, kept apart from acceptance in ``costs.json``.

Acceptance replays exactly; time is modelled. One trace can therefore be replayed on another machine's clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from metasd.core import files, jsontext, shown
from metasd.core.errors import TraceError
from metasd.core.pool import Pool
from metasd.core.records import Floats, Ints

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class CostModel:
    """Seconds of the three parts of a round.

    verify(width, context) interpolates the measured medians over width (tokens in the target's pass, drafted + 1)
        and adds ``verify_per_context`` seconds per token of context beyond ``context``, the one they were taken at.
    draft(d, m) = draft_fixed[d] + draft_per_token[d] * m for m > 0, else 0.
    catch_up(d, c) = catch_up_fixed[d] + catch_up_per_token[d] * c for c > 0, else 0.
    ``drafters`` names the columns. ``error`` is the held-out median relative error of the model, where measured.
    """

    drafters: tuple[str, ...]
    widths: Floats  # [W] ascending
    verify_seconds: Floats  # [W]
    draft_fixed: Floats  # [D]
    draft_per_token: Floats  # [D]
    catch_up_fixed: Floats  # [D]
    catch_up_per_token: Floats  # [D]
    context: float = 0.0
    verify_per_context: float = 0.0
    overhead: float = 0.0  # seconds of a round outside any model pass, counted with verification
    error: float | None = None
    measured: dict[str, Any] = field(default_factory=dict)  # the raw timings the model was fitted to

    @property
    def widest(self) -> int:
        """Tokens of the widest pass that was measured: behind it ``verify`` is flat, which no real pass is."""
        return int(self.widths[-1])

    def verify(self, drafted: Ints, context: Ints) -> Floats:
        base = np.interp(drafted + 1, self.widths, self.verify_seconds)
        return np.asarray(base + self.verify_per_context * (context - self.context) + self.overhead)

    def draft(self, drafter: Ints, drafted: Ints) -> Floats:
        return np.where(drafted > 0, self.draft_fixed[drafter] + self.draft_per_token[drafter] * drafted, 0.0)

    def catch_up(self, drafter: Ints, tokens: Ints) -> Floats:
        cost = self.catch_up_fixed[drafter] + self.catch_up_per_token[drafter] * tokens
        return np.where(tokens > 0, cost, 0.0)

    def expected(self, pool: Pool, remaining: Ints, context: Ints, lag: Ints) -> Floats:
        """[B, K] expected seconds of a round with each arm, were its whole draft length drafted.

        Args: remaining [B], context [B] (prompt and committed tokens), lag [B, D].
        """
        columns = self.columns(pool)
        drafted = np.minimum(pool.draft_length[None, :], np.maximum(remaining - 1, 0)[:, None])
        drafter = np.broadcast_to(columns[pool.drafter_of][None, :], drafted.shape)
        behind = np.where(pool.plain[None, :], 0, lag[:, pool.drafter_of])
        total: Floats = self.verify(drafted, context[:, None]) + self.draft(drafter, drafted)
        return total + self.catch_up(drafter, behind)

    def scaled(self, verify: float, drafters: Floats) -> CostModel:
        """The same model with verification (overhead included) ``verify`` times as long, and drafting and catching up
        of each of its drafters ``drafters`` [D] times."""
        return replace(
            self,
            verify_seconds=self.verify_seconds * verify,
            verify_per_context=self.verify_per_context * verify,
            overhead=self.overhead * verify,
            draft_fixed=self.draft_fixed * drafters,
            draft_per_token=self.draft_per_token * drafters,
            catch_up_fixed=self.catch_up_fixed * drafters,
            catch_up_per_token=self.catch_up_per_token * drafters,
        )

    def shared(self, lanes: int) -> CostModel:
        """The same model of a round on one of ``lanes`` that are checked in one pass: a pass of so many texts is taken
        for one that is as many times as wide, and a lane's share of it for an equal one.

        What is drafted, and the attention of each text to its own context, every lane pays for itself.
        """
        return replace(
            self, widths=self.widths / lanes, verify_seconds=self.verify_seconds / lanes, overhead=self.overhead / lanes
        )

    def columns(self, pool: Pool) -> Ints:
        """[D] this model's column for each of the pool's drafters. Raises TraceError if one is missing."""
        missing = [d.name for d in pool.drafters if d.name not in self.drafters]
        if missing:
            raise TraceError(
                f"costs know no drafter {missing[0]!r}, only {', '.join(self.drafters)}; record them again"
            )
        return np.array([self.drafters.index(d.name) for d in pool.drafters], np.int64)

    def to_json(self) -> dict[str, Any]:
        arrays = ("widths", "verify_seconds", "draft_fixed", "draft_per_token", "catch_up_fixed", "catch_up_per_token")
        scalars = ("context", "verify_per_context", "overhead", "error", "measured")
        data: dict[str, Any] = {"schema": SCHEMA, "unit": "seconds", "drafters": list(self.drafters)}
        data |= {name: getattr(self, name).tolist() for name in arrays}
        return data | {name: getattr(self, name) for name in scalars}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> CostModel:
        if data.get("schema") != SCHEMA:
            raise TraceError(f"costs of schema {data.get('schema')!r}; this version reads {SCHEMA}")
        fields = {k: v for k, v in data.items() if k not in ("schema", "unit")}
        fields["drafters"] = tuple(fields["drafters"])
        arrays = {k: np.asarray(v, np.float64) for k, v in fields.items() if isinstance(v, list)}
        made = cls(**(fields | arrays))
        made.check()
        return made

    def check(self) -> None:
        """Raises ValueError for numbers that cost nothing sensible: of other lengths, negative, or no numbers."""
        by_drafter = ("draft_fixed", "draft_per_token", "catch_up_fixed", "catch_up_per_token")
        lengths = {name: len(self.drafters) for name in by_drafter} | {"verify_seconds": len(self.widths)}
        for name, length in lengths.items():
            values = np.asarray(getattr(self, name), np.float64)
            if values.shape != (length,) or not (np.isfinite(values) & (values >= 0)).all():
                raise ValueError(f"{name} are not {length} numbers of 0 or more")
        if not len(self.widths) or (np.diff(self.widths) <= 0).any():
            raise ValueError(f"widths {self.widths.tolist()} do not ascend")

    def save(self, path: Path) -> None:
        """Write ``path``. Raises FileError."""
        files.write_text(path, jsontext.dumps(self.to_json(), indent=1) + "\n")

    @classmethod
    def load(cls, path: Path) -> CostModel:
        try:
            return cls.from_json(jsontext.loads(path.read_bytes()))
        except TraceError as error:
            raise TraceError(f"{path}: {error}") from error
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            why = shown.reason(error)
            raise TraceError(f"{path}: not a costs file ({why}); record the trace again or remove it") from error
