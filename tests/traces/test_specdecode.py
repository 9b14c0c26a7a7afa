"""The specdecode-bench importer, on files of that form made here by an independent lookup."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metasd.core.errors import UsageError
from metasd.drafters.lookup import LookupDrafter
from metasd.traces import Trace, import_trace, open_trace, validate


def naive_lookup(context: list[int]) -> list[int]:
    """Longest suffix of 3 to 7 tokens that occurred before, its earliest occurrence, up to 20 tokens copied."""
    for n in range(7, 2, -1):
        suffix = context[-n:]
        for start in range(len(context) - n):
            if len(suffix) == n and context[start : start + n] == suffix:
                return context[start + n : start + n + 20]
    return []


def emitted_by(propose: Callable[[list[int]], list[int]], prompt: list[int], text: list[int]) -> list[int]:
    """Tokens a greedy step emits at every position, cut at the text's end."""
    out = []
    for t in range(len(text)):
        agreed = 0
        for mine, its in zip(propose(prompt + text[:t]), text[t:], strict=False):
            if mine != its:
                break
            agreed += 1
        out.append(min(agreed + 1, len(text) - t))
    return out


def request(seed: int, length: int, **extra: Any) -> dict[str, Any]:
    """A line: text that repeats itself, the lookup's column computed naively, EAGLE's drawn."""
    rng = np.random.default_rng(seed)
    prompt = rng.integers(0, 9, 25).tolist()
    text: list[int] = []
    while len(text) < length:
        source = [*prompt, *text]
        at = int(rng.integers(0, len(source)))
        text += [*source[at : at + int(rng.integers(1, 30))], int(rng.integers(0, 9))]
    text = text[:length]
    eagle = np.minimum(rng.geometric(0.4, length), 8)
    return {
        "id": str(seed),
        "prompt_token_ids": prompt,
        "generated_token_ids": text,
        "acc_ngram": {"acc_len": emitted_by(naive_lookup, prompt, text)},
        "acc_eagle": {"acc_len": eagle.tolist()},
    } | extra


