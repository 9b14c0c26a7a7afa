"""The recorder as a whole: what lands in the trace, and that interruptions change nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from metasd.core.errors import UsageError
from metasd.record import run as module
from metasd.record.reader import PackedReader
from metasd.runtime.sampling import Sampling
from metasd.traces import open_trace, texts

ARRAYS = (
    "offsets",
    "ended",
    "prompt_lengths",
    "tokens",
    "proposed",
    "accepted",
    "accept",
    "overlap",
    "confidence",
    "draft_tokens",
    "signals",
    "margin",
    "prompt_tokens",
)


def same(left, right):
    """Every array bit for bit."""
    assert list(left.ids) == list(right.ids)
    for name in ARRAYS:
        a, b = getattr(left, name), getattr(right, name)
        assert (a is None) == (b is None), name
        if a is not None:
            np.testing.assert_array_equal(a, b, err_msg=name)


def greedy(model, prompt, n, eos):
    answer = []
    while len(answer) < n and (not answer or answer[-1] != eos):
        answer.append(int(model(input_ids=torch.tensor([prompt + answer])).logits[0, -1].argmax()))
    return answer


def test_texts_are_the_targets_own_and_stop_at_their_end(world, tmp_path):
    free = world()
    prompt = free.target.encode(free.prompts[0].text)
    eos = greedy(free.target.model, prompt, 20, None)[7]  # a token that some text reaches
    here = world(eos=eos)
    summary = here.record(tmp_path / "t")
    trace = open_trace(tmp_path / "t")
    for p, item in enumerate(here.prompts):
        prompt = here.target.encode(item.text)
        answer = greedy(here.target.model, prompt, 20, eos)
        rows = slice(trace.offsets[p], trace.offsets[p + 1])
        assert trace.tokens[rows].tolist() == answer
        assert trace.ended[p] == (answer[-1] == eos)
        left = len(answer) - np.arange(len(answer))
        assert (trace.accepted[rows] <= left[:, None]).all()  # up to the end-of-text token, never beyond
    assert 0 < trace.ended.sum() < len(trace)
    ends = trace.offsets[1:][trace.ended] - 1
    assert (trace.accepted[ends] == 1).any()  # a draft of the end itself counts
    assert summary["mismatches"] == 0
    assert summary["rows"] == summary["tokens"] == len(trace.tokens)
    assert summary["prompts"] == 9
    assert summary["packed"] == {"target": True, "near": True, "skip": True}
    assert summary["ratio"] == pytest.approx(summary["seconds"] / summary["plain_seconds"])
    assert summary["seconds"] >= sum(summary["stages"].values()) > summary["plain_seconds"] > 0
    assert summary["bytes"] == sum(f.stat().st_size for f in (tmp_path / "t").rglob("*") if f.is_file())
    json.dumps(summary, allow_nan=False)


def test_drafts_are_what_each_drafter_drafts_live(world, tmp_path):
    """Every column against the drafter itself, asked at every position in turn."""
    here = world()
    here.record(tmp_path / "t")
    trace, fresh = open_trace(tmp_path / "t"), world()
    assert trace.draft_lengths.tolist() == [4, 4, 4, 3]
    assert trace.pool().names == [*here.pool.names, "plain"]
    agreed = np.zeros(4, int)
    for p, item in enumerate(fresh.prompts):
        prompt = fresh.target.encode(item.text)
        for drafter in fresh.drafters:
            drafter.begin(prompt)
        for row in range(trace.offsets[p], trace.offsets[p + 1]):
            told = trace.tokens[row : trace.offsets[p + 1]].tolist()
            for d, drafter in enumerate(fresh.drafters):
                look, draft = drafter.look(), drafter.draft(int(trace.draft_lengths[d]))
                m = len(draft.tokens)
                assert trace.proposed[row, d] == m
                assert look.available == (m > 0)
                np.testing.assert_array_equal(trace.signals[row, d], look.signals)
                assert trace.draft_tokens[row, d].tolist() == draft.tokens + [0] * (4 - m)
                np.testing.assert_allclose(trace.confidence[row, d, :m], draft.confidence, atol=1e-3)
                assert np.isnan(trace.confidence[row, d, m:].astype(float)).all()
                standing = next((i for i, (x, y) in enumerate(zip(draft.tokens, told, strict=False)) if x != y), None)
                assert trace.accepted[row, d] == (min(m, len(told)) if standing is None else standing)
                agreed[d] += trace.accepted[row, d]
                drafter.extend([int(trace.tokens[row])])
    assert (agreed > 5).all()


@pytest.mark.parametrize("how", [{"temperature": 0.9, "top_p": 0.95}, {"temperature": 1.2, "top_k": 6}])
def test_sampled_texts_carry_acceptance_probabilities(world, tmp_path, how):
    here = world(**how)
    summary = here.record(tmp_path / "t", seed=4, sampling=Sampling(**how))
    trace = open_trace(tmp_path / "t")
    assert trace.sampled
    assert summary["mismatches"] == 0
    one_hot, ratios = trace.accept[:, :2], trace.accept[:, 2:]
    depth = np.arange(4)
    np.testing.assert_array_equal(one_hot, depth < trace.accepted[:, :2, None])
    assert ((ratios >= 0) & (ratios <= 1)).all()
    assert len(np.unique(ratios)) > 50
    assert not trace.accepted[:, 2:].any()
    # the same token's ratio whatever the start; nothing beyond the end of the text, nor beyond a drafter's longest
    for p in range(len(trace)):
        rows = ratios[trace.offsets[p] : trace.offsets[p + 1]]
        np.testing.assert_array_equal(rows[1:, 0, :3], rows[:-1, 0, 1:])
        assert not rows[-1, :, 1:].any()
    assert not ratios[:, 1, 3:].any()
    other = here.record(tmp_path / "u", seed=5, sampling=Sampling(**how))
    assert other["tokens"] == summary["tokens"]
    assert open_trace(tmp_path / "u").tokens.tolist() != trace.tokens.tolist()


def test_costs_are_written_and_replayed_by(world, tmp_path):
    here = world()
    summary = here.record(tmp_path / "t", max_new_tokens=8)
    costs = open_trace(tmp_path / "t").costs
    assert costs.drafters == ("lookup", "table", "near", "skip")
    assert costs.widths.tolist() == [1, 2, 3, 4, 5]
    assert (costs.verify_seconds > 0).all()
    assert costs.measured["machine"]["threads"] == torch.get_num_threads()
    assert (costs.draft(np.arange(4), np.full(4, 3)) > 0).all()
    assert costs.catch_up(np.arange(4), np.full(4, 5)).tolist()[:2] == [0, 0]
    assert costs.catch_up(np.array([2]), np.array([5]))[0] > 0
    assert summary["costs_error"] == costs.error >= 0


def test_the_text_of_every_token_is_kept_and_made_again(world, tmp_path):
    here = world()
    here.record(tmp_path / "t")
    trace = open_trace(tmp_path / "t")
    tokenizer, found = texts.read(trace)
    assert tokenizer == {"name": here.target.name, "hash": here.target.tokenizer_hash}
    for p, name in enumerate(trace.ids):
        answer = trace.tokens[trace.offsets[p] : trace.offsets[p + 1]].tolist()
        assert "".join(found[name]) == here.target.tokenizer.decode(answer)
    (tmp_path / "t" / texts.TEXTS).unlink()
    world().record(tmp_path / "t", resume=True)
    assert texts.read(trace) == (tokenizer, found)


def test_an_interrupt_keeps_what_is_recorded_and_resumes(world, tmp_path, monkeypatch):
    whole = world()
    whole.record(tmp_path / "whole")
    original, calls = module.Recorder.record, []

    def interrupted(self, text, answer):
        calls.append(text[0])
        if len(calls) == 5:
            raise KeyboardInterrupt
        return original(self, text, answer)

    monkeypatch.setattr(module.Recorder, "record", interrupted)
    with pytest.raises(KeyboardInterrupt):
        world().record(tmp_path / "cut")
    monkeypatch.undo()
    assert list(open_trace(tmp_path / "cut").ids) == ["p0", "p1", "p2", "p3"]
    summary = world().record(tmp_path / "cut", resume=True)
    assert (summary["prompts"], summary["resumed"]) == (9, 4)
    same(open_trace(tmp_path / "cut"), open_trace(tmp_path / "whole"))
    again = world().record(tmp_path / "cut", resume=True)
    assert (again["resumed"], again["tokens"], again["ratio"]) == (9, 0, None)


def test_the_growing_table_remembers_the_texts_before(world, tmp_path):
    """What makes order and resuming matter: without the earlier texts its column differs."""
    world().record(tmp_path / "whole")
    alone = world()
    alone.prompts = alone.prompts[-1:]
    alone.record(tmp_path / "alone")
    whole, alone = open_trace(tmp_path / "whole"), open_trace(tmp_path / "alone")
    last = slice(whole.offsets[-2], whole.offsets[-1])
    np.testing.assert_array_equal(whole.draft_tokens[last, 0], alone.draft_tokens[:, 0])
    assert (whole.draft_tokens[last, 1] != alone.draft_tokens[:, 1]).any()


def test_refusals_name_the_value(world, tmp_path):
    here = world()
    with pytest.raises(UsageError, match="max_new_tokens 0"):
        here.record(tmp_path / "t", max_new_tokens=0)
    with pytest.raises(UsageError, match=r"'p0'.* at most 252 new tokens"):
        here.record(tmp_path / "t", max_new_tokens=253)
    here.record(tmp_path / "t")
    with pytest.raises(UsageError, match="max_new_tokens is 20 there and 19 here"):
        here.record(tmp_path / "t", resume=True, max_new_tokens=19)
    with pytest.raises(UsageError, match="--resume"):
        here.record(tmp_path / "t")
    here.prompts = []
    with pytest.raises(UsageError, match="no prompts"):
        here.record(tmp_path / "u")


def test_progress_lines_say_what_is_left(world, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("metasd.core.progress.EVERY", 0.0)
    world().record(tmp_path / "t", max_new_tokens=4)
    out, err = capsys.readouterr()
    assert err.splitlines()[0].startswith("recording (prompts): 1/9, ")
    assert err.splitlines()[-1] == "recording (prompts): 9/9, 0 s left"
    assert out == ""


def test_models_that_cannot_be_packed_are_recorded_position_by_position(world, tmp_path, capsys):
    world().record(tmp_path / "wide")
    here = world()
    forward = here.target.model.forward
    here.target.model.forward = lambda *args, **kwargs: forward(*args, **(kwargs | {"attention_mask": None}))
    summary = here.record(tmp_path / "slow")
    assert summary["packed"] == {"target": False, "near": True, "skip": True}
    assert "target attends to what it likes" in capsys.readouterr().err
    wide, slow = open_trace(tmp_path / "wide"), open_trace(tmp_path / "slow")
    for name in ("tokens", "proposed", "accepted", "draft_tokens"):
        np.testing.assert_array_equal(getattr(wide, name), getattr(slow, name))
    np.testing.assert_allclose(wide.overlap.astype(float), slow.overlap.astype(float), atol=1e-3)


def test_wide_and_narrow_passes_that_differ_are_counted(world, tmp_path, capsys, monkeypatch):
    """A wide pass that says something else at some positions: reported by prompt, and the text stays the plain one."""
    world().record(tmp_path / "right")
    original = PackedReader._pass

    def wrong(self, tokens, positions, mask, keep):
        logits = original(self, tokens, positions, mask, keep)
        if mask is None and len(tokens) == keep + 4 - 1:  # the prompts of 4 tokens, three of the nine
            logits = logits.clone()
            logits[2] = -logits[2]
        return logits

    monkeypatch.setattr(PackedReader, "_pass", wrong)
    summary = world().record(tmp_path / "wrong")
    assert summary["mismatched_prompts"] == {"p0": 1, "p3": 1, "p6": 1}
    assert summary["mismatches"] == 3
    assert "prompt 'p3': 1 of 20 tokens differ" in capsys.readouterr().err
    np.testing.assert_array_equal(open_trace(tmp_path / "wrong").tokens, open_trace(tmp_path / "right").tokens)
