"""docs/python.md: every block of code runs as it stands, on a tiny model in the place of the one it names."""

from __future__ import annotations

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


def test_the_page_runs_on_a_tiny_model(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    model = tiny.llama(3, 2, torch.float32, vocab_size=tiny.LETTERS, max_position_embeddings=400)
    made = as_target(model, tiny.letters(TEMPLATE), "tiny")
    monkeypatch.setattr(metasd, "load", lambda spec: made, raising=False)
    space: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE.read_text(), flags=re.DOTALL):
        exec(compile(block, PAGE.name, "exec"), space)  # the page's own code
    out = capsys.readouterr().out
    assert re.search(r"^32 tokens in \d+ rounds$", out, flags=re.MULTILINE)
    assert out.rstrip().endswith("4 messages")
