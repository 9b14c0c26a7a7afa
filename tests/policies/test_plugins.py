"""Policies from outside the package: a module, a file, a registered name, an entry point; one line for what is
wrong."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from metasd import policies
from metasd.core.errors import UsageError
from metasd.policies import POLICIES, label, make, plugins, register_policy
from metasd.policies.rules import Fixed, Random

LAST = """
import numpy as np
from metasd.policies import Policy

class Last(Policy):
    "Plays the last allowed arm, or one counted from there."
    def __init__(self, back=0, scale: float = 1.0, name="x"):
        super().__init__()
        self.back, self.scale, self.name = back, scale, name
        if back < 0:
            raise ValueError("back is\\nnegative")
    def choose(self, context, allowed):
        return allowed.shape[1] - 1 - allowed[:, ::-1].argmax(axis=1)

class Unfinished(Policy):
    pass

NUMBER = 3
"""

OWN = ("ownbandits", "minehere", "besidehelper")  # modules that tests make


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Imports, folders and names of one test stay in it."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = dict(POLICIES)
    yield
    POLICIES.clear()
    POLICIES.update(before)
    policies.REGISTERED.clear()
    for name in [n for n in sys.modules if n.startswith(OWN)]:
        del sys.modules[name]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "last.py").write_text(LAST)
    return tmp_path / "last.py"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "ownbandits" / "deep").mkdir(parents=True)
    (tmp_path / "ownbandits" / "deep" / "last.py").write_text(LAST)
    monkeypatch.syspath_prepend(tmp_path)
    return "ownbandits.deep.last"


def test_a_file_with_settings_typed_by_annotation_or_default(file: Path) -> None:
    made = make(f"{file}:Last,back=2,scale=0.5,name=a:b")
    assert type(made).__name__ == "Last"
    assert (made.back, made.scale, made.name) == (2, 0.5, "a:b")
    assert make(f"{file}:Last").back == 0


def test_a_module_and_a_module_of_the_current_folder(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert make(f"{package}:Last,back=1").back == 1
    here = tmp_path / "here"
    here.mkdir()
    (here / "minehere.py").write_text(LAST)
    monkeypatch.chdir(here)
    assert type(make("minehere:Last")).__module__ == "minehere"


def test_a_file_finds_what_lies_beside_it_and_is_read_anew_when_edited(file: Path) -> None:
    (file.parent / "besidehelper.py").write_text("BACK = 4\n")
    file.write_text(
        LAST.replace("back=0", "back=BACK").replace("import numpy", "from besidehelper import BACK\nimport numpy")
    )
    first = make(f"{file}:Last")
    assert first.back == 4
    assert type(make(f"{file}:Last")) is type(first)
    file.write_text(LAST.replace("back=0", "back=7"))
    assert make(f"{file}:Last").back == 7


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("{file}", "names a file and no class"),
        ("{file}:Nothing", "has no 'Nothing'; its policies are Last, Unfinished"),
        ("{file}:NUMBER", "is no policy class"),
        ("{file}:Unfinished", "lacks choose"),
        ("{file}:Last,front=2", "no key 'front'; its keys are back, scale, name"),
        ("{file}:Last,back=two", "'two' is not a int"),
        ("{file}:Last,back", "write {file}:Last,back=..."),
        ("{file}:Last,back=-1", r"cannot be made: ValueError: back is negative (last.py, line "),
        ("{folder}/none.py:Last", "No such file"),
        ("{folder}/broken.py:Last", "broken.py cannot be imported: SyntaxError"),
        ("{folder}/lacking.py:Last", "No module named 'nosuchthing' (lacking.py, line 2)"),
        ("nosuchpackage.thing:Last", "no policy and no module 'nosuchpackage.thing'"),
        ("metasd-ucb:beta", "write metasd-ucb:beta=..."),
        ("nosuch:beta=1", "unknown policy 'nosuch'"),
    ],
)
def test_what_is_wrong_is_one_line(file: Path, spec: str, said: str) -> None:
    (file.parent / "broken.py").write_text("def (:\n")
    (file.parent / "lacking.py").write_text("\nimport nosuchthing\n")
    places = {"file": file, "folder": file.parent}
    with pytest.raises(UsageError) as caught:
        make(spec.format(**places))
    assert said.format(**places) in str(caught.value)
    assert "\n" not in str(caught.value)


class Mine(Random):
    """A policy of this test's own."""


def test_a_registered_name_is_a_policy_like_any_other() -> None:
    register_policy("mine", Mine)
    assert type(make("mine:mask=false")) is Mine
    assert POLICIES["mine"] is Mine
    register_policy("mine", Random)  # a cell of a notebook, run again
    assert type(make("mine")) is Random


@pytest.mark.parametrize(
    ("name", "cls", "said"),
    [
        ("default", Mine, "built in"),
        ("frontier", Mine, "built in"),
        ("a:b", Mine, "cannot be written in a spec"),
        ("", Mine, "cannot be written in a spec"),
        ("fine", int, "is no policy class"),
        ("fine", policies.IndexPolicy, "lacks index"),
    ],
)
def test_what_cannot_be_registered_is_refused(name: str, cls: type, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        register_policy(name, cls)
    assert "fine" not in POLICIES


def test_an_entry_point_is_a_name(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    offered = {n: EntryPoint(n, v, plugins.GROUP) for n, v in (("last", f"{package}:Last"), ("gone", "nosuchthing:X"))}
    monkeypatch.setattr(plugins, "entry_points", lambda: offered)
    assert make("last:back=3").back == 3
    with pytest.raises(UsageError, match=r"gone \(nosuchthing:X, an entry point\) cannot be imported: ModuleNotFound"):
        make("gone")
    with pytest.raises(UsageError, match="sb3, last, gone, or name a class"):
        make("nosuch")


def test_objects_are_copied_and_classes_made() -> None:
    own = Fixed(arm="lookup")
    made = make(own)
    assert made is not own
    assert made.arm == "lookup"
    assert type(make(Mine)) is Mine
    with pytest.raises(UsageError, match="needs arm"):
        make(Fixed)
    with pytest.raises(UsageError, match="is no policy class"):
        make(int)


def test_labels_say_what_is_not_a_default() -> None:
    assert label("ucb1:mask=false") == "ucb1:mask=false"
    assert label(Mine) == "Mine"
    assert label(Mine()) == "Mine"
    assert label(Mine(mask=False)) == "Mine:mask=False"
    assert label(Fixed(arm="lookup")) == "Fixed:arm=lookup"
    assert label(POLICIES["ucb1"](reward="tokens")) == "UCB1:reward=tokens"
