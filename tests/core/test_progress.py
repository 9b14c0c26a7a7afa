"""Lines of progress: how often, and from when on they say what is left."""

from __future__ import annotations

import pytest

from metasd.core import progress


def test_time_left_is_said_once_a_twentieth_is_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first of 200 steps holds 100 s of preparation; the others take 1 s each."""
    now = 0.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    advance = progress.lines(200, "work")
    now = 100.0
    advance()
    for _ in range(199):
        now += 1.0
        advance()
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "work: 1/200"
    assert said[1] == "work: 11/200, 1890 s left"
    assert said[-1] == "work: 200/200, 0 s left"
    assert len(said) == 21
