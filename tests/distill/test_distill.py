"""Distilling: batched answers against the library's own greedy decoding, loops cut, the folder and its refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from hypothesis import given
from hypothesis import strategies as st

from metasd.core import noise
from metasd.core.errors import FileError, UsageError
from metasd.core.prompts import Prompt
from metasd.distill import answers as module
from metasd.distill.answers import batch_answers, loop_period
from metasd.distill.run import distill as make
from metasd.drafters import TableDrafter
from metasd.drafters.ngrams import NgramTable
from metasd.runtime.load import Target
from metasd.runtime.sampling import Sampling

VOCABULARY = 61


def distill(*arguments, **settings):
    """The tables of a pool."""
    return make(*arguments, **settings)["tables"]


class Letters:
    """A tokenizer of one token per character; the runtime asks no more of it here."""

    chat_template = eos_token_id = None

    def __call__(self, text: str):
        return type("Encoded", (), {"input_ids": [3 + ord(c) % 50 for c in text]})


@pytest.fixture(scope="module")
def target() -> Target:
    torch.manual_seed(5)
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, initializer_range=0.4, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    model = transformers.LlamaForCausalLM(config).eval()
    return Target(model, Letters(), "tiny", "r1", "hash", frozenset({7, 2}), 128)


def prompts(n: int = 6) -> list[Prompt]:
    texts = ["a", "some longer text", "b c", "the quick brown fox", "x" * 30, "hello"]
    return [Prompt(f"p{i}", "code" if i % 2 else "math", (texts[i],)) for i in range(n)]


def generated(target: Target, ids: list[int], limit: int) -> list[int]:
    out = target.model.generate(
        torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), do_sample=False,
        max_new_tokens=limit, eos_token_id=sorted(target.eos_ids), pad_token_id=0,
    )  # fmt: skip
    return out[0, len(ids) :].tolist()


def test_batched_answers_are_greedy(target):
    ids = [target.encode(p.text) for p in prompts()]
    told: list[int] = []
    answers = list(batch_answers(target, ids, 40, told.append))
    assert sorted(a.before for a in answers) == sorted(i[-4:] for i in ids)
    lengths = set()
    for answer in answers:
        own = generated(target, next(i for i in ids if i[-4:] == answer.before), 40)
        assert answer.tokens == own
        assert answer.stop == ("ended" if own[-1] in target.eos_ids else "limit")
        lengths.add(len(own))
    assert len(lengths) > 1  # some left the batch early
    assert sum(told) == sum(len(a.tokens) for a in answers)


def drawn(target: Target, ids: list[int], limit: int, temperature: float, seed: int) -> list[int]:
    """The answer by the running sum of each token's law, without a cache or a batch."""
    key, text = np.array([noise.key(seed, "answer", *ids)]), list(ids)
    while len(text) < len(ids) + limit and (len(text) == len(ids) or text[-1] not in target.eos_ids):
        with torch.inference_mode():
            law = torch.softmax(target.model(torch.tensor([text])).logits[0, -1].double() / temperature, -1)
        u = noise.uniform_at(key, np.array([len(text) - len(ids)]))[0]
        text.append(int((law.cumsum(-1) <= u).sum()))
    return text[len(ids) :]


def test_answers_are_drawn_from_the_target_s_law_whatever_the_batch(target):
    ids = [target.encode(p.text) for p in prompts()]
    told = []
    answers = batch_answers(target, ids, 30, told.append, sampling=Sampling(0.7), seed=3)
    found = {tuple(a.prompt): a.tokens for a in answers}
    assert found == {tuple(i): drawn(target, i, 30, 0.7, 3) for i in ids}
    assert found != {tuple(i): drawn(target, i, 30, 0.7, 4) for i in ids}


def test_a_pool_of_drawn_answers_is_another_pool(target, tmp_path):
    distill(target, prompts(), tmp_path / "pool", max_new_tokens=9, temperature=0.8, seed=1)
    with pytest.raises(UsageError, match="another configuration"):
        distill(target, prompts(), tmp_path / "pool", max_new_tokens=9)
    with pytest.raises(UsageError, match="another configuration"):
        distill(target, prompts(), tmp_path / "pool", max_new_tokens=9, temperature=0.8, seed=2)
    with pytest.raises(UsageError, match="temperature -1"):
        distill(target, prompts(), tmp_path / "new", temperature=-1.0)
    assert not (tmp_path / "new").exists()


@given(st.lists(st.integers(0, 2), max_size=20), st.lists(st.integers(0, 3), min_size=1, max_size=32))
def test_loops_are_found(start, turn):
    looped = start + (turn * 64)[:70]
    period = loop_period(looped)
    assert 1 <= period <= len(turn)
    assert looped[-64 + period :] == looped[-64:-period]
    assert loop_period([*looped[:-1], 9]) == 0 or period == 0
    assert loop_period(list(range(100))) == 0
    assert loop_period(looped[:63]) == 0