def write(path: Path, lines: list[dict[str, Any]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def rows(trace: Trace, p: int) -> slice:
    return slice(int(trace.offsets[p]), int(trace.offsets[p + 1]))


def emitted(trace: Trace, p: int, d: int) -> list[int]:
    """What a step emits at every position of prompt p, as ``settle`` has it."""
    accepted = trace.accepted[rows(trace, p), d].astype(int)
    return np.minimum(accepted + 1, len(accepted) - np.arange(len(accepted))).tolist()


def test_columns_are_the_published_ones_and_proposals_the_naive_ones(tmp_path: Path) -> None:
    code = [request(seed, length) for seed, length in enumerate((120, 60, 7, 2, 1))]
    chat = [request(9, 80)]
    write(tmp_path / "in" / "code.jsonl", code)
    write(tmp_path / "in" / "chat.json", chat)
    (tmp_path / "in" / "README.md").write_text("not a log")
    made = import_trace("specdecode-bench", tmp_path / "in", tmp_path / "out")
    assert (made.prompts, made.rows, made.unaligned, made.warnings) == (6, 270, 0, [])
    validate(made.path)
    trace = open_trace(made.path)
    assert trace.exact
    assert not trace.sampled
    assert [d.name for d in trace.drafters] == ["lookup", "eagle"]
    assert list(trace.domains) == ["chat", *["code"] * 5]
    assert list(trace.draft_lengths) == [20, 20]
    longest = 0
    for p, line in enumerate(chat + code):
        text, prompt, at = line["generated_token_ids"], line["prompt_token_ids"], rows(trace, p)
        assert emitted(trace, p, 0) == line["acc_ngram"]["acc_len"]
        assert emitted(trace, p, 1) == np.minimum(line["acc_eagle"]["acc_len"], np.arange(len(text), 0, -1)).tolist()
        proposals = [naive_lookup(prompt + text[:t]) for t in range(len(text))]
        assert trace.proposed[at, 0].tolist() == [len(x) for x in proposals]
        for t, proposal in enumerate(proposals):
            assert trace.draft_tokens[at.start + t, 0, : len(proposal)].tolist() == proposal
        longest = max(longest, *map(len, proposals))
    assert longest == 20
    assert trace.accepted[:, 0].max() > 5


def test_signals_are_the_drafters_own(tmp_path: Path) -> None:
    line = request(1, 90)
    import_trace("specdecode-bench", write(tmp_path / "a.jsonl", [line]), tmp_path / "out")
    trace = open_trace(tmp_path / "out")
    drafter = LookupDrafter(draft_length=20, min_match=3, max_match=7, occurrence="earliest")
    drafter.begin(line["prompt_token_ids"])
    for t, token in enumerate(line["generated_token_ids"]):
        np.testing.assert_array_equal(trace.signals[t, 0].astype(np.float32), drafter.look().signals)
        drafter.extend([token])
    assert np.isnan(trace.signals[:, 1]).all()


def test_one_differing_position_is_counted_and_the_column_kept(tmp_path: Path) -> None:
    line = request(2, 100)
    at = next(t for t, n in enumerate(line["acc_ngram"]["acc_len"]) if n >= 3)
    line["acc_ngram"]["acc_len"][at] = 2
    line["acc_ngram"]["acc_len"][50 if at != 50 else 51] = 9
    made = import_trace("specdecode-bench", write(tmp_path / "a.jsonl", [line]), tmp_path / "out")
    assert made.unaligned == 0
    assert made.warnings == ["lookup recomputed differs from the published column at 2 of 100"]
    assert emitted(open_trace(made.path), 0, 0) == line["acc_ngram"]["acc_len"]
    validate(made.path)


def test_column_of_another_text_is_unaligned(tmp_path: Path) -> None:
    """By its length (EAGLE's, short and long) or because the recomputed lookup keeps differing."""
    lines = [request(seed, 40) for seed in range(5)]
    lines[1]["acc_eagle"]["acc_len"] = lines[1]["acc_eagle"]["acc_len"][:25]
    lines[2]["acc_eagle"]["acc_len"] += [4] * 30
    lines[3]["acc_ngram"]["acc_len"] = np.roll(lines[4]["acc_ngram"]["acc_len"], 7).tolist()
    made = import_trace("specdecode-bench", write(tmp_path / "a.jsonl", lines), tmp_path / "out")
    assert (made.prompts, made.unaligned) == (5, 3)
    assert "3 of 5 requests unaligned" in made.warnings[-1]
    assert list(open_trace(made.path).ids) == ["a/0", "a/4"]
    kept = open_trace(made.path, include_unaligned=True)
    assert kept.manifest["unaligned"] == ["a/1", "a/2", "a/3"]
    assert not kept.accepted[rows(kept, 1), 1][25:].any()
    validate(made.path)


def test_third_drafter_only_if_on_all_lines(tmp_path: Path) -> None:
    lines = [request(0, 20), request(1, 20)]
    lines[0]["acc_eagle_three"] = {"acc_len": [3] * 20}
    partly = import_trace("specdecode-bench", write(tmp_path / "a.jsonl", lines), tmp_path / "partly")
    assert "only 1 of 2" in partly.warnings[0]
    assert len(open_trace(partly.path).drafters) == 2
    lines[1]["acc_eagle_three"] = [27] * 20  # the simulator also takes a bare list
    made = import_trace("specdecode-bench", write(tmp_path / "a.jsonl", lines), tmp_path / "all")
    trace = open_trace(made.path)
    assert [d.name for d in trace.drafters] == ["lookup", "eagle", "eagle3"]
    assert list(trace.draft_lengths) == [20, 20, 20]
    assert emitted(trace, 1, 2) == list(range(20, 0, -1))
    validate(made.path)


def test_longer_drafts_than_the_limit_raise_it(tmp_path: Path) -> None:
    line = request(0, 60)
    line["acc_eagle"]["acc_len"][3] = 31
    made = import_trace("specdecode-bench", write(tmp_path / "a.jsonl", [line]), tmp_path / "out")
    assert list(open_trace(made.path).draft_lengths) == [20, 30]


def test_odd_requests(tmp_path: Path) -> None:
    """acc instead of acc_ngram, ids given twice, no text at all, blank lines."""
    old = request(0, 10)
    old["acc"] = old.pop("acc_ngram")
    empty = request(1, 5) | {"generated_token_ids": [], "acc_ngram": {"acc_len": []}, "acc_eagle": {"acc_len": []}}
    path = write(tmp_path / "a.jsonl", [old, empty, request(0, 12)])
    path.write_text(path.read_text() + "\n")
    made = import_trace("specdecode-bench", path, tmp_path / "out")
    assert made.warnings == ["1 requests without text left out"]
    assert list(open_trace(made.path).ids) == ["a/0", "a/0#3"]


def _without(key: str) -> str:
    return json.dumps({k: v for k, v in request(3, 10).items() if k != key})


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": 3, ', "Expecting"),
        ("[1, 2, 3]", "not a JSON object"),
        (_without("id"), "it has no id"),
        (_without("prompt_token_ids"), "no prompt_token_ids"),
        (_without("generated_token_ids"), "no generated_token_ids"),
        (_without("acc_ngram"), r"no acc\b"),
        (_without("acc_eagle"), "no acc_eagle"),
        (json.dumps(request(3, 10, acc_eagle={"acc": [1]})), "no acc_eagle.acc_len"),
        (json.dumps(request(3, 10, acc_eagle={"acc_len": [1, 0]})), "acc_len holds 0"),
        (json.dumps(request(3, 10, acc_eagle={"acc_len": [1, 2.5]})), "acc_len holds 2.5"),
        (json.dumps(request(3, 10, acc_eagle={"acc_len": "11"})), "acc_len is not a list"),
        (json.dumps(request(3, 10, generated_token_ids=[1, -4])), "generated_token_ids holds -4"),
        (json.dumps(request(3, 10, prompt_token_ids=[True])), "prompt_token_ids holds True"),
        (json.dumps(request(3, 10, prompt_token_ids=[2**31])), "prompt_token_ids holds 2147483648"),
    ],
)
def test_a_broken_line_is_named_and_nothing_is_written(tmp_path: Path, line: str, message: str) -> None:
    path = write(tmp_path / "in" / "a.jsonl", [request(0, 10), request(1, 10)])
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(UsageError, match=rf"a\.jsonl:3: .*{message}"):
        import_trace("specdecode-bench", path, tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["in"]


def test_bad_paths_and_settings(tmp_path: Path) -> None:
    path = write(tmp_path / "in" / "a.jsonl", [request(0, 10)])
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "x").write_text("mine")
    (tmp_path / "none").mkdir()
    (tmp_path / "empty.jsonl").write_text("")
    for form, source, out, given_settings, message in [
        ("csv", path, "o", {}, "unknown format 'csv'"),
        ("specdecode-bench", tmp_path / "nowhere", "o", {}, "no file"),
        ("specdecode-bench", tmp_path / "none", "o", {}, "no folder with"),
        ("specdecode-bench", tmp_path / "empty.jsonl", "o", {}, "is empty"),
        ("specdecode-bench", path, "used", {}, "used is not empty"),
        ("specdecode-bench", path, "o", {"draft_limit": 0}, "draft_limit 0"),
    ]:
        with pytest.raises(UsageError, match=message):
            import_trace(form, source, tmp_path / out, **given_settings)
    assert not (tmp_path / "o").exists()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 2**40) | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)


@settings(max_examples=60)
@given(st.data())
def test_any_value_in_place_of_another_is_refused_by_line_or_taken(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """A line with one value replaced by any JSON: a valid trace or one message naming the line, never a crash."""
    folder = tmp_path_factory.mktemp("fuzz")
    line: Any = request(0, 12, acc_eagle_three={"acc_len": [1] * 12})
    place, key = line, data.draw(st.sampled_from(sorted(line)))
    while isinstance(place[key], dict | list) and place[key] and data.draw(st.booleans()):
        place = place[key]
        key = data.draw(st.sampled_from(sorted(place) if isinstance(place, dict) else range(len(place))))
    place[key] = data.draw(JSON)
    path = write(folder / "a.jsonl", [line])
    try:
        made = import_trace("specdecode-bench", path, folder / "out")
    except UsageError as error:
        assert str(error).startswith(f"{path}:1: ") or "no request with a text" in str(error)  # noqa: PT017
        assert not (folder / "out").exists()
    else:
        validate(made.path)
