"""Every law that validate states is one it can see broken."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from metasd.core.errors import TraceError
from metasd.traces import Trace, describe, save_trace, synthetic, validate
from metasd.traces import format as fmt


@pytest.fixture
def trace() -> Trace:
    """A trace at temperature 0 whose chains are consistent with its lengths."""
    made = synthetic("iid", prompts=4, length=10, arms=2, draft_length=3, seed=2)
    rows, n = np.arange(40), 40
    chains = np.full((n, 2, 3), -1, np.int32)
    for depth in range(3):
        inside = depth < made.accepted
        follows = made.tokens[np.minimum(rows + depth, n - 1)]
        chains[:, :, depth] = np.where(inside, follows[:, None], -1)
    made.draft_tokens = chains
    return made


def test_facts_of_a_valid_trace(trace: Trace, tmp_path: Path) -> None:
    facts = validate(save_trace(trace, tmp_path / "t"))
    assert "4 prompts, 40 positions, 2 drafters" in facts[2]
    counted = [int(n) for n in re.findall(r"(\d+) (?:rejected|draft limit|text ended|proposal ended)", facts[5])]
    assert sum(counted) == 80
    rejected = int(((trace.accepted < 3) & (trace.accepted < left(trace)[:, None])).sum())
    assert f"{rejected} rejected" in facts[5]


def left(trace: Trace) -> np.ndarray:
    return np.repeat(trace.offsets[1:], trace.lengths) - np.arange(len(trace.tokens))


def _too_long(trace: Trace) -> None:
    trace.proposed[3, 1] = 4


def _accepts_more_than_proposed(trace: Trace) -> None:
    trace.proposed[4, 0], trace.accepted[4, 0] = 1, 2


def _beyond_the_text(trace: Trace) -> None:
    trace.accepted[19, 0] = 2


def _overlap_above_one(trace: Trace) -> None:
    trace.overlap[5, 0, 0] = 1.5


def _overlap_negative(trace: Trace) -> None:
    trace.overlap[39, 1, 2] = -0.1


def _accept_is_nan(trace: Trace) -> None:
    trace.draft_tokens = None
    trace.accept = np.full((40, 2, 3), 0.5, np.float16)
    trace.accept[7, 0, 0] = np.nan


def _chain_disagrees(trace: Trace) -> None:
    row = int(np.flatnonzero(trace.accepted[:, 0] > 0)[0])
    trace.draft_tokens[row, 0, 0] += 1


def _margin_infinite(trace: Trace) -> None:
    trace.margin = np.full(40, np.inf, np.float32)


@pytest.mark.parametrize(
    ("damage", "law"),
    [
        (_too_long, "proposed <= draft length"),
        (_accepts_more_than_proposed, "accepted <= proposed"),
        (_beyond_the_text, "accepted within the text"),
        (_overlap_above_one, r"overlap within \[0, 1\]"),
        (_overlap_negative, r"overlap within \[0, 1\]"),
        (_accept_is_nan, r"accept within \[0, 1\]"),
        (_chain_disagrees, "agreement of draft and text"),
        (_margin_infinite, "margin finite"),
    ],
)
def test_each_law_is_seen_broken(trace: Trace, tmp_path: Path, damage: Callable[[Trace], None], law: str) -> None:
    damage(trace)
    path = save_trace(trace, tmp_path / "t")
    with pytest.raises(TraceError, match=rf"000000\.safetensors: .*{law}"):
        validate(path)


def test_journal_and_manifest_must_agree(trace: Trace, tmp_path: Path) -> None:
    path = save_trace(trace, tmp_path / "t")
    (path / fmt.JOURNAL).write_bytes(b"")
    with pytest.raises(TraceError, match=r"journal\.jsonl: names other shards"):
        validate(path)


def test_describe(trace: Trace, tmp_path: Path) -> None:
    trace.proposed[:20, 1] = trace.accepted[:20, 1] = 0
    trace.draft_tokens = None
    facts = describe(save_trace(trace, tmp_path / "t"))
    assert (facts["prompts"], facts["rows"], facts["arms"]) == (4, 40, ["arm0@3", "arm1@3", "plain"])
    first, second = facts["drafters"]
    assert first["accepted"] == pytest.approx(trace.accepted[:, 0].mean())
    assert second["coverage"] == 0.5
    assert second["accepted"] == pytest.approx(trace.accepted[20:, 1].mean())
    assert facts["domains"] == {"iid": {"prompts": 4, "rows": 40}}


def test_describe_expects_sampled_lengths(tmp_path: Path) -> None:
    trace = synthetic("iid", prompts=3, length=5, arms=2, draft_length=3, temperature=1.0)
    facts = describe(save_trace(trace, tmp_path / "t"))
    expected = np.cumprod(trace.accept.astype(float), axis=2).sum(axis=2).mean(axis=0)
    assert [d["accepted"] for d in facts["drafters"]] == pytest.approx(expected)