def test_a_looping_answer_keeps_one_turn(target, monkeypatch):
    answers = list(batch_answers(target, [target.encode("a")], 100, lambda n: None))
    monkeypatch.setattr(module, "loop_period", lambda tokens: 5 if len(tokens) == 70 else 0)
    target = Target(target.model, Letters(), "tiny", "r1", "hash", frozenset(), 128)
    cut = list(batch_answers(target, [target.encode("a")], 100, lambda n: None))
    assert cut[0].stop == "looped"
    assert len(cut[0].tokens) == 70 - 64 + 5
    shared = min(len(cut[0].tokens), len(answers[0].tokens))
    assert cut[0].tokens[:shared] == answers[0].tokens[:shared]


def test_folder(target, tmp_path, capsys):
    tables = distill(target, prompts(), tmp_path / "pool", max_new_tokens=20, batch=2)
    manifest = json.loads((tmp_path / "pool" / "manifest.json").read_text())
    assert manifest["complete"] is True
    assert manifest["tables"] == tables
    assert [row["domain"] for row in tables] == ["math", "code", "all"]
    for row in tables:
        path = tmp_path / "pool" / row["file"]
        assert row["bytes"] == path.stat().st_size
        assert row["answers"] == row["ended"] + row["limit"] + row["looped"] == (6 if row["domain"] == "all" else 3)
        TableDrafter(path=str(path)).require(["hash"], VOCABULARY)
    ids = [target.encode(p.text) for p in prompts() if p.domain == "code"]
    own = NgramTable.build(
        [i[-4:] + generated(target, i, 20) for i in sorted(ids, key=lambda i: len(i))], tokenizer="h", vocabulary=99
    )
    assert len(own) == tables[1]["entries"]
    assert "distill" in capsys.readouterr().err
    assert distill(target, prompts(), tmp_path / "pool", max_new_tokens=20, batch=2) == tables


def test_enough_is_enough(target, tmp_path):
    tables = distill(target, prompts(), tmp_path / "pool", tokens_per_domain=1, max_new_tokens=20, batch=1)
    assert [row["answers"] for row in tables] == [1, 1, 2]


def test_refusals(target, tmp_path):
    distill(target, prompts(2), tmp_path / "pool", max_new_tokens=4)
    with pytest.raises(UsageError, match="another configuration"):
        distill(target, prompts(3), tmp_path / "pool", max_new_tokens=4)
    (tmp_path / "pool" / "manifest.json").write_text("[]")
    with pytest.raises(UsageError, match="another configuration"):
        distill(target, prompts(2), tmp_path / "pool", max_new_tokens=4)
    (tmp_path / "pool" / "manifest.json").unlink()
    with pytest.raises(UsageError, match=r"without a manifest\.json"):
        distill(target, prompts(2), tmp_path / "pool", max_new_tokens=4)
    with pytest.raises(UsageError, match="batch 0"):
        distill(target, prompts(2), tmp_path / "b", batch=0)
    with pytest.raises(UsageError, match="p1"):
        distill(target, prompts(2), tmp_path / "b", max_new_tokens=120)
    with pytest.raises(UsageError, match="no prompts"):
        distill(target, [], tmp_path / "b")
    with pytest.raises(UsageError, match="file names"):
        distill(target, [Prompt("a", "x/y", ("t",)), Prompt("b", "x y", ("t",))], tmp_path / "b")
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError, match="cannot be written"):
        distill(target, prompts(2), tmp_path / "file" / "pool", max_new_tokens=4)
    assert not (tmp_path / "b").exists()


@pytest.mark.parametrize(
    ("domains", "clash"),
    [
        (["Math", "math"], True),
        (["ALL"], True),
        (["...", "///", "-"], False),
        (["d" * 300 + "1", "d" * 300 + "2"], False),
        (["con", "nul.x", "\u5b57" * 90], False),
    ],
)
def test_names_of_tables(target, tmp_path, domains, clash):
    asked = [Prompt(str(i), domain, ("w2 w3",)) for i, domain in enumerate(domains)]
    if clash:
        with pytest.raises(UsageError, match="do not give different file names"):
            distill(target, asked, tmp_path / "pool", max_new_tokens=2)
        assert not (tmp_path / "pool").exists()
        return
    tables = distill(target, asked, tmp_path / "pool", max_new_tokens=2)
    files = [t["file"] for t in tables]
    assert len({f.lower() for f in files}) == len(domains) + 1
    assert all(not f.startswith(".") and len(f.encode()) <= 255 for f in files)
    assert not {"con.safetensors", "nul.x.safetensors"} & set(files)
