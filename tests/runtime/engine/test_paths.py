"""How passes are run is chosen from facts, said in words, and refused where it cannot be had."""

from __future__ import annotations

import itertools
import logging
from typing import Any

import pytest
import torch

from metasd.core.errors import UsageError
from metasd.runtime.engine import packed, paths, slim
from tests.support import tiny


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every model counts as large."""
    monkeypatch.setattr(paths, "LARGE", 1)


@pytest.mark.usefixtures("small")
def test_a_large_float32_model_on_a_cpu_is_packed_and_a_line_says_why(caplog: pytest.LogCaptureFixture) -> None:
    model = tiny.llama(dtype=torch.float32)
    with caplog.at_level(logging.INFO, "metasd"):
        path = paths.install(model)
    assert (path.name, packed.installed(model)) == ("packed", True)
    assert [r.getMessage() for r in caplog.records] == ["engine: packed (float32 on a CPU with oneDNN)"]
    assert paths.install(model).name == "packed", "a model that is packed already stays so"


@pytest.mark.usefixtures("small")
def test_no_clock_has_a_say(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a machine was busy with must not choose the arithmetic: resumed recordings and runs must meet it again."""
    for pace in (1e-6, 1e6):
        monkeypatch.setattr("time.perf_counter", itertools.count(step=pace).__next__)
        model = tiny.llama(dtype=torch.float32)
        assert paths.install(model).name == "packed"
        assert slim.installed(model)


def why(monkeypatch: pytest.MonkeyPatch, fact: str) -> Any:
    if fact == "bfloat16":
        return tiny.llama(dtype=torch.bfloat16)
    if fact == "oneDNN":
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    if fact == "release":
        monkeypatch.setattr(torch.ops, "mkldnn", object())
    model = tiny.llama(dtype=torch.float32)
    return model.to("meta") if fact == "meta" else model


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("fact", ["bfloat16", "oneDNN", "release", "meta"])
def test_what_cannot_be_packed_stays_and_says_why(monkeypatch: pytest.MonkeyPatch, fact: str) -> None:
    model = why(monkeypatch, fact)
    path = paths.install(model)
    assert path.name == "eager"
    assert fact in path.reason
    with pytest.raises(UsageError, match=fact):
        paths.install(model, "packed")
    assert not packed.installed(model)


def test_a_small_model_stays_unless_asked() -> None:
    model = tiny.llama(dtype=torch.float32)
    assert (paths.install(model).name, packed.installed(model)) == ("eager", False)
    assert paths.install(model, "packed") == paths.EnginePath("packed", "asked for")


def test_what_is_asked_for_is_had_or_refused() -> None:
    model = tiny.llama(dtype=torch.float32)
    assert paths.install(model, "eager") == paths.EnginePath("eager", "asked for")
    with pytest.raises(
        UsageError, match="engine graphs cannot be had: graphs need a CUDA device, and the model is on cpu"
    ):
        paths.install(model, "graphs")
    with pytest.raises(UsageError, match="unknown engine 'fast'; use auto, eager, packed or graphs"):
        paths.install(model, "fast")
