"""Other people's words inside a terminal's tables: brackets are brackets, and what does not print is escaped."""

from __future__ import annotations

from rich.text import Text

from metasd.core import shown


def words(value: object, style: str = "", limit: int | None = shown.LIMIT) -> Text:
    """``value`` as a cell or title."""
    return Text(shown.line(value, limit), style=style)
