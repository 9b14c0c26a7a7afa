"""From an engine's step to a policy's round and back: recognise, settle, learn, choose, draft. Knows no engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metasd.core.errors import FileError, UsageError
from metasd.core.records import NO_END, Context, Ints, Rounds, settle
from metasd.core.reveal import LiveRevealer, gathered
from metasd.core.signals import F, rounded
from metasd.serve import state
from metasd.serve.config import Config, check_length
from metasd.serve.counters import Counters
from metasd.serve.lanes import Lanes
from metasd.serve.pace import Pace
from metasd.serve.records import Record, Records
from metasd.serve.requests import Match, Request, Requests
from metasd.serve.text import Text


@dataclass(slots=True)
class Playing:
    """A request's lane, its text, and the round under way: arm, cap on its draft, tokens committed and allowed."""

    lane: int
    text: Text
    request: Request
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
        self._forms, self.pool = config.make_pool(check_length(most))
        self.policy = config.make_policy()
        self._wants = self.policy.wants(overlap=False)
        unknown = self._wants["reads"] - {"signals", "tail", "proposal", "lag"}
        if unknown:
            raise UsageError(f"policy {config.policy!r} reads {', '.join(sorted(unknown))}, which no server tells yet")
        self.lanes = Lanes(self.policy, self.pool, config.reset, config.seed)
        self.counters = Counters(self.pool)
        self.requests = Requests(most, max_length)
        self._most = most
        self._pace = Pace(most) if config.goodput else None
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
        for match in matches:
            if match.new:
                self._begin(match.request)
        if matches:
            arms = self.policy.select(self._context(matches))
            cap = self._most if self._pace is None else self._pace.cap(len(matches))
            self.counters.cap = cap
            twins: dict[tuple[int, bytes], list[Playing]] = {}
            for match in matches:
                playing = self._playing[match.request]
                alike = twins.setdefault(match.request.key, [])
                own = int(arms[playing.lane]) if cap else len(self.pool) - 1  # plain decoding
                playing.arm, playing.cap = _arm(match.request, alike, own), cap
                alike.append(playing)
                drafts[match.row] = self._draft(match.request, playing)
        self.counters.steps += 1
        self.counters.request_steps += len(matches)
        self._left = self._clock()
        self.counters.seconds += self._left - started - (self.counters.reading_seconds - reading)
        return drafts

    def save(self) -> None:
        """Keep what was learned, where a file is named. Raises FileError."""
        self._saved = time.monotonic()
        if self.config.state is not None:
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

    # -- a request's life ---------------------------------------------------------------------------------------

    def _begin(self, request: Request) -> None:
        full = self._wants["feedback"] == "full"
        inside = np.ones(len(self.pool.drafters), bool)
        revealer = LiveRevealer(self.pool, inside, sampled=False, censored=self._wants["censored"]) if full else None
        started = self._clock()
        tokens = request.text.tolist()
        text = Text(self._forms, revealer, Record(tokens) if self.records is not None else None)
        text.begin(tokens)
        self._playing[request] = Playing(self.lanes.take(request.number), text, request)
        self.counters.requests += 1
        self.counters.read += len(tokens)
        self.counters.reading_seconds += self._clock() - started

    def _end(self, request: Request) -> None:
        playing = self._playing.pop(request)
        playing.text.finish()
        if self.records is not None and playing.text.record is not None:
            try:
                self.records.add(playing.text.record)
            except FileError as error:  # a full disk must not stop a server that is answering
                self.records, self.failed = None, error
        self.lanes.release(playing.lane)
        self.counters.dropped += bool(request.draft)

    def _time(self, matches: Sequence[Match], seconds: float) -> None:
        """Note what the engine's step took, if all that it did was to decode."""
        if self._pace is not None and all(m.ran and not m.padded for m in matches):
            self._pace.see(len(matches), sum(1 + len(m.request.draft) for m in matches), seconds)

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
        revealed = []
        for match in matches:
            playing = self._playing[match.request]
            playing.text.commit(match.tokens)
            self.counters.dropped += not match.ran and bool(match.request.draft)
            if playing.text.revealer is not None:
                revealed.append((playing.lane, playing.text.revealer))
        if revealed:
            self.policy.observe(gathered(revealed))

    def _settle(self, matches: Sequence[Match]) -> Rounds:
        playing = [self._playing[m.request] for m in matches]
        arm = _ints([p.arm for p in playing])
        return settle(
            lane=_ints([p.lane for p in playing]),
            prompt=_ints([m.request.number for m in matches]),
            arm=arm,
            draft_length=np.minimum(self.pool.draft_length[arm], _ints([p.cap for p in playing])),
            position=_ints([p.position for p in playing]),
            remaining=_ints([p.remaining for p in playing]),
            proposed=_ints([_checked(m) for m in matches]),
            agreed=_ints([m.agreed for m in matches]),
            ends_in=np.full(len(matches), NO_END),
            catch_up=np.zeros(len(matches), np.int64),
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
        if drafters:
            ready = np.array([p.text.ready() for p in playing], bool)
            available[lanes] = pool.plain | ready[:, pool.drafter_of]
        if "signals" in reads:
            signals = np.full((count, drafters, F), np.nan, np.float32)
            signals[lanes] = rounded(np.array([p.text.shown() for p in playing], np.float32).reshape(-1, drafters, F))
        if "tail" in reads:
            tail = np.full((count, 2), -1, np.int64)
            for match, p in zip(matches, playing, strict=True):
                last = match.request.text[-2:]
                tail[p.lane, 2 - len(last) :] = last
        if "proposal" in reads:
            proposal = np.full((count, drafters), -1, np.int64)
            proposal[lanes] = [p.text.first_tokens() for p in playing]
        lag = np.zeros((count, drafters), np.int64) if "lag" in reads else None
        return Context(position, remaining, available, signals=signals, lag=lag, tail=tail, proposal=proposal)

    def _draft(self, request: Request, playing: Playing) -> list[int]:
        length = min(int(self.pool.draft_length[playing.arm]), playing.cap, playing.remaining - 1)
        drafter = int(self.pool.drafter_of[playing.arm])
        request.draft = playing.text.draft(drafter, length) if length > 0 else []
        return list(request.draft)


def _arm(request: Request, alike: Sequence[Playing], own: int) -> int:
    """Equal texts get equal drafts: the engine may swap their rows, and nothing would tell them apart."""
    for other in alike:
        if np.array_equal(other.request.text, request.text):
            return other.arm
    return own


def _checked(match: Match) -> int:
    """Draft tokens that the target was asked to check: what the engine cut off shows where the next one was right."""
    kept, draft = match.agreed, match.request.draft
    cut = kept < len(draft) and match.tokens[kept] == draft[kept]
    return kept if cut else len(draft)


def _ints(values: Sequence[int]) -> Ints:
    return np.array(values, np.int64)
