"""Text of any content as it is shown."""

from __future__ import annotations

import pytest

from metasd.core import shown


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain [bold] text", "plain [bold] text"),
        ("grüße 字 \U0001f600", "grüße 字 \U0001f600"),
        ("\x1b[31mred\x07\x00\x7f\x9b", r"\x1b[31mred\x07\x00\x7f\x9b"),
        ("a\nb\tc\r\u2028d", r"a\nb\tc\r\u2028d"),
        ("\ud83d half", r"\ud83d half"),
        ("\u202eright to left\u2066\u200f", r"\u202eright to left\u2066\u200f"),
        ("zero\u200bwidth \ufeff", r"zero\u200bwidth \ufeff"),
        ("no character \ufffe\U0010ffff", r"no character \ufffe\U0010ffff"),
    ],
)
def test_a_line_prints(text: str, seen: str) -> None:
    assert shown.line(text) == seen
    shown.line(text).encode()


def test_a_block_keeps_what_writes_text() -> None:
    assert shown.block("a\n\tb \u0646\u200c\u0627 \x1b[2J\u202e") == "a\n\tb \u0646\u200c\u0627 \\x1b[2J\\u202e"


def test_a_long_name_shows_both_ends() -> None:
    one, two = "d" * 100_000 + "1", "d" * 100_000 + "2"
    assert len(shown.name(one)) == shown.LIMIT
    assert shown.name(one) != shown.name(two)


def test_a_message_is_whole_and_one_line() -> None:
    assert shown.reason(ValueError("cannot, because of one of:\n  (1) this\n\n  (2) that")) == (
        "cannot, because of one of: (1) this (2) that"
    )
    assert shown.reason(KeyboardInterrupt()) == "KeyboardInterrupt"
