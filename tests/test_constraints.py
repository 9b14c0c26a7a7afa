"""The constraint files say what they claim: every direct dependency pinned, and the floors of pyproject exactly."""

from __future__ import annotations

import re
import tomllib
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NAME = re.compile(r"[A-Za-z0-9_-]+(?=\s*[<>=])")


def _pins(file: str) -> dict[str, str]:
    lines = (line.partition("#")[0].strip() for line in (ROOT / file).read_text().splitlines())
    return dict(line.split("==") for line in lines if line)


def _floors() -> dict[str, str]:
    extras = PROJECT["optional-dependencies"].values()
    wanted = [*PROJECT["dependencies"], *(line for extra in extras for line in extra)]
    return dict(re.split(">=", line) for line in wanted)


def _tox() -> set[str]:
    config = ConfigParser(interpolation=None)
    config.read(ROOT / "tox.ini")
    lines = [
        line for section in config.values() for key in ("deps", "commands_pre") for line in section.get(key, "").split()
    ]
    return {match[0] for line in lines if (match := NAME.match(line))}


def test_every_direct_dependency_is_pinned():
    assert set(_floors()) | _tox() == set(_pins("constraints.txt"))


def test_the_lowest_set_is_what_pyproject_states():
    pinned, floors = _pins("constraints-lowest.txt"), _floors()
    assert pinned.keys() == floors.keys()
    for name in pinned.keys() - {"torch"}:  # torch stays at the build that lies ready
        assert re.fullmatch(rf"{re.escape(floors[name])}(\.0)*", pinned[name]), name


def test_the_newest_set_holds_torch_alone():
    assert _pins("constraints-newest.txt") == {"torch": _pins("constraints.txt")["torch"]}
