"""Contenders side by side: several policies decode the same prompts live, prompt by prompt in turn.

Taking turns at every prompt spreads a machine's drift over all of them. Every contender has its own session, its own
caches and its own drafters, so nothing one has learned can help another.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core.correction import Corrections
from metasd.core.costs import CostModel
from metasd.core.ledger import Ledger, Totals
from metasd.core.loop import decode
from metasd.core.pool import Pool
from metasd.core.records import Ints, Rounds
from metasd.core.results import ALL, by_domain, row
from metasd.drafters.base import Drafter
from metasd.policies import Policy, PolicyLike, label, make
from metasd.runtime.conversation import EncodedPrompt
from metasd.runtime.load import Target
from metasd.runtime.parting import Parting, partings
from metasd.runtime.sampling import Sampling
from metasd.runtime.session import LiveSession
from metasd.runtime.start import Start
from metasd.runtime.stops import Stops
from metasd.runtime.told import OnTokens

PLAIN_SPEC = "fixed:arm=plain"


@dataclass(frozen=True, slots=True)
class Decoding:
    """How every contender decodes: what must be equal on both sides of a speed-up.

    lanes: texts that are decoded at once; costs are those of a round on one of them.
    """

    max_new_tokens: int = 128
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    clock: str = "measured"
    costs: CostModel | None = None
    stops: Stops = field(default_factory=dict)
    lanes: int = 1


@dataclass(slots=True)
class Contender:
    """One policy with a pool and drafters of its own, and what came of it.

    beside: drafters of the lanes behind the first. rounds: one lane's each. ledger and rounds count wall seconds,
    whatever the clock that the policy goes by; corrections of the costs last from text to text.
    """

    spec: str
    policy: Policy
    pool: Pool
    drafters: list[Drafter]
    baseline: bool = False
    beside: list[list[Drafter]] = field(default_factory=list)
    session: LiveSession = field(init=False)
    ledger: Ledger = field(init=False)
    rounds: list[Rounds] = field(default_factory=list)
    on_tokens: OnTokens | None = None
    corrections: Corrections | None = None

    def prepare(self, target: Target, texts: Sequence[EncodedPrompt], how: Decoding, reset: str | None) -> None:
        """Open the session and bind the policy."""
        self.open(target, texts, how)
        self.policy.bind(self.pool, self.session.lanes, reset=reset, overlap=True)

    def open(self, target: Target, texts: Sequence[EncodedPrompt], how: Decoding) -> None:
        """A session for ``texts``, and nothing counted yet; the policy keeps what it learned."""
        self.session = LiveSession(
            target,
            self.drafters,
            self.pool,
            [(name, tokens) for name, _, tokens in texts],
            beside=self.beside[: min(how.lanes, len(texts)) - 1],
            max_new_tokens=how.max_new_tokens,
            sampling=how.sampling,
            seed=how.seed,
            clock=how.clock,
            costs=how.costs,
            corrections=self.corrections,
            stops=how.stops,
            on_tokens=self.on_tokens,
            **self.policy.wants(overlap=True, timed=how.costs is not None, models=self.pool.models),
        )
        self.corrections = self.session.clock.corrections
        self.ledger, self.rounds = Ledger(self.pool, len(texts)), []

    def decode_one(self) -> None:
        """Decode until one more of the session's texts is over."""
        self.session.resume()
        decode(self.session, self.policy, None, texts=1, on_rounds=self._played)

    def _played(self, rounds: Rounds) -> None:
        measured = self.session.clock.measured(rounds)
        self.ledger.add(measured)
        one = len(measured) == 1
        self.rounds += [measured] if one else [measured.take(np.array([i])) for i in range(len(measured))]


Build = Callable[[], tuple[list[Drafter], Pool]]


def contenders(
    specs: Sequence[PolicyLike],
    build: Build,
    *,
    baseline: bool,
    prior: Mapping[str, Any] | None,
    length: int | None = None,
    lanes: int = 1,
) -> list[Contender]:
    """The policies ``specs`` and, with ``baseline``, plain decoding and every fixed arm.

    build: makes fresh drafters and their pool; called once a contender and lane. A fixed arm gets the one drafter it
        needs, so it is not charged for looking at the others; so does plain decoding, which needs none.
    length: of the fixed arms that take part; None: all do.
    lanes: that drafters are made for.
    """
    chosen = [_chosen(spec, build, prior, lanes) for spec in specs]
    return [plain(baseline=True, lanes=lanes), *_fixed_arms(build, length, lanes), *chosen] if baseline else chosen


def _chosen(spec: PolicyLike, build: Build, prior: Mapping[str, Any] | None, lanes: int) -> Contender:
    """A policy with its pool. There is nothing to choose where nothing drafts, so that is plain decoding."""
    policy, (drafters, pool) = make(spec), build()
    if prior is not None:
        policy.set_prior(prior)
    if spec == PLAIN_SPEC or not pool.drafters:
        return plain(lanes=lanes)
    return Contender(label(spec), policy, pool, drafters, beside=[build()[0] for _ in range(1, lanes)])


