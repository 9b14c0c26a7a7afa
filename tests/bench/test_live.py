"""``metasd bench live`` on a tiny model: every contender, what an interrupt leaves, what fails, and every number."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny

from metasd.bench import kept, process, run, theirs, worker
from metasd.cli import main
from metasd.report.live import lines
from metasd.runtime.locate import locate

TOKENS = 10


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A target, a drafter near it and prompts of two domains."""
    made = tmp_path_factory.mktemp("bench")
    target = tiny.llama(7, layers=2)
    tiny.save(target, tiny.tokenizer(), made / "target")
    tiny.save(tiny.near(target, 0.05), tiny.tokenizer(), made / "small")
    asked = [("a", "even", "w2 w3 w2 w3 w2"), ("b", "odd", "w4 w9 w4 w8 w4"), ("c", "even", "w11 w2 w11")]
    told = [{"id": name, "domain": domain, "prompt": text} for name, domain, text in asked]
    (made / "prompts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in told))
    return made


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Contenders run in this process: one of their own spends its time on importing torch. What was run, in order."""
    ran: list[str] = []

    def execute(order: dict[str, Any]) -> dict[str, Any]:
        ran.append("scene" if order["job"] is None else order["job"]["name"])
        return json.loads(json.dumps(worker.work(json.loads(json.dumps(order)))))

    monkeypatch.setattr(run.measure, "__kwdefaults__", {**(run.measure.__kwdefaults__ or {}), "execute": execute})
    return ran


@pytest.fixture
def bench(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, Any]]:
    """Runs the command; its exit code and its document, or what it said where it made none."""

    def call(*more: str, out: Path = tmp_path / "out", repeats: int = 1) -> tuple[int, Any]:
        given = ["--target", str(folder / "target"), "--prompts", str(folder / "prompts.jsonl"), "--out", str(out)]
        given += [
            "--max-new-tokens",
            str(TOKENS),
            "--dtype",
            "float64",
            "--repeats",
            str(repeats),
            "--costs",
            "measure",
        ]
        code = main(["bench", "live", *given, "--json", *more])
        said = capsys.readouterr()
        return code, json.loads(said.out) if said.out else said.err.strip().splitlines()[-1]

    return call


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def rows_of(document: Any, domain: str = "all") -> dict[str, Any]:
    return {row["contender"]: row for row in document["results"] if row["domain"] == domain}


def test_every_contender_decodes_the_same_texts(bench: Any, here: list[str], folder: Path, tmp_path: Path) -> None:
    small = f"model:path={folder / 'small'},name=small"
    svg = tmp_path / "speeds.svg"
    code, made = bench("--drafter", "lookup", "--drafter", small, "--svg", str(svg), repeats=2)
    assert code == 0
    found = rows_of(made)
    names = ["generate", "prompt-lookup@3", "prompt-lookup@10", f"assisted:{folder / 'small'}", "plain", "plain again"]
    assert list(found) == [*names, "lookup@3", "small@3", "lookup-first", "default", "planner"]
    assert here[0] == "scene"
    assert here[1 : 1 + len(found)] != here[1 + len(found) :]  # another order in the second repeat
    assert sorted(here[1 : 1 + len(found)]) == sorted(found) == sorted(here[1 + len(found) :])
    for row in found.values():
        assert (row["prompts"], row["repeats"], row["same_text"]) == (3, 2, 3), row
        assert row["tokens"] == found["generate"]["tokens"] > 0
        assert row["tokens_per_second_low"] <= row["tokens_per_second"] <= row["tokens_per_second_high"]
    assert (
        found["plain"]["tokens_per_round"] == found["plain"]["times_plain"] == found["generate"]["times_generate"] == 1
    )
    assert found["generate"]["tokens_per_round"] is None
    assert found["small@3"]["tokens_per_round"] > 1
    for name in ("plain", "lookup@3", "small@3", "planner"):
        assert found[name]["of_roofline"] == pytest.approx(found[name]["reached"] / found[name]["roofline"], rel=0.5)
        assert 0 < found[name]["outside_models"] < 1
    assert {row["domain"] for row in made["results"]} == {"even", "odd", "all"}
    assert made["noise"]["repeats"] == 2
    assert {s["contender"] for s in made["skipped"]} == {"flashspec", "vllm-ngram"}
    assert made["passes"]["widths"] == [1, 2, 3, 4]
    said = lines(made)
    assert any(line.startswith("noise: plain decoding and the same once more") for line in said)
    assert any("passes alone allow" in line for line in said)
    assert any(" x transformers' generate (" in line for line in made["verdicts"])
    assert svg.read_text().count("<rect") == 1 + len(found)


def test_an_interrupt_loses_one_run_and_resume_goes_on(
    bench: Any, here: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, runs = tmp_path / "out", ("--only", "generate", "--only", "plain", "--drafter", "lookup")
    first, plain = worker.work, []

    def interrupted(order: dict[str, Any]) -> dict[str, Any]:
        if order["job"] is not None and order["job"]["name"] == "plain":
            plain.append(1)
            if len(plain) == 2:
                raise KeyboardInterrupt
        return first(order)

    monkeypatch.setattr(worker, "work", interrupted)
    code, said = bench(*runs, repeats=2)
    assert code == 130
    with (out / kept.NAME).open("a") as file:
        file.write('{"contender": "plain", "rep')  # what a kill inside a line leaves
    assert bench(*runs, repeats=2) == (
        2,
        f"metasd: {out / kept.NAME} is there already; --resume goes on with it, or give another --out",
    )
    before, held = list(here), (out / kept.NAME).read_text().count("\n")
    code, made = bench(*runs, "--resume", repeats=2)
    assert code == 0
    assert len(here) - len(before) == 2 * 2 - (held - 2)  # without what was there, and without a second scene
    assert "scene" not in here[len(before) :]
    assert rows_of(made)["plain"]["repeats"] == rows_of(made)["generate"]["repeats"] == 2
    code, said = bench(*runs, "--resume", "--raw", repeats=2)
    assert (code, said) == (2, f"metasd: {out / kept.NAME} was measured with other settings (raw); give another --out")


def test_a_contender_that_fails_is_named_and_the_others_go_on(
    bench: Any, here: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from metasd.bench import theirs

    monkeypatch.setitem(theirs.ANSWERS, "prompt-lookup", lambda *given: 1 / 0)
    runs = ("--only", "prompt-lookup@3", "--only", "plain", "--drafter", "lookup")
    code, made = bench(*runs, repeats=2)
    assert code == 1
    assert made["failed"] == [{"contender": "prompt-lookup@3", "error": "ZeroDivisionError: division by zero"}]
    assert here.count("prompt-lookup@3") == 1  # not asked again
    assert here.count("plain") == 2
    assert list(rows_of(made)) == ["plain"]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["--only", "nobody"], "metasd: no contender 'nobody' here; choose of generate, prompt-lookup@3"),
        (["--only", "vllm-ngram"], "metasd: no contender 'vllm-ngram' here: package vllm is not installed; choose of"),
        (["--policy", "nonsense"], "metasd: unknown policy 'nonsense'"),
        (["--policy", "fixed:arm=skip"], "metasd: arm 'skip' is not in the pool"),
        (["--max-new-tokens", "0"], "metasd: --max-new-tokens 0 is out of range"),
        (["--max-new-tokens", "500"], "metasd: prompt 'a' has 5 tokens and a budget of 500"),
    ],
)
def test_what_cannot_work_is_one_line(bench: Any, here: list[str], given: list[str], said: str) -> None:
    code, told = bench(*given)
    assert code == 2
    assert told.startswith(said)


def test_others_are_asked_in_their_own_words(
    bench: Any, here: list[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stand-ins for packages that are not installed: what they are given, and that their answers are counted."""
    asked: dict[str, Any] = {}
    answer = [5, 6, 7]

    class LLM:
        def __init__(self, **how: Any) -> None:
            asked["vllm"] = how

        def generate(self, prompts: Any, how: Any, use_tqdm: bool) -> Any:
            assert not use_tqdm
            asked["prompt"] = prompts
            return [types.SimpleNamespace(outputs=[types.SimpleNamespace(token_ids=answer[: how["max_tokens"]])])]

    class Engine:
        def __init__(self, config: Any, drafters: Any, target: Any) -> None:
            asked["flashspec"] = (config, drafters)

        def generate(self, ids: Any, max_new_tokens: int, eos_token_ids: Any) -> Any:
            import torch

            assert eos_token_ids == (tiny.EOS,)
            return types.SimpleNamespace(output_ids=torch.tensor([[*answer, -1]]), n_tokens_generated=3)

    def named(*given: Any, **how: Any) -> Any:
        return how

    modules = {
        "vllm": {"LLM": LLM, "SamplingParams": named},
        "flashspec": dict.fromkeys(("SamplingConfig", "BanditConfig", "FlashSpecConfig"), named)
        | {"SpeculativeEngine": Engine},
        "flashspec.engine": dict.fromkeys(("HuggingFaceDrafter", "NgramDrafter", "TargetModel"), named),
    }
    for name, has in modules.items():
        module = types.ModuleType(name)
        module.__dict__.update(has)
        module.__spec__ = types.SimpleNamespace(name=name)  # type: ignore[assignment]
        monkeypatch.setitem(sys.modules, name, module)
    located: list[tuple[Any, ...]] = []

    def watched(*given: Any) -> Any:
        located.append(given)
        return locate(*given)

    monkeypatch.setattr(theirs, "locate", watched)
    code, made = bench("--only", "vllm-ngram", "--only", "flashspec", "--only", "generate", "--drafter", "lookup")
    assert code == 0, made
    # a .gguf file becomes other weights in another dtype: everybody must decode with the same
    assert [str(dtype) for _, dtype, _ in located] == [f"torch.{made['scene']['dtype']}"]
    assert rows_of(made)["vllm-ngram"]["tokens"] == rows_of(made)["flashspec"]["tokens"] == 9
    assert rows_of(made)["vllm-ngram"]["same_text"] == 0
    assert asked["vllm"]["speculative_config"]["num_speculative_tokens"] == 10
    assert asked["vllm"]["model"] == str(folder / "target")
    assert asked["flashspec"][0]["drafter_strategy"] == "bandit"


def test_a_contender_runs_in_a_process_of_its_own(tmp_path: Path) -> None:
    """A real one, which says what is wrong in a line; and one that dies."""
    settings = {"threads": 1, "target": str(tmp_path / "nothing"), "device": "cpu", "dtype": "auto", "attention": None}
    settings |= {"device_map": None, "revision": None, "engine": "auto", "ignore_generation_config": False}
    made = process.execute({"settings": settings, "scene": None, "job": None})
    assert made["error"].startswith(f"no model {str(tmp_path / 'nothing')!r}")
    made = process.execute({"settings": {"threads": None}})
    assert made["error"].startswith("its process ended with exit code 1, saying ")
