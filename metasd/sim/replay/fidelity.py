"""Run against replay, round by round: the comparison that says what was simulated is what runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np

from metasd.core.costs import CostModel
from metasd.core.errors import UsageError
from metasd.core.records import Ints, Rounds, StopReason, concatenate
from metasd.sim.replay.run import Replay, replay
from metasd.traces import Trace, take_prompts

Row = tuple[int, ...]
_PROMPT, _ARM, _DRAFTED, _ACCEPTED, _EMITTED, _STOP = 0, 1, 3, 4, 5, 6


def ordered(rounds: Sequence[Rounds], prompt_of: Ints | None = None) -> list[Row]:
    """Every round as a tuple without its seconds, by prompt and position.

    prompt_of: [E] prompt of each episode that ``Rounds.prompt`` names; the identity by default.
    """
    joined = concatenate(rounds)
    if prompt_of is not None:
        joined.prompt = np.asarray(prompt_of)[joined.prompt]
    return sorted(joined.counts(), key=lambda row: (row[_PROMPT], row[2]))


@dataclass(frozen=True, slots=True)
class Fidelity:
    """How two lists of rounds compare, and what the lists exercised.

    texts_differing: texts that are not, as far as they go, the recorded ones.
    """

    rounds: int
    differing: int
    rejections: int
    full_acceptances: int
    switches: int
    ends_inside_draft: int
    texts_differing: int = 0

    @property
    def identical(self) -> bool:
        return self.differing == 0 and self.texts_differing == 0

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"identical": self.identical}

    def __add__(self, other: Fidelity) -> Fidelity:
        mine, theirs = asdict(self), asdict(other)
        return Fidelity(**{name: mine[name] + theirs[name] for name in mine})


def compare(live: Sequence[Row], replayed: Sequence[Row]) -> Fidelity:
    """Compare the rounds of a run with those of its replay. Counts of what was seen are of the live side."""
    missing = abs(len(live) - len(replayed))
    pairs = list(pairwise(live))
    return Fidelity(
        rounds=len(live),
        differing=sum(a != b for a, b in zip(live, replayed, strict=False)) + missing,
        rejections=sum(r[_STOP] == StopReason.REJECTED for r in live),
        full_acceptances=sum(r[_DRAFTED] == r[_ACCEPTED] > 0 for r in live),
        switches=sum(a[_PROMPT] == b[_PROMPT] and a[_ARM] != b[_ARM] for a, b in pairs),
        ends_inside_draft=sum(r[_STOP] == StopReason.TEXT_ENDED for r in live),
    )


def check(
    live: Sequence[Rounds],
    ids: Sequence[str],
    trace: Trace,
    spec: str,
    *,
    draft_length: int | None = None,
    reset: str | None = None,
    prior: Mapping[str, Any] | None = None,
    budget: int | None = None,
    costs: CostModel | None = None,
    texts: Sequence[Sequence[int]] | None = None,
    arms: Sequence[str] | None = None,
    lanes: int = 1,
) -> Fidelity:
    """Compare the rounds of a live run with the replay of ``trace`` under the same policy.

    Args:
        live: the rounds played, ``Rounds.prompt`` indexing ``ids``.
        ids: prompt ids of the run, in the order they were decoded.
        costs: those the run knew; its replay knows the same, whatever the trace holds.
        texts: answer tokens of each; compared with the recorded ones.
        arms: names of the arms that ``Rounds.arm`` counts, where they are not the trace's, as of plain decoding alone.
        lanes: texts that the run decoded at once.

    Raises UsageError when a prompt of the run is not in the trace, or the trace was sampled: above temperature 0 run
    and replay agree in law, not round by round.
    """
    replayed = counterpart(
        ids, trace, spec, draft_length=draft_length, reset=reset, prior=prior, budget=budget, costs=costs, lanes=lanes
    )
    return against(live, replayed, budget=budget, texts=texts, arms=arms)


def counterpart(
    ids: Sequence[str],
    trace: Trace,
    spec: str,
    *,
    draft_length: int | None = None,
    reset: str | None = None,
    prior: Mapping[str, Any] | None = None,
    budget: int | None = None,
    costs: CostModel | None = None,
    lanes: int = 1,
) -> Replay:
    """The replay that a run is compared with, its rounds kept. Arguments and errors are those of ``check``."""
    if trace.sampled:
        raise UsageError("the trace was sampled: a run agrees with it in law only; record one at temperature 0")
    same = replace(take_prompts(trace, positions(trace, ids)), costs=costs)
    how: dict[str, Any] = {"draft_length": draft_length, "reset": reset, "prior": prior, "budget": budget}
    return replay(same, spec, at_once=lanes, keep_rounds=True, **how)


def against(
    live: Sequence[Rounds],
    replayed: Replay,
    *,
    budget: int | None = None,
    texts: Sequence[Sequence[int]] | None = None,
    arms: Sequence[str] | None = None,
) -> Fidelity:
    """Compare the rounds of a run with those of its ``counterpart``; see ``check``."""
    if arms is not None:
        number = np.array([replayed.pool.index(name) for name in arms])
        live = [replace(rounds, arm=number[rounds.arm]) for rounds in live]
    found = compare(ordered(live), ordered(replayed.rounds, replayed.prompt))
    if texts is None:
        return found
    recorded = np.split(replayed.trace.tokens, replayed.trace.offsets[1:-1])
    apart = sum(list(text) != told[:budget].tolist() for text, told in zip(texts, recorded, strict=True))
    return replace(found, texts_differing=apart)


def positions(trace: Trace, ids: Sequence[str]) -> list[int]:
    """Where the prompts ``ids`` are in the trace. Raises UsageError for one that is not."""
    at = {name: p for p, name in enumerate(trace.ids)}
    missing = [name for name in ids if name not in at]
    if missing:
        raise UsageError(f"prompt {missing[0]!r} is not in the trace; record the prompts that are run")
    return [at[name] for name in ids]
