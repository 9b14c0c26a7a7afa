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


TRAINED_WITH = ("sb3-contrib", "stable-baselines3")
"""Only tests install them, but what they test is that these work, so their floors are tested as well."""


def _tested() -> dict[str, str]:
    """The floors of ``TRAINED_WITH`` in tox.ini."""
    config = ConfigParser(interpolation=None)
    config.read(ROOT / "tox.ini")
    lines = [line for section in config.values() for line in section.get("deps", "").split()]
    pairs = dict(line.split(">=") for line in lines if ">=" in line)
    return {name: pairs[name] for name in TRAINED_WITH}


def test_every_direct_dependency_is_pinned():
    assert set(_floors()) | _tox() == set(_pins("constraints.txt"))


def test_the_lowest_set_is_what_pyproject_and_tox_state():
    pinned, floors = _pins("constraints-lowest.txt"), _floors() | _tested()
    assert pinned.keys() == floors.keys()
    for name in pinned.keys() - {"torch"}:  # torch stays at the build that lies ready
        assert re.fullmatch(rf"{re.escape(floors[name])}(\.0)*", pinned[name]), name


def test_the_newest_set_holds_torch_alone():
    assert _pins("constraints-newest.txt") == {"torch": _pins("constraints.txt")["torch"]}
