"""The modelled clocks that ship: costs of machines nobody here has timed, by a published formula."""

from __future__ import annotations

from pathlib import Path

CLOCKS = Path(__file__).parent.parent / "data" / "clocks"


def shipped() -> list[str]:
    """Their names."""
    return sorted(file.stem for file in CLOCKS.glob("*.json"))


def find(name: Path) -> Path:
    """The file called ``name``, or the shipped clock of that name; ``name`` itself where neither exists."""
    own = CLOCKS / f"{name}.json"
    return own if not name.exists() and own.is_file() else name
