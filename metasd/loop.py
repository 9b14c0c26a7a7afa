"""The decoding loop: the same ten lines live and in replay."""

from __future__ import annotations

from metasd.core import Session
from metasd.ledger import Ledger
from metasd.policies.base import Policy


def decode(session: Session, policy: Policy, ledger: Ledger) -> None:
    """Decode every text of ``session``, choosing each round's arm with ``policy`` and summing into ``ledger``.

    ``policy`` must have been bound to the session's pool and lanes (``Policy.bind``).
    """
    while not session.done:
        if len(session.fresh):
            policy.begin(session.fresh, session.keys[session.fresh])
        rounds = session.play(policy.select(session.context))
        policy.update(rounds)
        if policy.feedback == "full":
            policy.observe(session.reveal())
        ledger.add(rounds)
