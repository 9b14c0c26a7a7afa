"""How text of any content is shown: in a table, a report, a message, on a terminal of any kind.

Domains, ids, model names and answers are other people's: they hold control characters, ANSI escapes, marks that turn
the writing direction, halves of UTF-16 pairs, whole pages. The one rule: what does not print, or changes how its
neighbours print, is shown as the escape a programmer would write (``\\x1b``). Markup is the caller's: hand rich a
``rich.text.Text``, HTML an escaped string, never text in which brackets mean something.
"""

from __future__ import annotations

import unicodedata

LIMIT = 120
"""Characters of a name in a table; of a longer one both ends are shown."""
MESSAGE = 4000
"""Characters of a message."""

_HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
_TEXT = "\n\t\u200c\u200d"  # joiners spell words in Persian and Hindi, and families of emoji


def line(value: object, limit: int | None = None) -> str:
    """``value`` as one line of characters that print; with ``limit`` the middle of a longer one is left out."""
    text = _escaped(str(value), keep="")
    if limit is None or len(text) <= limit:
        return text
    tail = limit // 3
    return f"{text[: limit - tail - 1]}…{text[-tail:]}"


def name(value: object) -> str:
    """``line`` at the length of a table's cell."""
    return line(value, LIMIT)


def block(text: str) -> str:
    """``text`` with its lines and tabs as they are, and what else does not print escaped."""
    return _escaped(text, keep=_TEXT)


def message(text: object) -> str:
    """A message as one line: the lines of a library's error joined, its own words whole."""
    return line(" ".join(str(text).split()), MESSAGE)


def reason(error: BaseException) -> str:
    """What an exception says, on one line; its kind where it says nothing."""
    return message(error) or type(error).__name__


def _escaped(text: str, keep: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    return "".join(c if c in keep or not _hidden(c) else _escape(c) for c in text)


def _hidden(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN or ord(character) & 0xFFFE == 0xFFFE


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
