"""The scripts of examples/: each runs on tiny inputs, is short, and is named where a reader looks."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "examples").glob("*.py"))
TINY = "synthetic:kind=two-language,prompts=4,length=30,arms=4"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def call(script: str, *arguments: str) -> list[str]:
        monkeypatch.setattr(sys, "argv", [script, *arguments])
        monkeypatch.chdir(tmp_path)
        runpy.run_path(str(ROOT / "examples" / script), run_name="__main__")
        return capsys.readouterr().out.splitlines()

    return call


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    pytest.importorskip("transformers")
    import tiny
    import torch

    made = tiny.llama(3, 2, torch.float32, vocab_size=tiny.LETTERS, max_position_embeddings=400)
    return str(tiny.save(made, tiny.letters(), tmp_path_factory.mktemp("tiny")))


def test_a_policy_of_ones_own(run) -> None:
    lines = run("own_policy.py", "--trace", TINY, "--seeds", "1", "--workers", "1")
    assert {"Optimist", "Optimist:bonus=0.05", "default", "random"} <= {line.split()[0] for line in lines}
    found = {line.split()[0]: float(re.split(r" {2,}", line)[1].split()[0]) for line in lines[1:]}
    assert all(value > 1 for value in found.values())


def test_training(run, tmp_path: Path) -> None:
    pytest.importorskip("stable_baselines3", reason="stable-baselines3 is not installed")
    lines = run("train_ppo.py", "--train", f"{TINY},seed=1", "--test", f"{TINY},seed=2", "--rounds", "100")
    assert [line.split()[0] for line in lines] == ["sb3", "fixed-share", "metasd-ucb:beta=0.2", "random"]
    assert (tmp_path / "ppo.zip").is_file()


def test_recording(run, model: str, tmp_path: Path) -> None:
    lines = run("record_models.py", "--target", model, "--drafter", "lookup", "--max-new-tokens", "12")
    assert [line.split()[0] for line in lines[-4:]] == ["default", "metasd-ucb", "lookup-first", "random"]
    assert (tmp_path / "trace" / "manifest.json").is_file()


def test_decoding(run, model: str) -> None:
    lines = run(
        "decode_live.py", "hello hello hello", "--target", model, "--max-new-tokens", "12", "--policy", "random"
    )
    told = next(line for line in lines if re.match(r"\d+ tokens in \d+ rounds", line))
    rounds = [int(line.split()[1]) for line in lines[lines.index(told) + 1 :]]
    assert told.startswith(f"12 tokens in {sum(rounds)} rounds")


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda p: p.name)
def test_it_is_short_and_named(script: Path) -> None:
    assert len(script.read_text().splitlines()) < 60
    for page in ("examples/README.md", "docs/index.md"):
        assert script.name in (ROOT / page).read_text()


def test_the_readme_leads_to_them() -> None:
    assert "](examples/README.md)" in (ROOT / "README.md").read_text()
