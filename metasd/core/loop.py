"""The decoding loop: the same dozen lines live and in replay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from metasd.core.ledger import Ledger
from metasd.core.plans import Judged, Plan, Suggest
from metasd.core.records import Context, Ints, Revealed, Rounds, Session


class Chooser(Protocol):
    """What the loop asks of a policy; ``metasd.policies.base.Policy`` is one."""

    @property
    def feedback(self) -> str: ...

    def begin(self, lanes: Ints, keys: Any) -> None: ...

    def select(self, context: Context) -> Ints: ...

    def update(self, rounds: Rounds) -> None: ...

    def observe(self, revealed: Revealed) -> None: ...

    @property
    def plans(self) -> bool: ...

    def plan(self, context: Context, suggest: Sequence[Suggest]) -> Sequence[Plan]: ...

    def judge(self, rounds: Rounds, judged: Sequence[Judged]) -> None: ...


def decode(
    session: Session,
    policy: Chooser,
    ledger: Ledger | None,
    *,
    texts: int | None = None,
    on_rounds: Callable[[Rounds], object] | None = None,
) -> None:
    """Decode the texts of ``session``, ``policy`` choosing each round's arm or plan; summed into ``ledger``, if any.

    ``policy`` must have been bound to the session's pool and lanes (``Policy.bind``).
    texts: return once that many texts have been finished; all of them by default.
    on_rounds: called with the rounds of every play.
    """
    finished = 0
    while not session.done and (texts is None or finished < texts):
        if len(session.fresh):
            policy.begin(session.fresh, session.keys[session.fresh])
        if policy.plans:
            rounds = session.play_plans(policy.plan(session.context, session.suggest))
            policy.judge(rounds, session.judged)
        else:
            rounds = session.play(policy.select(session.context))
            policy.update(rounds)
        if policy.feedback == "full":
            policy.observe(session.reveal())
        if ledger is not None:
            ledger.add(rounds)
        finished += int(rounds.finished.sum())
        if on_rounds is not None:
            on_rounds(rounds)
