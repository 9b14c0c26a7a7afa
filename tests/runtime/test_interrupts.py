"""An interrupt or an error inside a pass: the session goes on with plain decoding's text, or says that it is closed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from metasd.core.errors import SessionClosedError
from metasd.core.pool import DrafterInfo, Pool
from metasd.drafters import LookupDrafter, TableDrafter
from metasd.runtime.load import Target
from metasd.runtime.models import ModelDrafter, SkipDrafter
from metasd.runtime.session import LiveSession

from .conftest import VOCAB

PROMPTS = [("a", [5, 9, 7, 5, 9]), ("b", [30, 2])]
BUDGET = 7
ARMS = ((0, 3), (1, 3), (2, 3), (3, 2), (-1, 0))


def session_of(target: Target, model: Any, **settings: Any) -> LiveSession:
    info = DrafterInfo("model", "model", free=False, deterministic=False)
    made: list[Any] = [
        LookupDrafter(draft_length=3),
        TableDrafter(draft_length=3),
        ModelDrafter(info, model, vocab_size=VOCAB),
        SkipDrafter(target, "1-2"),
    ]
    return LiveSession(target, made, Pool([d.info for d in made], ARMS), PROMPTS, max_new_tokens=BUDGET, **settings)


def play(session: LiveSession) -> None:
    """Arms in turn by what is emitted, so that a round played again is played with the same arm."""
    while not session.done:
        session.play(np.array([(2, 3, 0, 2, 4, 1)[sum(map(len, session.texts)) % 6]]))


class Alarm:
    """Raises in the n-th linear layer that is called, before or after its work."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, error: type[BaseException], at: int, *, late: bool) -> None:
        self.calls, self.rang = 0, False
        forward = torch.nn.Linear.forward

        def ringing(module: Any, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            ring = self.calls == at
            self.rang |= ring
            if ring and not late:
                raise error("alarm")
            out = forward(module, x)
            if ring:
                raise error("alarm")
            return out

        monkeypatch.setattr(torch.nn.Linear, "forward", ringing)


@pytest.fixture(scope="module")
def expected(tiny_target: Target, tiny_drafter: Any) -> list[list[int]]:
    session = session_of(tiny_target, tiny_drafter)
    while not session.done:
        session.play(np.array([4]))
    return session.texts


@pytest.mark.parametrize(("error", "feedback"), [(KeyboardInterrupt, "full"), (RuntimeError, "bandit")])
def test_every_place_where_it_can_ring(
    tiny_target: Target, tiny_drafter: Any, expected: list[list[int]], error: Any, feedback: str
) -> None:
    """A linear layer is the smallest part of a pass: what rings inside one leaves a cache of uneven layers."""
    settings = {"feedback": feedback, "scope": "all"} if feedback == "full" else {}
    session = session_of(tiny_target, tiny_drafter, **settings)  # trying the skipping model out is no part of it
    with pytest.MonkeyPatch.context() as patch:
        alarm = Alarm(patch, error, -1, late=False)
        play(session)
    places = np.unique(np.linspace(1, alarm.calls, 20).astype(int))
    closed = 0
    for i, at in enumerate(places.tolist()):
        session = session_of(tiny_target, tiny_drafter, **settings)
        with pytest.MonkeyPatch.context() as patch:
            alarm = Alarm(patch, error, at, late=bool(i % 2))
            with pytest.raises(error):
                play(session)
        assert alarm.rang
        before = [list(text) for text in session.texts]
        try:
            play(session)
        except SessionClosedError:
            closed += 1
            assert session.texts == before == [t[: len(b)] for t, b in zip(expected, before, strict=True)]
            continue
        assert session.texts == expected, at
    assert (closed > 0) == (feedback == "full"), "only inside a commit that reads tokens is there a pass"


def test_a_closed_session_says_so_in_one_line(tiny_target: Target, tiny_drafter: Any) -> None:
    session = session_of(tiny_target, tiny_drafter)
    session.play(np.array([4]))
    lookup = session._seats[0].lane.drafters[0]
    lookup.extend = lambda tokens: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        session.play(np.array([4]))
    with pytest.raises(SessionClosedError, match="open a new one"):
        session.play(np.array([4]))
    with pytest.raises(SessionClosedError, match="open a new one"):
        _ = session.context
