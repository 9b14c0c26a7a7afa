"""Prompt files: both formats, and every way a line can be wrong."""

from __future__ import annotations

import io
import json

import pytest

from metasd.core.errors import UsageError
from metasd.core.prompts import Prompt, bundled, load_prompts, prompts_hash

GOOD = '{"prompt": "Hi", "domain": "chat", "id": "a"}'


def write(tmp_path, *lines: str):
    path = tmp_path / "p.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_own_format(tmp_path):
    path = write(tmp_path, GOOD, "", '{"prompt": "Grüße\\u2028"}')
    assert load_prompts(path) == [Prompt("a", "chat", ("Hi",)), Prompt("line-3", "default", ("Grüße\u2028",))]


def test_spec_bench_format(tmp_path):
    path = write(tmp_path, '{"question_id": 81, "category": "writing", "turns": ["One", "Two"]}')
    assert load_prompts(path) == [Prompt("81", "writing", ("One",))]
    assert load_prompts(path, turns="all")[0].turns == ("One", "Two")
    assert load_prompts(path)[0].text == "One"


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "not JSON"),
        ("[1]", "list"),
        ('{"id": "x"}', "prompt"),
        ('{"prompt": "a", "turns": ["b"]}', "prompt"),
        ('{"prompt": ""}', "prompt"),
        ('{"prompt": 3}', "prompt"),
        ('{"turns": []}', "turns"),
        ('{"turns": "text"}', "turns"),
        ('{"turns": ["a", 1]}', "turns"),
        ('{"prompt": "a", "id": ["x"]}', "id"),
        ('{"prompt": "a", "id": true}', "id"),
        ('{"prompt": "a", "domain": ""}', "domain"),
        ('{"prompt": "a", "domain": "all"}', "all"),
        ('{"prompt": "a", "domian": "x"}', "'domian'; did you mean domain?"),
        ('{"prompt": "a", "max_tokens": 4}', "'max_tokens'"),
        ('{"prompt": "a", "system": 4}', "system"),
        ('{"prompt": "a", "stop": [""]}', "stop"),
        ('{"prompt": "a", "stop": 4}', "stop"),
        ('{"prompt": "a", "messages": [{"role": "user", "content": "x"}]}', "only one"),
        ('{"messages": []}', "messages"),
        ('{"messages": [{"role": "user"}]}', "message 1"),
        ('{"messages": [{"role": "user", "content": "a", "name": "x"}]}', "message 1"),
        ('{"messages": [{"role": "assistant", "content": "a"}]}', "'assistant'"),
        ('{"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}', "message 2"),
        ('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}', "the user's"),
        ('{"messages": [{"role": "user", "content": [{"type": "image"}]}]}', "message 1"),
        (
            '{"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": "b"}], "system": "c"}',
            "twice",
        ),
        (GOOD, "'a'"),
    ],
)
def test_wrong_line_is_named(tmp_path, line, says):
    with pytest.raises(UsageError) as caught:
        load_prompts(write(tmp_path, GOOD, line))
    message = str(caught.value)
    assert "line 2" in message
    assert says in message
    assert "\n" not in message


def test_a_conversation_a_system_text_and_stops(tmp_path):
    talk = [("user", "Hi"), ("assistant", "Hello!"), ("user", "Bye")]
    messages = [{"role": role, "content": text} for role, text in talk]
    messages[-1]["content"] = [{"type": "text", "text": "By"}, {"type": "text", "text": "e"}]
    line = json.dumps({"messages": messages, "system": "Be kind.", "stop": "\n\n"})
    (prompt,) = load_prompts(write(tmp_path, line))
    assert prompt.stop == ("\n\n",)
    assert [(m["role"], m["content"]) for m in prompt.messages()] == [("system", "Be kind."), *talk]
    own = json.dumps({"messages": [{"role": "system", "content": "Be kind."}, *messages], "stop": ["\n\n"]})
    assert load_prompts(write(tmp_path, own)) == [prompt]


def test_the_conversation_grows_by_the_answers():
    prompt = Prompt("a", "d", ("x", "y", "z"), before=(("system", "s"),))
    said = [[m["content"] for m in prompt.messages(answers)] for answers in ([], ["1"], ["1", "2"])]
    assert said == [["s", "x"], ["s", "x", "1", "y"], ["s", "x", "1", "y", "2", "z"]]


def test_a_text_file_is_one_prompt(tmp_path):
    path = tmp_path / "question.txt"
    path.write_text("One.\n\n  Two.\n")
    assert load_prompts(path) == [Prompt("question", "default", ("One.\n\n  Two.",))]
    path.write_text("\n")
    with pytest.raises(UsageError, match="no prompt"):
        load_prompts(path)


def test_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(GOOD.encode() + b"\n{}\n")))
    with pytest.raises(UsageError, match="standard input line 2"):
        load_prompts("-")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(GOOD.encode())))
    assert load_prompts("-") == [Prompt("a", "chat", ("Hi",))]


def test_file_without_prompts(tmp_path):
    with pytest.raises(UsageError, match="no prompts"):
        load_prompts(write(tmp_path, "", "  "))
    with pytest.raises(UsageError, match="cannot be read"):
        load_prompts(tmp_path / "absent.jsonl")
    with pytest.raises(UsageError, match="cannot be read"):
        load_prompts(tmp_path)
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="UTF-8"):
        load_prompts(tmp_path / "binary")
    with pytest.raises(UsageError, match="second"):
        load_prompts(write(tmp_path, GOOD), turns="second")  # type: ignore[arg-type]


def test_hash_sees_everything():
    base = Prompt("a", "d", ("x", "y"))
    others = [Prompt("b", "d", ("x", "y")), Prompt("a", "e", ("x", "y")), Prompt("a", "d", ("xy",))]
    others += [Prompt("a", "d", ("x", "y"), before=(("system", "s"),)), Prompt("a", "d", ("x", "y"), stop=("s",))]
    hashes = {prompts_hash([p]) for p in [base, *others]} | {prompts_hash([base, base]), prompts_hash([])}
    assert len(hashes) == 8
    assert prompts_hash([base]) == prompts_hash([Prompt("a", "d", ("x", "y"))])


def test_bundled_sets_are_whole_and_disjoint():
    sets = {name: load_prompts(bundled(name)) for name in ("reference", "demo", "distill")}
    domains = {"code", "math", "translation", "summary", "qa", "chat"}
    for name, each in (("reference", 8), ("demo", 4)):
        counts = {d: sum(p.domain == d for p in sets[name]) for d in domains}
        assert counts == dict.fromkeys(domains, each)
        assert len(sets[name]) == 6 * each
    assert {p.domain for p in sets["distill"]} == {"code", "math", "chat"}
    texts = [p.text for prompts in sets.values() for p in prompts]
    assert len(set(texts)) == len(texts)
    with pytest.raises(UsageError, match="demo"):
        bundled("nothing")


def test_distill_prompts_come_from_the_committed_script(tmp_path):
    import subprocess
    import sys
    from pathlib import Path

    script = Path(__file__).parents[2] / "tools" / "make_distill_prompts.py"
    subprocess.run([sys.executable, str(script), str(tmp_path / "d.jsonl")], check=True)
    made = (tmp_path / "d.jsonl").read_text(encoding="utf-8")
    assert made == bundled("distill").read_text(encoding="utf-8")
    assert all(json.loads(line)["domain"] for line in made.splitlines())
