"""Module names of 0.1 that scripts use: they lead to the same objects, with a word."""

from __future__ import annotations

import importlib

import pytest

pytest.importorskip("torch")

PLACES = {
    "metasd.runtime.packed": ("metasd.record.reader", "StepReader"),
    "metasd.runtime.recorder": ("metasd.record.recorder", "Recorder"),
    "metasd.runtime.warp": ("metasd.runtime.sampling", "Sampling"),
}


@pytest.mark.parametrize("old", PLACES)
def test_an_old_name_is_the_new_one_and_says_so(old: str, monkeypatch: pytest.MonkeyPatch) -> None:
    new, name = PLACES[old]
    said: list[tuple[str, type[Warning]]] = []
    monkeypatch.setattr("metasd.core.moved.warnings.warn", lambda text, kind, stacklevel: said.append((text, kind)))
    module = importlib.import_module(old)
    assert not said
    assert getattr(module, name) is getattr(importlib.import_module(new), name)
    assert said == [(f"{old} is now {new}; the old name goes with 0.3", DeprecationWarning)]
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        module.nothing_of_the_kind  # noqa: B018
    assert not hasattr(module, "__path__")
    assert len(said) == 1
