"""From an engine's step to a policy's round and back: recognise, settle, learn, choose, draft. Knows no engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core.errors import FileError, UsageError
from metasd.core.records import NO_END, Context, Ints, Rounds, settle
from metasd.core.reveal import LiveRevealer
from metasd.core.signals import INDEX, F
from metasd.serve import state
from metasd.serve.config import Config, check_length
from metasd.serve.counters import Counters
from metasd.serve.fast.compile import FAST
from metasd.serve.fast.earlier import possible
from metasd.serve.fast.texts import FastTexts, warm
from metasd.serve.lanes import SHARE, Lanes
from metasd.serve.pace import Pace
from metasd.serve.prices import Prices
from metasd.serve.records import Record, Records
from metasd.serve.requests import Match, Request, Requests
from metasd.serve.text import SlowTexts, Texts

PROPOSAL = INDEX["proposal_length"]


@dataclass(slots=True)
class Playing:
    """A request's lane, its text, and the round under way: arm, cap on its draft, tokens committed and allowed."""

    lane: int
    text: Any
    record: Record | None
    arm: int = -1
    cap: int = 0
    position: int = 0
    remaining: int = 1


class Adapter:
    """See the module docstring.

    Positions count tokens behind the first one, which the engine makes while it reads the prompt and no draft can
    reach: prompt and first token are what a text begins with.

    Args:
        most: draft tokens a round that the engine checks at most (``num_speculative_tokens``).
        max_length: tokens of a text, prompt included.
        target: the model's name, for records. clock: seconds, for the adapter's own time.

    Raises UsageError for a configuration that cannot work.
    """

    def __init__(
        self,
        config: Config,
        *,
        most: int,
        max_length: int,
        target: str = "unknown",
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.config, self.max_length, self._clock = config, max_length, clock
        self.policy = config.make_policy()
        self._wants = self.policy.wants(overlap=False, timed=config.goodput, models=False)
        if self._wants["plans"]:
            raise UsageError(f"policy {config.policy!r} plans trees, which vLLM cannot check; use one that picks arms")
        timed = config.goodput and "cost" in self._wants["reads"]
        self._forms, self.pool = config.make_pool(check_length(most), timed)
        told = {"cost", "pays"} if config.goodput else set()
        unknown = self._wants["reads"] - {"signals", "tail", "proposal", "lag"} - told
        if unknown:
            raise UsageError(f"policy {config.policy!r} reads {', '.join(sorted(unknown))}, which no server tells yet")
        self.lanes = Lanes(self.policy, self.pool, config.reset, config.seed)
        self.texts = self._make_texts()
        self._longest, self._drafter_of = self.pool.draft_length.tolist(), self.pool.drafter_of.tolist()
        self.counters = Counters(self.pool)
        self.requests = Requests(most, max_length)
        self._most = most
        self._pace = Pace(most) if config.goodput else None
        self._prices = Prices(self._pace, self.pool) if self._pace is not None and timed else None
        self._left: float | None = None  # when the engine was last given drafts
        self._playing: dict[Request, Playing] = {}
        self.records: Records | None = None
        self.failed: FileError | None = None  # why recording has stopped
        if config.records is not None:
            self.records = Records(Path(config.records), self.pool, self._forms, config.record_prompts, target)
        self._load()
        self._saved = time.monotonic()

    def propose(
        self, sampled: Sequence[Sequence[int]], lengths: NDArray[np.int32], texts: NDArray[np.int32]
    ) -> list[list[int]]:
        """Drafts by row, from what the engine's last step gave each (``Requests.recognise`` says how)."""
        started, reading = self._clock(), self.counters.reading_seconds
        drafts: list[list[int]] = [[] for _ in sampled]
        matches = self.requests.recognise(sampled, lengths, texts)
        self.counters.padded += sum(m.padded for m in matches)
        if self._left is not None and len(matches) == len(sampled):
            self._time(matches, started - self._left)
        self._learn([m for m in matches if not m.new])
        for request in self.requests.expired():
            self._end(request)
        if any(m.new for m in matches) or self.counters.steps % SHARE == 0:
            self.lanes.share()
        for request in (m.request for m in matches if m.new):
            self._begin(request)
        if matches:
            self._choose(matches, drafts)
        self.counters.steps += 1
        self.counters.request_steps += len(matches)
        self._left = self._clock()
        self.counters.seconds += self._left - started - (self.counters.reading_seconds - reading)
        return drafts

    def save(self) -> None:
        """Keep what was learned, where a file is named. Raises FileError."""
        self._saved = time.monotonic()
        if self.config.state is not None:
            self.lanes.share()
            state.write(Path(self.config.state), self.policy, self.config.policy, self.pool, self.lanes.elder)

    def save_if_due(self) -> None:
        """``save`` every ``state_every`` seconds."""
        if time.monotonic() - self._saved >= self.config.state_every:
            self.save()

    def close(self) -> None:
        """The engine stops: its requests are over. Raises FileError."""
        for request in list(self._playing):
            self._end(request)
        if self.records is not None:
            self.records.close()
            self.records = None
        self.save()

    def _load(self) -> None:
        """Start from the state file, if there is one. Raises UsageError unless told to start fresh."""
        if self.config.state is None or not Path(self.config.state).exists() or self.config.fresh:
            return
        state.read(Path(self.config.state), self.policy, self.config.policy, self.pool)
        self.lanes.taught[:] = 1

    def _make_texts(self) -> Texts:
        """Drafters in kernels, where those are compiled and can stand for them."""
        full, censored = self._wants["feedback"] == "full", bool(self._wants["censored"])
        if FAST and possible(self._forms):
            warm()
            return FastTexts(self._forms, full, censored)
        inside = np.ones(len(self.pool.drafters), bool)
        made = partial(LiveRevealer, self.pool, inside, sampled=False, censored=censored)
        return SlowTexts(self._forms, made if full else None)

    # -- a request's life ---------------------------------------------------------------------------------------

    def _begin(self, request: Request) -> None:
        started = self._clock()
        tokens = request.text.tolist()
        record = Record(tokens) if self.records is not None else None
        text = self.texts.open(tokens, record)
        self._playing[request] = Playing(self.lanes.take(request.number), text, record)
        self.counters.requests += 1
        self.counters.read += len(tokens)
        self.counters.reading_seconds += self._clock() - started

    def _end(self, request: Request) -> None:
        playing = self._playing.pop(request)
        self.texts.close(playing.text)
        if self.records is not None and playing.record is not None:
            try:
                self.records.add(playing.record)
            except FileError as error:  # a full disk must not stop a server that is answering
                self.records, self.failed = None, error
        self.lanes.release(playing.lane)
        self.counters.dropped += bool(request.draft)

    def _time(self, matches: Sequence[Match], seconds: float) -> None:
        """Note what the engine's step took, if all that it did was to decode."""
        if self._pace is not None and all(m.ran and not m.padded for m in matches):
            checked = sum(1 + len(m.request.draft) for m in matches)
            self._pace.see(len(matches), checked, seconds, sum(len(m.tokens) for m in matches))

    # -- a round ------------------------------------------------------------------------------------------------

    def _learn(self, matches: Sequence[Match]) -> None:
        """Settle the rounds whose drafts were judged, take the tokens in, and tell the policy."""
        judged = [m for m in matches if m.ran]
        if judged:
            rounds = self._settle(judged)
            self.policy.update(rounds)
            self.lanes.taught[rounds.lane] += 1
            self.counters.add(rounds)
            if self._pace is not None:
                caps = _ints([self._playing[m.request].cap for m in judged])
                self._pace.judge(caps, rounds.drafted, rounds.accepted)
        playing = [self._playing[m.request] for m in matches]
        self.counters.dropped += sum(not m.ran and bool(m.request.draft) for m in matches)
        lanes, texts = [p.lane for p in playing], [p.text for p in playing]
        revealed = self.texts.commit(lanes, texts, [m.tokens for m in matches]) if playing else None
        if revealed is not None:
            self.policy.observe(revealed)

    def _settle(self, matches: Sequence[Match]) -> Rounds:
        playing = [self._playing[m.request] for m in matches]
        arm, lane = _ints([p.arm for p in playing]), _ints([p.lane for p in playing])
        cost = None if self._prices is None else self._prices.told(lane, arm)
        none = None if cost is None else np.zeros(len(arm))
        return settle(
            lane=lane,
            prompt=_ints([m.request.number for m in matches]),
            arm=arm,
            draft_length=np.minimum(self.pool.draft_length[arm], _ints([p.cap for p in playing])),
            position=_ints([p.position for p in playing]),
            remaining=_ints([p.remaining for p in playing]),
            proposed=_ints([_checked(m) for m in matches]),
            agreed=_ints([m.agreed for m in matches]),
            ends_in=np.full(len(matches), NO_END),
            catch_up=np.zeros(len(matches), np.int64),
            draft_seconds=none,
            verify_seconds=cost,
            catch_up_seconds=none,
        )

    def _context(self, matches: Sequence[Match]) -> Context:
        count, pool, reads = self.lanes.count, self.pool, self._wants["reads"]
        drafters = len(pool.drafters)
        playing = [self._playing[m.request] for m in matches]
        for match, p in zip(matches, playing, strict=True):
            length = len(match.request.text)
            p.position = length - match.request.prompt_length - 1
            p.remaining = max(self.max_length - length, 1)
        lanes = _ints([p.lane for p in playing])
        position, remaining = np.zeros((2, count), np.int64)
        position[lanes], remaining[lanes] = [p.position for p in playing], [p.remaining for p in playing]
        available = np.ones((count, len(pool)), bool)
        signals = tail = proposal = None
        asked = self.texts.ask([p.text for p in playing])
        if drafters:
            available[lanes] = pool.plain | asked.ready[:, pool.drafter_of]
        if "signals" in reads:
            signals = np.full((count, drafters, F), np.nan, np.float32)
            signals[lanes] = asked.signals
        if "tail" in reads:
            tail = np.full((count, 2), -1, np.int64)
            for match, p in zip(matches, playing, strict=True):
                last = match.request.text[-2:]
                tail[p.lane, 2 - len(last) :] = last
        if "proposal" in reads:
            proposal = np.full((count, drafters), -1, np.int64)
            proposal[lanes] = asked.first
        lag = np.zeros((count, drafters), np.int64) if "lag" in reads else None
        cost = None
        if self._prices is not None:
            cost = self._prices.tell(count, lanes, asked.signals[:, :, PROPOSAL])
            self.counters.price = self._prices.token
        return Context(position, remaining, available, signals, lag, cost, tail=tail, proposal=proposal)

    def _cap(self, requests: int) -> int:
        """Most draft tokens a request in the coming step."""
        if self._pace is None:
            return self._most
        return self._pace.cap(requests) if self._prices is None else self._most * self._pace.drafting(requests)

    def _choose(self, matches: Sequence[Match], drafts: list[list[int]]) -> None:
        """Have the policy choose, and draft. Equal texts get equal drafts, since nothing would tell them apart if the
        engine swapped their rows."""
        arms = self.policy.select(self._context(matches)).tolist()
        self.counters.cap = cap = self._cap(len(matches))
        twins: dict[tuple[int, bytes], list[tuple[Request, Playing]]] = {}
        longest, drafter_of, plain = self._longest, self._drafter_of, len(self.pool) - 1
        for match in matches:
            request = match.request
            playing = self._playing[request]
            alike = twins.setdefault(request.key, [])
            equal = (p.arm for r, p in alike if np.array_equal(r.text, request.text))
            playing.arm = next(equal, arms[playing.lane] if cap else plain)
            playing.cap = cap
            alike.append((request, playing))
            length = min(longest[playing.arm], cap, playing.remaining - 1)
            drafted = self.texts.draft(playing.text, drafter_of[playing.arm], length) if length > 0 else []
            request.draft, drafts[match.row] = drafted, list(drafted)


def _checked(match: Match) -> int:
    """Draft tokens that the target was asked to check: what the engine cut off shows where the next one was right."""
    kept, draft = match.agreed, match.request.draft
    cut = kept < len(draft) and match.tokens[kept] == draft[kept]
    return kept if cut else len(draft)


def _ints(values: Sequence[int]) -> Ints:
    return np.array(values, np.int64)
