"""Imports point one way: core <- {policies, traces, drafters} <- {sim, runtime} <- cli, and torch stays in runtime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import metasd

PACKAGE = Path(metasd.__file__).parent
RULES = {  # package -> what must not be loaded by importing everything in it
    "metasd": ("torch", "transformers", "matplotlib", "pandas"),
    "metasd.policies": ("torch", "transformers", "metasd.traces", "metasd.sim", "metasd.runtime"),
    "metasd.drafters": ("torch", "transformers", "metasd.traces", "metasd.sim", "metasd.runtime"),
    "metasd.traces": ("torch", "transformers", "metasd.sim", "metasd.runtime", "metasd.policies"),
    "metasd.sim": ("torch", "transformers", "metasd.runtime"),
    "metasd.report": ("torch", "transformers", "metasd.runtime"),
    "metasd.cli": ("torch", "transformers", "metasd.runtime", "matplotlib"),
}
LIGHT = "metasd"


def modules_of(package: str) -> list[str]:
    if package == LIGHT:
        return [LIGHT]
    folder = PACKAGE / package.removeprefix("metasd.").replace(".", "/")
    files = sorted(folder.rglob("*.py"))
    assert files, f"{package} has no modules"
    return [
        ".".join(("metasd", *f.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__") for f in files
    ]


@pytest.mark.parametrize(("package", "forbidden"), RULES.items())
def test_a_package_loads_nothing_from_above_it(package: str, forbidden: tuple[str, ...]) -> None:
    # metasd/__init__ registers the environment by name only, so nothing of sim comes with it.
    code = (
        f"import importlib, sys\nfor m in {modules_of(package)!r}: importlib.import_module(m)\n"
        f"print([m for m in {forbidden!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("module", list(modules_of("metasd.runtime")))
def test_runtime_never_loads_gymnasiums_side(module: str) -> None:
    code = f"import {module}, sys; print([m for m in sys.modules if m.startswith('metasd.sim')])"
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
