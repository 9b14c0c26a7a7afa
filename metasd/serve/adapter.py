"""From an engine's step to a policy's round and back: recognise, settle, learn, choose, draft. Knows no engine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from metasd.core.errors import UsageError
from metasd.core.records import NO_END, Context, Ints, Rounds, settle
from metasd.core.reveal import LiveRevealer, joined
from metasd.core.signals import F
from metasd.serve import state
from metasd.serve.config import Config, check_length
from metasd.serve.counters import Counters
from metasd.serve.lanes import Lanes
from metasd.serve.requests import Match, Request, Requests
from metasd.serve.text import Text


@dataclass(slots=True)
class Playing:
    """A request's lane, its text, and the round under way: arm, draft, tokens committed and allowed before it."""

    lane: int
    text: Text
    arm: int = -1
    position: int = 0
    remaining: int = 1


class Adapter:
    """See the module docstring.

    Positions count tokens behind the first one, which the engine makes while it reads the prompt and no draft can
    reach: prompt and first token are what a text begins with.

    Args:
        most: draft tokens a round that the engine checks at most (``num_speculative_tokens``).
        max_length: tokens of a text, prompt included.

    Raises UsageError for a configuration that cannot work.
    """

    def __init__(self, config: Config, *, most: int, max_length: int) -> None:
        self.config, self.max_length = config, max_length
        self._forms, self.pool = config.make_pool(check_length(most))
        self.policy = config.make_policy()
        self._wants = self.policy.wants(overlap=False)
        unknown = self._wants["reads"] - {"signals", "tail", "proposal", "lag"}
        if unknown:
            raise UsageError(f"policy {config.policy!r} reads {', '.join(sorted(unknown))}, which no server tells yet")
        self.lanes = Lanes(self.policy, self.pool, config.reset, config.seed)
        self.counters = Counters(self.pool)
        self.requests = Requests(most, max_length)
        self._playing: dict[Request, Playing] = {}
        self._load()
        self._saved = time.monotonic()

    def propose(
        self, sampled: Sequence[Sequence[int]], lengths: NDArray[np.int32], texts: NDArray[np.int32]
    ) -> list[list[int]]:
        """Drafts by row, from what the engine's last step gave each (``Requests.recognise`` says how)."""
        started = time.perf_counter()
        drafts: list[list[int]] = [[] for _ in sampled]
        matches = self.requests.recognise(sampled, lengths, texts)
        self.counters.padded += sum(m.padded for m in matches)
        self._learn([m for m in matches if not m.new])
        for request in self.requests.expired():
            self._end(request)
        for match in matches:
            if match.new:
                self._begin(match.request)
        if matches:
            arms = self.policy.select(self._context(matches))
            twins: dict[bytes, int] = {}
            for match in matches:
                # Equal texts get equal drafts: the engine may swap their rows, and nothing would tell them apart.
                own = int(arms[self._playing[match.request].lane])
                arm = twins.setdefault(match.request.text.tobytes(), own)
                drafts[match.row] = self._draft(match.request, arm)
        self.counters.steps += 1
        self.counters.request_steps += len(matches)
        self.counters.seconds += time.perf_counter() - started
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
        text = Text(self._forms, revealer)
        text.begin(request.text.tolist())
        self._playing[request] = Playing(self.lanes.take(request.number), text)
        self.counters.requests += 1

    def _end(self, request: Request) -> None:
        playing = self._playing.pop(request)
        playing.text.finish()
        self.lanes.release(playing.lane)
        self.counters.dropped += bool(request.draft)

    # -- a round ------------------------------------------------------------------------------------------------

    def _learn(self, matches: Sequence[Match]) -> None:
        """Settle the rounds whose drafts were judged, take the tokens in, and tell the policy."""
        judged = [m for m in matches if m.ran]
        if judged:
            rounds = self._settle(judged)
            self.policy.update(rounds)
            self.lanes.taught[rounds.lane] += 1
            self.counters.add(rounds)
        revealed = []
        for match in matches:
            playing = self._playing[match.request]
            playing.text.commit(match.tokens)
            self.counters.dropped += not match.ran and bool(match.request.draft)
            if playing.text.revealer is not None:
                revealed.append(playing.text.revealer.reveal(playing.lane))
        if revealed:
            self.policy.observe(joined(revealed))

    def _settle(self, matches: Sequence[Match]) -> Rounds:
        playing = [self._playing[m.request] for m in matches]
        arm = _ints([p.arm for p in playing])
        return settle(
            lane=_ints([p.lane for p in playing]),
            prompt=_ints([m.request.number for m in matches]),
            arm=arm,
            draft_length=self.pool.draft_length[arm],
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
        position, remaining = np.zeros((2, count), np.int64)
        available = np.ones((count, len(pool)), bool)
        signals = np.full((count, drafters, F), np.nan, np.float32)
        tail, proposal = np.full((count, 2), -1, np.int64), np.full((count, drafters), -1, np.int64)
        for match in matches:
            playing, request = self._playing[match.request], match.request
            lane, length = playing.lane, len(request.text)
            playing.position = position[lane] = length - request.prompt_length - 1
            playing.remaining = remaining[lane] = max(self.max_length - length, 1)
            available[lane] = pool.plain
            if drafters:
                available[lane] |= playing.text.available()[pool.drafter_of]
                signals[lane] = playing.text.signals()
            if "proposal" in reads:
                proposal[lane] = playing.text.first_tokens()
            tail[lane, -min(length, 2) :] = request.text[-2:]
        return Context(
            position,
            remaining,
            available,
            signals=signals if "signals" in reads else None,
            lag=np.zeros((count, drafters), np.int64) if "lag" in reads else None,
            tail=tail if "tail" in reads else None,
            proposal=proposal if "proposal" in reads else None,
        )

    def _draft(self, request: Request, arm: int) -> list[int]:
        playing = self._playing[request]
        length = min(int(self.pool.draft_length[arm]), playing.remaining - 1)
        drafter = int(self.pool.drafter_of[arm])
        playing.arm = arm
        request.draft = playing.text.drafters[drafter].draft(length).tokens if length > 0 else []
        return list(request.draft)


def _checked(match: Match) -> int:
    """Draft tokens that the target was asked to check: what the engine cut off shows where the next one was right."""
    kept, draft = match.agreed, match.request.draft
    cut = kept < len(draft) and match.tokens[kept] == draft[kept]
    return kept if cut else len(draft)


def _ints(values: Sequence[int]) -> Ints:
    return np.array(values, np.int64)
