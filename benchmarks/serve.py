"""What the serving adapter costs: microseconds a request and step, at several batch sizes, on a simulated engine.

Run it as ``python benchmarks/serve.py [--profile] [--pool SPEC ...] [--policy SPEC]``. Texts of 300 + 200 tokens repeat
themselves as answers do; the engine judges each draft against a fixed text, so nothing but the adapter is timed, in
seconds of its thread. What it takes to read a prompt stands apart, per token.

``--clock START SLOPE JUMP`` gives the engine a clock instead: a pass takes START seconds, SLOPE for each of its tokens,
JUMP more if it checks any draft, and up to a tenth of noise. Then tokens a second stand beside those of plain decoding.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import random
import sys
import time
from statistics import median

import numpy as np

from metasd.serve.adapter import Adapter
from metasd.serve.config import Config

PROMPT, ANSWER, MOST, VOCABULARY = 300, 200, 4, 49_000
POOL = ["lookup", "suffix", "table:path=code", "table:path=chat"]


def text(draw: random.Random) -> list[int]:
    """Tokens of which about half repeat an earlier stretch."""
    made = [draw.randrange(VOCABULARY) for _ in range(20)]
    while len(made) < PROMPT + ANSWER:
        if draw.random() < 0.4:
            at, length = draw.randrange(len(made)), draw.randint(3, 20)
            made += made[at : at + length]
        else:
            made += [draw.randrange(VOCABULARY) if draw.random() < 0.5 else draw.randrange(50) for _ in range(6)]
    return made[: PROMPT + ANSWER]


class Clock:
    """Seconds of passes that nobody makes."""

    def __init__(self, start: float, slope: float, jump: float) -> None:
        self._line, self._noise, self.now = (start, slope, jump), random.Random(1), 0.0

    def __call__(self) -> float:
        return self.now

    def take(self, requests: int, checked: int) -> None:
        start, slope, jump = self._line
        self.now += (start + slope * checked + jump * (checked > requests)) * self._noise.uniform(0.95, 1.1)


def serve(rows: int, pool: list[str], policy: str, waves: int = 2, clock: Clock | None = None) -> Adapter:
    """Keep ``rows`` requests busy until ``waves`` of them have passed; drafts are weighed against a ``clock``."""
    config = Config(pool=tuple(pool), policy=policy, goodput=clock is not None)
    made = Adapter(config, most=MOST, max_length=4096, clock=clock or time.thread_time)
    draw = random.Random(0)
    texts = np.zeros((rows, PROMPT + ANSWER + MOST + 2), np.int32)
    running: list[tuple[list[int], int]] = [(text(draw), PROMPT - draw.randrange(100)) for _ in range(rows)]
    drafts: list[list[int]] = [[] for _ in range(rows)]
    coming, checked = rows * (waves - 1), 0
    while any(at < len(whole) for whole, at in running):
        sampled, lengths = [], np.zeros(rows, np.int32)
        for row, (whole, at) in enumerate(running):
            if at >= len(whole) and coming:
                coming -= 1
                whole, at, drafts[row] = text(draw), PROMPT, []
            agreed = 0
            while agreed < len(drafts[row]) and whole[at : at + 1] == [drafts[row][agreed]]:
                agreed, at = agreed + 1, at + 1
            new = whole[at - agreed : at + 1]
            at = min(at + 1, len(whole))
            running[row] = (whole, at)
            texts[row, :at], lengths[row] = whole[:at], at
            sampled.append(new)
        if clock is not None:
            clock.take(rows, rows + checked)
        checked = sum(map(len, drafts := made.propose(sampled, lengths, texts)))
    return made


def timed(rows: int, given: argparse.Namespace) -> None:
    """Print tokens a second of the policy and of plain decoding, on the clock."""
    made = {}
    for policy in ("fixed:arm=plain", given.policy):
        clock = Clock(*given.clock)
        counters = serve(rows, given.pool, policy, 3, clock).counters
        made[policy] = counters.emitted / clock.now
    per_round = counters.to_json()["tokens_per_round"]
    gain = made[given.policy] / made["fixed:arm=plain"]
    line = f"{rows:3} requests: {made[given.policy]:6.1f} tokens/s, {gain:.3f} x plain"
    sys.stdout.write(f"{line}, {per_round:.2f} tokens a round\n")


def main() -> None:
    """Print one line a batch size."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--pool", nargs="+", default=POOL)
    asked.add_argument("--policy", default="default")
    asked.add_argument("--rows", nargs="+", type=int, default=[1, 8, 32, 64])
    asked.add_argument("--repeats", type=int, default=3)
    asked.add_argument("--profile", action="store_true")
    asked.add_argument("--clock", nargs=3, type=float, metavar=("START", "SLOPE", "JUMP"))
    given = asked.parse_args()
    sys.stdout.write(f"pool {', '.join(given.pool)}; policy {given.policy}; {MOST} draft tokens\n")
    for rows in given.rows:
        if given.profile:
            with cProfile.Profile() as profile:
                serve(rows, given.pool, given.policy)
            pstats.Stats(profile).sort_stats("tottime").print_stats(25)
            continue
        if given.clock:
            timed(rows, given)
            continue
        seen = [serve(rows, given.pool, given.policy).counters.to_json() for _ in range(given.repeats)]
        own = median(s["adapter_microseconds"] for s in seen)
        reading = median(s["reading_microseconds"] for s in seen)
        per_round = seen[0]["tokens_per_round"]
        line = f"{rows:3} requests: {own:5.0f} us a request and step at {per_round:.2f} tokens a round"
        sys.stdout.write(f"{line}, {reading:.1f} us a prompt token\n")


if __name__ == "__main__":
    main()
