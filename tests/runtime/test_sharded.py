"""A target over two processes on the CPU decodes what one process decodes, and whoever fails or is lost ends both."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny
from ranks import Ranks
from ranks import command as command  # what the ranks call

from metasd.cli import main


@pytest.fixture(scope="module")
def ranks():
    made = Ranks(__file__)
    yield made
    made.close()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    target = tiny.llama(7, layers=2, num_key_value_heads=2)
    tiny.save(target, tiny.tokenizer(), folder / "target")
    small = tiny.llama(5, 2, num_key_value_heads=2)
    torch.manual_seed(5)
    with torch.no_grad():
        for mine, its in zip(small.parameters(), target.parameters(), strict=True):
            mine.copy_(its + 0.05 * its.std() * torch.randn_like(its))
    tiny.save(small, tiny.tokenizer(), folder / "small")
    lines = [{"id": f"p{i}", "prompt": f"w2 w{i + 3} w2 w{i + 3} w5"} for i in range(2)]
    (folder / "p.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def arguments(models: Path, *more: str) -> list[str]:
    given = ["run", "--target", str(models / "target"), "--prompts", str(models / "p.jsonl"), "--dtype", "float64"]
    return [*given, "--drafter", "lookup", "--max-new-tokens", "16", "--costs", "none", *more]


def decoded(said: str) -> list[Any]:
    """Tokens and rounds of every text, without their seconds."""
    texts = json.loads(said)["texts"]
    return [(t["token_ids"], [{k: v for k, v in r.items() if k != "seconds"} for r in t["rounds"]]) for t in texts]


@pytest.mark.parametrize(
    "more",
    [
        ["--drafter", "model:path={}/small,name=small", "--policy", "metasd-ucb"],
        ["--drafter", "model:path={}/small,name=small", "--policy", "random", "--temperature", "0.8"],
        ["--drafter", "table", "--policy", "planner"],
    ],
    ids=["greedy", "sampled", "trees"],
)
def test_two_ranks_decode_what_one_process_decodes(
    more: list[str], ranks: Ranks, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = arguments(models, "--json", *(part.format(models) for part in more))
    assert main(given) == 0
    alone = decoded(capsys.readouterr().out)
    log = str(tmp_path / "log")
    ranks.start("command", 2, arguments=[*given, "--tensor-parallel"], log=log)
    assert ranks.ended() == [0, 0], Path(log + ".err.0").read_text() + Path(log + ".err.1").read_text()
    assert decoded(Path(log + ".out.0").read_text()) == alone
    assert sum(len(rounds) for _, rounds in alone) < sum(len(tokens) for tokens, _ in alone)  # drafts were accepted
    assert Path(log + ".out.1").read_text() == Path(log + ".err.1").read_text() == ""


def impatient(arguments: list[str], log: str) -> int:
    """Called in every rank: ``command``, which waits no longer than a test should."""
    from metasd.runtime import group, sharded

    group.BEAT, sharded.LEAVE = 0.2, 0.5
    return command(arguments, log)


def refused(ranks: Ranks, log: Path, given: list[str], said: str) -> None:
    """Both ranks end in 2, each with one line, rank 0's with ``said``."""
    ranks.start("command", 2, arguments=given, log=str(log))
    assert ranks.ended() == [2, 2]
    for rank in (0, 1):
        *_, line = log.with_name(f"{log.name}.err.{rank}").read_text().splitlines()
        assert line.startswith("metasd: ")
        assert said in line


def test_what_cannot_be_sharded_is_refused(ranks: Ranks, models: Path, tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=tiny.VOCABULARY, n_embd=16, n_layer=1, n_head=2, n_positions=64)
    tiny.save(GPT2LMHeadModel(config), tiny.tokenizer(), tmp_path / "gpt2")
    log, flag = tmp_path / "log", "--tensor-parallel"
    refused(ranks, log, arguments(models, flag, "--target", str(tmp_path / "gpt2")), "has no plan for tensor parall")
    refused(ranks, log, arguments(models, flag, "--drafter", "skip:layers=1"), "'skip' of kind 'skip' runs parts of")
    refused(ranks, log, arguments(models, flag, "--engine", "packed"), "its weights are spread over 2 processes")
    refused(ranks, log, arguments(models, flag, "--policy", "nope"), "nope")
    refused(ranks, log, arguments(models), "give --tensor-parallel, or start one process")
    refused(ranks, log, arguments(models, flag, "--device-map", "auto"), "both spread the target")
    refused(ranks, log, arguments(models, flag, "--dry-run"), "--dry-run says what one process holds")


def test_the_flag_needs_several_processes(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments(models, "--tensor-parallel")) == 2
    assert "start them with torchrun --nproc-per-node N" in capsys.readouterr().err


def test_a_rank_that_is_killed_ends_the_other(ranks: Ranks, models: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    given = arguments(models, "--tensor-parallel", "--max-new-tokens", "140", "--target", str(models / "target"))
    children = ranks.start("impatient", 2, arguments=given, log=str(log))
    out, until = tmp_path / "log.out.0", time.monotonic() + 60
    while not (out.exists() and out.read_text()):
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(children[1], signal.SIGKILL)
    assert ranks.ended() == [2, -signal.SIGKILL]
    *_, line = (tmp_path / "log.err.0").read_text().splitlines()
    assert line.startswith("metasd: another rank was lost")
