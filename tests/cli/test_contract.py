"""The command contract: exit codes, one-line errors, and JSON that is alone on stdout, on a tiny model in a folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny
import torch

from metasd.cli import main

KEYS = {
    "policy", "reset", "domain", "prompts", "rounds", "drafted", "accepted", "emitted", "seconds", "tokens_per_second",
    "tokens_per_round", "speedup", "switches", "catch_up", "arms", "regret_rounds", "oracle_rounds",
}  # fmt: skip
LIMIT = 16


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    target = tiny.llama(7, eos_token_id=12, dtype=torch.float32)
    tiny.save(target, tiny.tokenizer(), folder / "target")
    tiny.save(tiny.near(target), tiny.tokenizer(), folder / "small")
    tiny.save(tiny.llama(3, 1, torch.float32), tiny.tokenizer(tiny.VOCABULARY - 1), folder / "foreign")
    lines = [
        {"id": f"p{i}", "domain": "even" if i % 2 == 0 else "odd", "prompt": f"w2 w{i + 3} w2 w{i + 3} w5"}
        for i in range(4)
    ]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def trace(models: Path) -> Path:
    out = models / "trace"
    assert main(record_arguments(models, out)) == 0
    return out


def record_arguments(models: Path, out: Path, *more: str) -> list[str]:
    given = ["--target", str(models / "target"), "--prompts", str(models / "prompts.jsonl"), "--out", str(out)]
    pool = [
        "--drafter",
        "lookup",
        "--drafter",
        "table:name=grown",
        "--drafter",
        f"model:path={models / 'small'},name=small",
    ]
    return ["record", *given, *pool, "--draft-length", "4", "--max-new-tokens", str(LIMIT), *more]


def run_arguments(models: Path, *more: str) -> list[str]:
    given = ["--target", str(models / "target"), "--prompts", str(models / "prompts.jsonl")]
    return ["run", *given, "--drafter", "lookup", "--draft-length", "4", "--max-new-tokens", str(LIMIT), *more]


def document(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> dict[str, Any]:
    """Run a command; stdout must be one JSON document and nothing else."""
    capsys.readouterr()
    assert main(arguments) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str], *said: str, code: int = 2) -> None:
    """The command ends in ``code`` with one line that holds every text of ``said``, and no traceback."""
    capsys.readouterr()
    assert main(arguments) == code
    err = capsys.readouterr().err.strip().splitlines()
    assert err[-1].startswith("metasd: ")
    assert "Traceback" not in "\n".join(err)
    for text in said:
        assert text in err[-1], err[-1]


def test_replay_gives_every_key_in_every_row(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    got = document(
        capsys,
        ["replay", "--trace", str(trace), "--policy", "metasd-ucb", "--policy", "random", "--seeds", "2", "--json"],
    )
    assert (got["schema"], got["command"]) == (1, "replay")
    assert {r["domain"] for r in got["results"]} == {"even", "odd", "all"}
    for r in got["results"]:
        assert r.keys() >= KEYS
        assert r["oracle_rounds"] <= r["rounds"]
        assert sum(r["arms"].values()) == pytest.approx(r["rounds"])
    total = next(r for r in got["results"] if r["domain"] == "all" and r["policy"] == "random")
    parts = [r for r in got["results"] if r["domain"] != "all" and r["policy"] == "random"]
    for key in ("rounds", "emitted", "accepted", "regret_rounds", "oracle_rounds", "prompts", "seconds"):
        assert total[key] == pytest.approx(sum(r[key] for r in parts))


def test_run_equals_replay_and_says_so(models: Path, trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool = ["--drafter", "table:name=grown", "--drafter", f"model:path={models / 'small'},name=small"]
    got = document(capsys, run_arguments(models, *pool, "--policy", "metasd-ucb", "--trace", str(trace), "--json"))
    assert got["fidelity"]["identical"] is True
    assert got["fidelity"]["rounds"] == next(r for r in got["results"] if r["domain"] == "all")["rounds"]
    replayed = document(capsys, ["replay", "--trace", str(trace), "--policy", "metasd-ucb", "--json"])
    for key in ("rounds", "drafted", "accepted", "emitted", "switches", "catch_up", "arms"):
        assert [r[key] for r in got["results"]] == [r[key] for r in replayed["results"]], key


def test_run_with_a_baseline_gives_speedup_and_regret(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    got = document(capsys, run_arguments(models, "--policy", "fixed:arm=lookup", "--baseline", "--json"))
    rows = {r["policy"]: r for r in got["results"] if r["domain"] == "all"}
    assert rows["fixed:arm=plain"]["speedup"] == 1.0
    assert rows["fixed:arm=lookup@4"]["rounds"] == rows["fixed:arm=lookup"]["rounds"]
    assert rows["fixed:arm=lookup"]["speedup"] > 0
    assert rows["fixed:arm=lookup"]["regret_rounds"] is not None
    assert [t["id"] for t in got["texts"]] == ["p0", "p1", "p2", "p3"]
    assert sum(len(t["token_ids"]) for t in got["texts"]) == rows["fixed:arm=plain"]["emitted"]


def test_the_answer_does_not_depend_on_the_policy(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def answers(*more: str) -> list[list[int]]:
        texts = document(capsys, run_arguments(models, *more, "--json"))["texts"]
        return [t["token_ids"] for t in texts]

    plain = answers("--drafter", "plain", "--policy", "fixed:arm=plain")
    assert all(answers("--policy", spec) == plain for spec in ("random", "fixed:arm=plain", "exp3"))


def test_one_prompt_is_streamed_and_painted(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "answer.svg"
    arguments = [
        "run",
        "--target",
        str(models / "target"),
        "--prompt",
        "w2 w3 w2 w3",
        "--max-new-tokens",
        "8",
        "--policy",
        "random",
    ]
    assert main([*arguments, "--svg", str(picture)]) == 0
    drawn = picture.read_text().replace("&#160;", " ")
    assert drawn.startswith("<svg")
    for said in ("w2 w3 w2 w3", "target, policy random, ", "tokens/s"):
        assert said in drawn
    assert main(arguments) == 0
    assert "the target itself" in capsys.readouterr().out


def test_an_interrupted_recording_goes_on_and_another_one_is_refused(
    models: Path, trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(record_arguments(models, trace, "--resume")) == 0
    refused(capsys, record_arguments(models, trace), str(trace))
    refused(capsys, record_arguments(models, trace, "--resume", "--seed", "9"), "seed")


def test_a_damaged_trace_ends_in_three(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "t"
    assert main(record_arguments(models, out)) == 0
    assert main(["trace", "validate", str(out)]) == 0
    shard = next((out / "shards").glob("*.safetensors"))
    data = bytearray(shard.read_bytes())
    data[-3] ^= 1
    shard.write_bytes(data)
    refused(capsys, ["trace", "validate", str(out)], shard.name, code=3)
    refused(capsys, ["replay", "--trace", str(out), "--policy", "random"], shard.name, code=3)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--policy", "nope"], ["'nope'"]),
        (["--policy", "metasd-ucb:gamma=1"], ["'gamma'"]),
        (["--policy", "random", "--drafter", "oracle"], ["'oracle'"]),
        (["--policy", "random", "--drafter", "table:depth=3"], ["'depth'"]),
        (["--policy", "random", "--device", "tpu"], ["tpu"]),
        (["--policy", "random", "--dtype", "int3"], ["int3"]),
        (["--policy", "random", "--draft-length", "-1"], ["-1"]),
        (["--policy", "random", "--max-new-tokens", "0"], ["0"]),
        (["--policy", "random", "--temperature", "-0.5"], ["-0.5"]),
        (["--policy", "random", "--max-new-tokens", "500"], ["'p0'", "160"]),
        (["--policy", "fixed:arm=nope"], ["'nope'"]),
        (["--policy", "random", "--temperature", "inf"], ["inf"]),
        (["--policy", "metasd-ucb:beta=1,beta=2"], ["'beta'", "twice"]),
        (["--policy", "random", "--costs", "/none/costs.json"], ["/none/costs.json"]),
        (["--policy", "random", "--trace", "/none", "--temperature", "1"], ["1.0"]),
    ],
)
def test_bad_settings_are_named(
    more: list[str], said: list[str], models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    refused(capsys, run_arguments(models, *more), *said)


def test_a_drafter_with_another_tokenizer_is_refused(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(
        capsys,
        run_arguments(models, "--policy", "random", "--drafter", f"model:path={models / 'foreign'}"),
        "tokenizer",
    )


def test_bad_prompt_files_are_named(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.jsonl"
    given = ["run", "--target", str(models / "target"), "--policy", "random", "--prompts", str(bad)]
    bad.write_text('{"prompt": "w2"}\n{"prompt": \n')
    refused(capsys, given, "line 2")
    bad.write_text("")
    refused(capsys, given, "no prompts")
    refused(capsys, ["run", "--target", str(models / "target"), "--policy", "random"], "--prompts")


def test_a_draft_length_above_the_recorded_one_is_refused(trace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, ["replay", "--trace", str(trace), "--policy", "random", "--draft-length", "5"], "5", "0..4")
    refused(capsys, ["replay", "--trace", str(trace), "--policy", "random", "--draft-length", "-2"], "-2")


def test_what_there_is_can_be_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert {"metasd-ucb", "exp3", "default"} <= {
        p["name"] for p in document(capsys, ["policies", "--json"])["policies"]
    }
    assert {"lookup", "table", "model", "skip"} <= {
        d["name"] for d in document(capsys, ["drafters", "--json"])["drafters"]
    }
    assert document(capsys, ["env", "--json"])["cores"] >= 1


def test_a_new_policy_is_one_class_and_one_line(
    trace: Path, models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The policy that docs/add-a-policy.md shows, taken from the page itself."""
    import metasd.policies as registry

    page = (Path(__file__).parents[2] / "docs" / "add-a-policy.md").read_text()
    space: dict[str, Any] = {"__name__": "softmax"}
    source = page.split("```python")[1].split("```")[0].replace("from __future__ import annotations\n", "")
    exec(compile(source, "softmax.py", "exec"), space)  # the page's own code
    monkeypatch.setitem(registry.POLICIES, "softmax", space["Softmax"])
    assert "softmax" in {p["name"] for p in document(capsys, ["policies", "--json"])["policies"]}
    got = document(capsys, ["replay", "--trace", str(trace), "--policy", "softmax:temperature=0.2", "--json"])
    assert got["results"][-1]["rounds"] > 0
    assert document(capsys, run_arguments(models, "--policy", "softmax", "--json"))["results"][-1]["rounds"] > 0


def test_a_shorter_run_is_checked_against_the_longer_recording(
    models: Path, trace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pool = ["--drafter", "table:name=grown", "--drafter", f"model:path={models / 'small'},name=small"]
    arguments = run_arguments(models, *pool, "--policy", "default", "--trace", str(trace), "--json")
    arguments[arguments.index("--draft-length") + 1] = "2"
    assert document(capsys, arguments)["fidelity"]["identical"] is True
    refused(capsys, run_arguments(models, "--policy", "random", "--trace", str(trace)), "lookup@4", "small@4")


def test_a_pool_that_drafts_nothing_is_not_recorded(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["record", "--target", str(models / "target"), "--prompts", str(models / "prompts.jsonl")]
    refused(capsys, [*given, "--out", str(tmp_path / "t"), "--draft-length", "0"], "nothing to record")


def test_a_folder_that_cannot_be_written_is_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(capsys, ["trace", "synth", "iid", "--out", str(tmp_path / "file" / "t")], "file")
