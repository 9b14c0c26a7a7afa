"""Imports point one way, from room to room; torch stays in the live rooms, and no two modules import each other."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import metasd

PACKAGE = Path(metasd.__file__).parent
MAY_IMPORT = {  # room -> the other rooms that its modules may import, inside functions too
    "core": "",
    "drafters": "core",
    "policies": "core",
    "traces": "core drafters",
    "sim.replay": "core drafters policies traces",
    "sim.oracle": "core traces sim.replay",
    "sim.env": "core traces sim.replay sim.oracle",
    "sim.compare": "core policies traces sim.replay sim.oracle",
    "sim.theory": "core policies traces sim.replay sim.oracle sim.compare",
    "sim.reproduce": "core policies traces sim.replay sim.oracle sim.compare sim.theory",
    "sim.fit": "core policies traces",
    "runtime": "core drafters policies",
    "record": "core drafters traces runtime",
    "distill": "core drafters runtime",
    "bench": "core drafters policies runtime",
    "report": "core",
    "serve": "core drafters policies traces",
}
LIGHT = ["torch", "transformers", "matplotlib", "pandas"]
LIVE = ("runtime", "record", "distill", "bench")
FREE = ("cli",)  # may import everything, but the live rooms only inside functions


def modules() -> Iterator[tuple[str, ast.Module]]:
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(p for p in parts if p != "__init__")
        yield name, ast.parse(file.read_text())


def imported(tree: ast.AST) -> set[str]:
    """Modules of the package that ``tree`` imports, without the package's own name."""
    known = {"metasd." + name for name, _ in ALL}
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            whole = [f"{node.module}.{a.name}" for a in node.names]
            found |= {name if name in known else node.module for name in whole}
    return {m.removeprefix("metasd.") for m in found & known}


ALL = list(modules())


def room(module: str) -> str:
    two = ".".join(module.split(".")[:2])
    return two if two in MAY_IMPORT else module.split(".")[0]


def top_level(tree: ast.Module) -> ast.Module:
    """``tree`` without functions: what is imported when the module is."""
    kept = [n for n in tree.body if not isinstance(n, ast.FunctionDef) and not _typing_only(n)]
    return ast.Module(kept, [])


def _typing_only(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


@pytest.mark.parametrize(("module", "tree"), [pytest.param(*m, id=m[0]) for m in ALL if room(m[0]) in MAY_IMPORT])
def test_a_room_imports_only_what_is_below_it(module: str, tree: ast.Module) -> None:
    mine = room(module)
    allowed = {mine, *MAY_IMPORT[mine].split()}
    assert {m for m in imported(tree) if room(m) not in allowed} == set()


def test_every_module_lies_in_a_room() -> None:
    known = {*MAY_IMPORT, *FREE}
    assert [m for m, _ in ALL if room(m) not in known and m not in ("", "__main__", "sim")] == []


def test_the_root_holds_rooms_only() -> None:
    files = {f.name for f in PACKAGE.iterdir() if f.is_file()}
    assert files <= {"__init__.py", "__main__.py", "py.typed"}


def test_no_two_modules_import_each_other() -> None:
    graph = {name: imported(tree) - {name} for name, tree in ALL}
    done: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, " -> ".join([*path[path.index(name) :], name])
        if name not in done:
            for other in sorted(graph[name]):
                visit(other, (*path, name))
            done.add(name)

    for name in graph:
        visit(name, ())


def test_commands_load_the_live_rooms_only_when_they_run() -> None:
    for module, tree in ALL:
        if room(module) in FREE:
            assert {m for m in imported(top_level(tree)) if room(m) in LIVE} == set(), module


@pytest.mark.parametrize("package", ["metasd", *sorted({r.split(".")[0] for r in MAY_IMPORT} - {*LIVE}), "cli"])
def test_torch_is_loaded_by_the_live_rooms_only(package: str) -> None:
    names = [f"metasd.{m}".rstrip(".") for m, _ in ALL if (package == "metasd" and not m) or m.split(".")[0] == package]
    code = (
        f"import importlib, sys\nfor m in {names!r}: importlib.import_module(m)\n"
        f"print([m for m in {LIGHT!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_the_links_at_the_top_are_not_importable() -> None:
    code = (
        "import importlib.util as u, sys; sys.path = [p for p in sys.path if p]\n"
        "print([m for m in ('sim', 'traces', 'policies') if u.find_spec(m)])"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == "[]"
