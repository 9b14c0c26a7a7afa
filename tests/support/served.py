"""Rounds that a serving adapter played, and whether the trace it recorded replays to them."""

from __future__ import annotations

from typing import Any

import numpy as np

from metasd.sim.replay.session import TraceSession

Played = tuple[int, int, int, int, int]
"""Position, arm, drafted, accepted, emitted."""


def watch(adapter: Any) -> tuple[dict[int, list[Played]], list[int]]:
    """Rounds by request, and the requests in the order in which they end; both fill up as the adapter serves."""
    rounds: dict[int, list[Played]] = {}
    order: list[int] = []
    add, end = adapter.counters.add, adapter._end

    def added(played: Any) -> None:
        columns = (played.prompt, played.position, played.arm, played.drafted, played.accepted, played.emitted)
        for request, *row in np.stack(columns, axis=1).tolist():
            rounds.setdefault(request, []).append(tuple(row))
        add(played)

    def ended(request: Any) -> None:
        order.append(request.number)
        end(request)

    adapter.counters.add, adapter._end = added, ended
    return rounds, order


def near_end(trace: Any, prompt: int, position: int, most: int = 4) -> bool:
    """Whether the token budget of a replay, the text's end, may cut a draft there."""
    return int(trace.lengths[prompt]) - position <= most


def replays(trace: Any, pool: Any, rounds: list[list[Played]]) -> int:
    """Play the arms of ``rounds``, by prompt, on ``trace``, and compare; how many drafts were compared."""
    compared = 0
    for prompt, wanted in enumerate(rounds):
        session = TraceSession(trace, pool, episodes=[[prompt]], seeds=[0])
        for position, arm, drafted, accepted, emitted in wanted:
            while session.context.position[0] < position:  # tokens without a round: a draft was dropped there
                session.play(np.array([len(pool) - 1]))
            got = session.play(np.array([arm]))
            assert (got.position[0], got.emitted[0]) == (position, emitted)
            if not near_end(trace, prompt, position):
                assert (got.drafted[0], got.accepted[0]) == (drafted, accepted)
                compared += drafted > 0
        assert session.done
    return compared
