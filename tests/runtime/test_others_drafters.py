"""Drafters that nobody here wrote: the protocol is all that lane, recorder and timing ask of one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metasd.core.errors import UsageError
from metasd.core.pool import DrafterInfo, Pool
from metasd.drafters import LookupDrafter
from metasd.drafters.base import Draft, Drafter, Look
from metasd.record.run import record
from metasd.runtime.load import Target
from metasd.runtime.session import LiveSession

from .conftest import VOCAB

PROMPT = [5, 9, 7, 5]


class Remote(Drafter):
    """Drafts what it is told to, somewhere else: not free, no model that we could call, always a token behind."""

    def __init__(self, answer: Sequence[int], free: bool = False) -> None:
        self.info = DrafterInfo("remote", "remote", free=free, deterministic=True)
        self.answer, self.calls = [*answer], {"draft": 0, "extend": 0}
        self.keys: list[Any] = []

    @property
    def lag(self) -> int:
        return 0 if self.info.free else 1

    @property
    def seconds(self) -> float:
        return 0.25 * self.calls["draft"]

    def begin(self, prompt: Sequence[int], key: np.uint64 | None = None) -> None:
        self.keys.append(key)
        self.start, self.text = len(prompt), [*prompt]

    def extend(self, tokens: Sequence[int]) -> None:
        self.calls["extend"] += 1
        self.text += tokens

    def look(self) -> Look:
        return Look(True)

    def draft(self, length: int) -> Draft:
        self.calls["draft"] += 1
        at = len(self.text) - self.start
        tokens = [t if i % 3 else (t + 1) % VOCAB for i, t in enumerate(self.answer[at : at + length], start=at)]
        return Draft(tokens, [0.5] * len(tokens), catch_up=self.lag)


class Judging(Remote):
    """One that says what it thought of committed tokens: always the same token."""

    def judged(self, count: int) -> torch.Tensor:
        return torch.nn.functional.one_hot(torch.full((count,), 3), VOCAB).double()


def plain(target: Target, budget: int = 40) -> list[int]:
    session = LiveSession(target, [], Pool([], [(-1, 0)]), [("p", PROMPT)], max_new_tokens=budget)
    while not session.done:
        session.play(np.array([0]))
    return session.texts[0]


@pytest.mark.parametrize("kind", [Remote, Judging])
@pytest.mark.parametrize("scope", ["bandit", "free", "all"])
def test_it_is_asked_when_it_is_played_and_what_it_costs_is_counted(
    tiny_target: Target, kind: type[Remote], scope: str
) -> None:
    expected = plain(tiny_target)
    remote = kind(expected)
    drafters: list[Any] = [remote, LookupDrafter(draft_length=2)]
    settings = {} if scope == "bandit" else {"feedback": "full", "scope": scope}
    session = LiveSession(
        tiny_target,
        drafters,
        Pool([d.info for d in drafters], [(0, 4), (1, 2)]),
        [("p", PROMPT)],
        max_new_tokens=40,
        reads=frozenset({"lag"}),
        **settings,
    )
    rounds = accepted = 0
    while not session.done:
        assert session.context.lag.tolist() == [[1, 0]]  # type: ignore[union-attr]
        played = session.play(np.array([0]))
        assert played.catch_up[0] == int(played.drafted[0] > 0) + (scope == "all" and kind is Judging)
        rounds, accepted = rounds + 1, accepted + int(played.accepted[0])
        if scope == "all":
            of_remote = session.reveal().agreement[:, 0]
            assert np.isnan(of_remote).all() == (kind is Remote), "what it cannot tell is not told"
    assert session.texts == [expected]
    assert accepted > 0
    assert remote.calls["draft"] <= rounds
    assert remote.calls["extend"] == rounds, "a round's tokens are committed together"
    assert session.forward_seconds >= remote.seconds > 0
    assert remote.keys == [remote.keys[0]] != [None]


def test_free_ones_are_recorded_and_others_refused(tiny_target: Target, tmp_path: Path) -> None:
    expected = plain(tiny_target, 12)

    class Free(Remote):
        def agreement(self) -> Any:
            return np.full(1, np.nan)

    for free in (True, False):
        drafter = Free(expected, free)
        pool = Pool([drafter.info], [(0, 3)])
        if free:
            record(tiny_target, [drafter], pool, [("p", "d", PROMPT)], tmp_path / "t", max_new_tokens=12)
            continue
        with pytest.raises(UsageError, match="'remote' of kind 'remote' cannot be recorded"):
            record(tiny_target, [drafter], pool, [("p", "d", PROMPT)], tmp_path / "u", max_new_tokens=12)
