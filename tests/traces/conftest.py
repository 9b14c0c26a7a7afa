"""Small traces that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metasd.traces import PromptRecord, Trace, TraceWriter, synthetic

ARRAYS = (
    "offsets", "ended", "prompt_lengths", "tokens", "proposed", "accepted", "accept", "overlap", "confidence",
    "draft_tokens", "signals", "margin", "prompt_tokens",
)  # fmt: skip


@pytest.fixture
def source() -> Trace:
    """What a recorder would have to write: 11 prompts with every optional column, texts of unequal length."""
    trace = synthetic("iid", prompts=11, length=9, arms=3, draft_length=4, seed=5, temperature=0.7)
    rng = np.random.default_rng(0)
    shape = (len(trace.tokens), 3, 4)
    trace.confidence = rng.random(shape).astype(np.float16)
    trace.draft_tokens = rng.integers(0, 1000, shape).astype(np.int32)
    trace.signals = rng.random((*shape[:2], 11)).astype(np.float16)
    trace.margin = rng.random(shape[0]).astype(np.float32)
    trace.prompt_lengths = np.arange(1, 12)
    trace.prompt_tokens = rng.integers(0, 1000, int(trace.prompt_lengths.sum())).astype(np.int32)
    trace.offsets = np.concatenate([[0], np.cumsum(np.arange(4, 15))])
    assert trace.offsets[-1] == len(trace.tokens)
    # Texts were recut, so what reached past an end must stay inside.
    left = np.repeat(trace.offsets[1:], trace.lengths) - np.arange(len(trace.tokens))
    trace.accepted = np.minimum(trace.accepted, left[:, None]).astype(np.uint8)
    return trace


def _records(trace: Trace) -> Iterator[PromptRecord]:
    """The prompts of ``trace`` as a recorder hands them over."""
    starts = np.concatenate([[0], np.cumsum(trace.prompt_lengths)])
    for p in range(len(trace)):
        at = slice(trace.offsets[p], trace.offsets[p + 1])
        rows: dict[str, Any] = {
            name: None if getattr(trace, name) is None else getattr(trace, name)[at]
            for name in ("accept", "overlap", "confidence", "draft_tokens", "signals", "margin")
        }
        prompt = None if trace.prompt_tokens is None else trace.prompt_tokens[starts[p] : starts[p + 1]]
        yield PromptRecord(
            trace.ids[p], trace.domains[p], prompt, trace.tokens[at], bool(trace.ended[p]),
            trace.proposed[at], trace.accepted[at], **rows,
        )  # fmt: skip


def _manifest(trace: Trace) -> dict[str, Any]:
    return {**trace.manifest, "draft_lengths": trace.draft_lengths}


@pytest.fixture
def records(source: Trace) -> list[PromptRecord]:
    return list(_records(source))


@pytest.fixture
def manifest(source: Trace) -> dict[str, Any]:
    return _manifest(source)


@pytest.fixture
def recorded(source: Trace) -> Callable[..., Path]:
    """A function that records ``source`` into a folder, stopping behind ``stop`` prompts."""

    def record(path: Path, stop: int | None = None, *, resume: bool = False, shard_prompts: int = 4) -> Path:
        writer = TraceWriter(path, _manifest(source), resume=resume, shard_prompts=shard_prompts)
        done = set(writer.done)
        for count, record in enumerate(_records(source)):
            if count == stop:
                writer.stop()
                return path
            if record.id not in done:
                writer.add(record)
        writer.close()
        return path

    return record


@pytest.fixture
def same() -> Callable[[Trace, Trace], None]:
    """A function that asserts that two traces hold the same arrays, bit for bit."""

    def check(a: Trace, b: Trace) -> None:
        assert list(a.ids) == list(b.ids)
        assert list(a.domains) == list(b.domains)
        for name in ARRAYS:
            left, right = getattr(a, name), getattr(b, name)
            assert (left is None) == (right is None), name
            if left is not None:
                np.testing.assert_array_equal(left, right, err_msg=name, strict=name not in ("offsets",))

    return check