def plain(*, baseline: bool = False, lanes: int = 1) -> Contender:
    """Plain decoding, with no drafter to feed."""
    beside: list[list[Drafter]] = [[] for _ in range(1, lanes)]
    return Contender(PLAIN_SPEC, make(PLAIN_SPEC), Pool([], [(-1, 0)]), [], baseline=baseline, beside=beside)


def _fixed_arms(build: Build, length: int | None, lanes: int) -> list[Contender]:
    _, pool = build()
    those = [a for a in pool.arms if a.drafter >= 0 and length in (None, a.draft_length)]
    return [fixed_arm(build, arm.name, baseline=True, lanes=lanes) for arm in those]


def fixed_arm(build: Build, name: str, *, baseline: bool = False, lanes: int = 1) -> Contender:
    """The arm called ``name``, with the one drafter it needs. Raises UsageError for a name that no arm has."""
    drafters, pool = build()
    arm = pool.arms[pool.index(name)]
    own = Pool([pool.drafters[arm.drafter]], [(0, arm.draft_length)])
    spec = f"fixed:arm={arm.name}"
    beside = [[build()[0][arm.drafter]] for _ in range(1, lanes)]
    return Contender(spec, make(spec), own, [drafters[arm.drafter]], baseline=baseline, beside=beside)


def run(
    target: Target,
    entrants: Sequence[Contender],
    texts: Sequence[EncodedPrompt],
    how: Decoding,
    *,
    reset: str | None = None,
    first: int = 0,
    advance: Callable[[], object] = lambda: None,
) -> None:
    """Decode every text with every entrant, in turn. ``advance`` is called after each (text, entrant).

    first: who begins with the first text; with every text the turn moves on by one, so that nobody is always first.
    """
    for entrant in entrants:
        entrant.prepare(target, texts, how, reset)
    for at in range(len(texts)):
        turn = (first + at) % len(entrants)
        for entrant in [*entrants[turn:], *entrants[:turn]]:
            entrant.decode_one()
            advance()


def rows(entrants: Sequence[Contender], texts: Sequence[EncodedPrompt]) -> list[dict[str, Any]]:
    """Result rows; speed-up, equal texts and regret are known where plain decoding and every fixed arm ran beside."""
    domains = [domain for _, domain, _ in texts]
    fixed = [e.ledger.rounds_of() for e in entrants if e.baseline]
    best = np.min(fixed, axis=0) if fixed else None
    beside = plain_of(entrants)
    plain = {} if beside is None else _speeds(beside, domains)

    def rows_of(entrant: Contender) -> list[dict[str, Any]]:
        same = _same(entrant, beside)

        def make_row(totals: Totals, at: Ints, domain: str) -> dict[str, Any]:
            base, speed = plain.get(domain), totals.tokens_per_second
            return row(
                totals,
                policy=entrant.spec,
                reset=entrant.policy.reset,
                domain=domain,
                speedup=speed / base if speed and base else None,
                regret_rounds=None if best is None else totals.rounds - best[at].sum().item(),
                same_text=None if same is None else int(same[at].sum()),
                starts=_starts([entrant.session.starts[i] for i in at]),
            )

        return by_domain(entrant.ledger, domains, make_row)

    return [r for entrant in entrants for r in rows_of(entrant)]


def plain_of(entrants: Sequence[Contender]) -> Contender | None:
    """Plain decoding among the ``entrants``."""
    return next((e for e in entrants if e.spec == PLAIN_SPEC), None)


def parted(
    target: Target, entrants: Sequence[Contender], texts: Sequence[EncodedPrompt], how: Decoding
) -> list[Parting] | None:
    """Where texts are not plain decoding's; None where that says nothing: without it, and above temperature 0."""
    plain = plain_of(entrants)
    if plain is None or not how.sampling.greedy:
        return None
    others = {e.spec: e.session.texts for e in entrants if e is not plain}
    return partings(target, texts, plain.session.texts, others, how.max_new_tokens)


def _same(entrant: Contender, plain: Contender | None) -> NDArray[np.bool_] | None:
    """[E] whether each text is plain decoding's; sampled ones agree in law only, so None."""
    if plain is None or not entrant.session.sampling.greedy:
        return None
    return np.array([a == b for a, b in zip(entrant.session.texts, plain.session.texts, strict=True)], bool)


def _starts(starts: Sequence[Start]) -> dict[str, float | None]:
    """``metasd.core.results.STARTS`` over some texts; what reads in no time at all has no speed."""
    first = [s.first_token_seconds for s in starts if s.first_token_seconds is not None]
    seconds = sum(s.prefill_seconds for s in starts)
    return {
        "first_token_seconds": sum(first) / len(first) if first else None,
        "prefill_tokens_per_second": sum(s.tokens - 1 for s in starts) / seconds if seconds else None,
        "begin_seconds": sum(s.begin_seconds for s in starts) / len(starts) if starts else None,
    }


def _speeds(entrant: Contender, domains: Sequence[str]) -> dict[str, float | None]:
    """Tokens a second by domain and in total."""
    labels = np.asarray(domains, object)
    groups = {name: entrant.ledger.totals(labels == name) for name in dict.fromkeys(domains)}
    return {name: t.tokens_per_second for name, t in (groups | {ALL: entrant.ledger.totals()}).items()}
