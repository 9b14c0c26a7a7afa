"""What the best possible choices would have reached. The environment's side only: no policy may import or reach it.

At temperature 0 all of it is exact. Above it, "under a seed" means with that seed's luck frozen, the luck that
``TraceSession`` gives a policy under the same seed: the optimum then also knows the luck, and is an upper bound that no
policy can be expected to reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core import noise
from metasd.core.pool import Pool
from metasd.core.records import Floats, Ints
from metasd.sim.oracle.board import Boards, expected, fixed, optimum
from metasd.traces.trace import Trace


def episodes(trace: Trace, prompts: Any, seeds: Any, judge: Any = None) -> tuple[Ints, noise.Keys | None]:
    """Texts [E] and, above temperature 0, the streams that judge them."""
    texts = np.arange(len(trace)) if prompts is None else np.asarray(prompts, np.int64).reshape(-1)
    if not trace.sampled or judge is not None:
        return texts, judge
    of = np.broadcast_to(np.asarray(seeds, np.int64), texts.shape).tolist()
    keys = [noise.judge_key(s, trace.ids[p]) for s, p in zip(of, texts.tolist(), strict=True)]
    return texts, np.array(keys, np.uint64)


def fixed_arm_rounds(
    trace: Trace, pool: Pool, *, prompts: Any = None, seeds: Any = 0, budget: int | None = None, judge: Any = None
) -> Ints:
    """[E, K] rounds each arm takes for each text when it is always chosen; a round without a proposal emits one token.

    Args:
        prompts: [E] indices of texts, all by default.
        seeds: one seed or [E]; without meaning at temperature 0. ``judge`` [E] gives the streams themselves.
    """
    boards = Boards(trace, pool, budget)
    texts, judge = episodes(trace, prompts, seeds, judge)
    out = np.zeros((len(texts), len(pool)), np.int64)
    for part in boards.chunks(texts):
        board = boards.board(texts[part], None if judge is None else judge[part])
        out[part] = fixed(board, board.emitted)
    return out


def expected_arm_rounds(trace: Trace, pool: Pool) -> Floats:
    """[P, K] rounds each arm is expected to take for each text when it is always chosen, over all luck.

    At temperature 0 there is none, and these are ``fixed_arm_rounds``.
    """
    if not trace.sampled:
        return fixed_arm_rounds(trace, pool).astype(np.float64)
    boards = Boards(trace, pool)
    out = np.zeros((len(trace), len(pool)))
    for part in boards.chunks(np.arange(len(trace))):
        out[part] = expected(*boards.chances(part))
    return out


def best_fixed(rounds: NDArray[Any], domains: Sequence[str] | None = None) -> tuple[NDArray[Any], Ints]:
    """[E] cost of the best fixed arm and which it was, given ``rounds`` [E, K] (or seconds).

    domains: None picks the best arm of each text. [E] names pick one arm for all texts of a name (the ideal router);
    give the same name for all to get the best arm overall.
    """
    if domains is None:
        arm = rounds.argmin(axis=1)
    else:
        group = np.unique(np.asarray(domains, object), return_inverse=True)[1]
        total = np.zeros((group.max(initial=-1) + 1, rounds.shape[1]))
        np.add.at(total, group, rounds)
        arm = total.argmin(axis=1)[group]
    return rounds[np.arange(len(rounds)), arm], arm


def clairvoyant_rounds(
    trace: Trace, pool: Pool, *, prompts: Any = None, seeds: Any = 0, budget: int | None = None, judge: Any = None
) -> Ints:
    """[E] the fewest rounds that can decode each text: V(t) = 1 + min over arms of V(t + emitted).

    Arguments as for ``fixed_arm_rounds``.
    """
    boards = Boards(trace, pool, budget)
    texts, judge = episodes(trace, prompts, seeds, judge)
    out = np.zeros(len(texts), np.int64)
    for part in boards.chunks(texts):
        board = boards.board(texts[part], None if judge is None else judge[part])
        out[part] = np.rint(optimum(board)[0])
    return out
