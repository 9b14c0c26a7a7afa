"""Many requests at a given concurrency, and what they say together.

Time to the first token, per output token and of a request are defined as by ``vllm bench serve``: per output token
leaves the first one out.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any

import numpy as np

from metasd.core.prompts import Prompt
from metasd.serve.bench.client import Answer, Ask, Server, ServerError
from metasd.serve.bench.metrics import between, speculation

QUANTILES = (50, 90, 99)
TIMES = ("first_token_seconds", "token_seconds", "request_seconds")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Level:
    """One server at one concurrency: answers in the order they came, failures by their words, wall seconds."""

    answers: list[Answer]
    failures: Counter[str]
    seconds: float


def drive(
    server: Server,
    ask: Ask,
    prompts: Sequence[Prompt],
    concurrency: int,
    advance: Callable[[], object] = lambda: None,
) -> Level:
    """Ask for every prompt, in order, ``concurrency`` of them at a time. ``advance`` is called after each."""
    answers: list[Answer] = []
    failures: Counter[str] = Counter()
    began = time.perf_counter()
    pool = ThreadPoolExecutor(concurrency)
    try:
        asked = [pool.submit(server.answer, *ask.body(p.messages(()), p.stop)) for p in prompts]
        for one in as_completed(asked):
            try:
                answers.append(one.result())
            except ServerError as error:
                failures[str(error)] += 1
            advance()
    except BaseException:  # an interrupt does not wait for the answers
        pool.shutdown(wait=False, cancel_futures=True)
        server.drop()
        raise
    pool.shutdown()
    return Level(answers, failures, time.perf_counter() - began)


def measure(
    server: Server,
    ask: Ask,
    prompts: Sequence[Prompt],
    concurrency: int,
    advance: Callable[[], object] = lambda: None,
) -> tuple[Row, list[str]]:
    """The result row of one server at one concurrency, and what its user must know of it, a line each."""
    before = speculation(server.metrics())
    level = drive(server, ask, prompts, concurrency, advance)
    spent = between(before, speculation(server.metrics()))
    remarks = [
        f"server {server.url}, concurrency {concurrency}: {n} of {len(prompts)} requests failed: {said}"
        for said, n in level.failures.items()
    ]
    if any(answer.tokens is None for answer in level.answers):
        remarks.append(
            f"server {server.url} sends no usage with its stream, so its tokens, and all that is counted by them, are "
            "unknown; use a server that heeds stream_options"
        )
    row: Row = {"server": server.url, "model": ask.model, "concurrency": concurrency}
    row |= _counted(level)
    row["acceptance"] = None if spent is None else spent.acceptance
    row["tokens_per_draft"] = None if spent is None else spent.tokens_per_draft
    row["drafted"] = None if spent is None else spent.drafted
    return row, remarks


def _counted(level: Level) -> Row:
    """Counts, rates and quantiles of the answers; None for what is unknown."""
    answers = level.answers
    counted = [answer.tokens for answer in answers if answer.tokens is not None]
    tokens = sum(counted) if len(counted) == len(answers) and answers else None
    made: Row = {"requests": len(answers), "failed": level.failures.total(), "seconds": level.seconds}
    made |= {"tokens": tokens, "tokens_per_second": None if tokens is None else tokens / level.seconds}
    made["requests_per_second"] = len(answers) / level.seconds
    times: list[list[float | None]] = [
        [answer.first for answer in answers],
        [answer.per_token for answer in answers],
        [answer.seconds for answer in answers],
    ]
    for name, values in zip(TIMES, times, strict=True):
        known = [value for value in values if value is not None]
        made[f"{name}_mean"] = float(np.mean(known)) if known else None
        for q in QUANTILES:
            made[f"{name}_p{q}"] = float(np.percentile(known, q)) if known else None
    return made
