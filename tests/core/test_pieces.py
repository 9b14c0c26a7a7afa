"""Answers token by token: no character in halves, no stop string shown, nothing lost."""

from __future__ import annotations

import pytest

from metasd.core.pieces import Speller, cut


def decode(ids):
    return bytes(ids).decode(errors="replace")


@pytest.mark.parametrize(
    ("text", "stops", "shown"),
    [
        ("Grüße, 世界!", (), "Grüße, 世界!"),
        ("one\n\ntwo", ("\n\n",), "one"),
        ("one\ntwo\n", ("\n\n",), "one\ntwo\n"),
        ("abcabd", ("abd", "zz"), "abc"),
        ("aaab", ("aab",), "a"),
        ("end", ("e",), ""),
    ],
)
def test_the_pieces_are_the_text_before_the_stop(text, stops, shown):
    speller = Speller(decode, stops)
    pieces = [speller.take(byte) for byte in text.encode()]
    assert all("\ufffd" not in piece for piece in pieces)
    assert "".join(pieces) + speller.rest() == shown == cut(text, stops)


def test_a_character_that_never_ends_is_shown_at_the_end():
    speller = Speller(decode)
    assert [speller.take(b) for b in (65, 0xC3)] == ["A", ""]
    assert speller.rest() == "\ufffd"
