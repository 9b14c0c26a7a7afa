"""tools/mutants.py: every mutant fits the code as it is, survivors are named, and no other metasd is tested."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
ENTRY = """
[[mutant]]
name = "{name}"
file = "metasd/__init__.py"
old = "{old}"
new = "{new}"
tests = ["tests/test_double.py"]
from = "here"
"""


@pytest.fixture(scope="module")
def mutants() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutants", ROOT / "tools" / "mutants.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["mutants"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def small(mutants: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree with a package of one function and a test that knows it at 2 only."""
    monkeypatch.setattr(mutants, "ROOT", tmp_path)
    monkeypatch.setattr(mutants, "PARTS", ("metasd", "tests"))
    for folder in ("metasd", "tests", "tools/mutants"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "metasd" / "__init__.py").write_text("def double(x):\n    y = x\n    return x + y\n")
    (tmp_path / "tests" / "test_double.py").write_text(
        "import metasd\n\n\ndef test_double():\n    assert metasd.double(2) == 4\n"
    )
    return tmp_path


def table(small: Path, *entries: tuple[str, str, str]) -> None:
    text = "".join(ENTRY.format(name=name, old=old, new=new) for name, old, new in entries)
    (small / "tools" / "mutants" / "some.toml").write_text(text)


def test_every_mutant_fits_the_code(mutants: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """A mutant whose old text is gone says nothing any more; change it together with the code."""
    assert mutants.main(["--list"]) == 0, capsys.readouterr().err
    for mutant in mutants.load(ROOT / "tools" / "mutants"):
        for test in mutant.tests:
            assert (ROOT / test.partition("::")[0]).exists(), f"{mutant.name}: {test}"


def test_killed_ones_and_survivors(mutants: ModuleType, small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table(small, ("sum", "x + y", "x - y"), ("square", "x + y", "x * y"))
    before = (small / "metasd" / "__init__.py").read_text()
    assert mutants.main(["--jobs", "2"]) == 1
    out = capsys.readouterr().out.splitlines()
    assert out[1].startswith("unmutated: all pass")
    assert [(line.split()[1], line.split()[-1]) for line in out[2:4]] == [("killed", "sum"), ("SURVIVED", "square")]
    assert out[4].startswith("2 mutants")
    assert out[4].endswith("survived: square")
    assert (small / "metasd" / "__init__.py").read_text() == before


def test_a_mutant_that_cannot_be_imported_is_an_error(
    mutants: ModuleType, small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table(small, ("broken", "def double", "def double("))
    assert mutants.main([]) == 2
    assert "mutant broken: no test ran" in capsys.readouterr().err


def test_another_metasd_is_not_tested(mutants: ModuleType, small: Path, tmp_path: Path) -> None:
    tree = mutants.Tree(tmp_path / "copy")
    shutil.rmtree(tree.folder / "metasd")
    code, output = tree.run(["tests/test_double.py"])
    assert code == mutants.FOREIGN, output


@pytest.mark.parametrize(
    ("entries", "arguments", "told"),
    [
        ([("twice", "x", "y")], [], "mutant twice: its old text occurs 3 times in metasd/__init__.py"),
        ([("gone", "z", "y")], ["--list"], "mutant gone: its old text occurs 0 times"),
        ([("one", "q", "y"), ("gone", "z", "y")], ["--list"], "mutant gone: its old text occurs 0 times"),
        ([("same", "x + y", "x + y")], [], "mutant same replaces its old text by itself"),
        ([("one", "x + y", "x")] * 2, [], "mutant one is there twice"),
        ([("one", "x + y", "x")], ["--only", "two"], "there is no mutant two"),
        ([], [], "some.toml is no table of mutants"),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(
    mutants: ModuleType,
    small: Path,
    capsys: pytest.CaptureFixture[str],
    entries: list[tuple[str, str, str]],
    arguments: list[str],
    told: str,
) -> None:
    table(small, *entries)
    assert mutants.main(arguments) == 2
    assert told in capsys.readouterr().err


def test_a_wrong_entry_is_refused(mutants: ModuleType, small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = small / "tools" / "mutants" / "some.toml"
    for text in (ENTRY.replace("from =", "because ="), ENTRY.replace('["tests/test_double.py"]', "[]")):
        path.write_text(text.format(name="one", old="x + y", new="x"))
        assert mutants.main(["--list"]) == 2
        assert "some.toml, mutant one: needs file, from, name, new, old, tests" in capsys.readouterr().err
