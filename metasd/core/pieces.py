"""An answer as text, token by token: what can be shown already, and where a stop string cuts it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from metasd.core.pool import Pool

UNFINISHED = "\ufffd"
"""What tokenizers decode the first bytes of a character to."""


class Speller:
    """Turns tokens into pieces of text. Their sum, with ``rest``, is the text before the first stop string.

    decode: token ids to text. Tokens are decoded in the context of all before them, since a token may be part of a
    character; text that is not complete yet, or that may be the beginning of a stop string, waits.
    """

    def __init__(self, decode: Callable[[Sequence[int]], str], stops: Sequence[str] = ()) -> None:
        self._decode, self._stops = decode, tuple(stops)
        self._ids: list[int] = []
        self._shown = 0

    def take(self, token: int) -> str:
        """The text that ``token`` completes."""
        self._ids.append(token)
        text = self._decode(self._ids)
        if text.endswith(UNFINISHED):
            return ""
        kept = cut(text, self._stops)
        return self._up_to(kept[: len(kept) - _begun(kept, self._stops)] if kept == text else kept)

    def rest(self) -> str:
        """What was still waiting when the answer ended."""
        return self._up_to(cut(self._decode(self._ids), self._stops))

    def _up_to(self, text: str) -> str:
        piece = text[self._shown :]
        self._shown = max(self._shown, len(text))
        return piece


def cut(text: str, stops: Sequence[str]) -> str:
    """``text`` before the first of ``stops``."""
    return text[: min((at for at in map(text.find, stops) if at >= 0), default=len(text))]


def _begun(text: str, stops: Sequence[str]) -> int:
    """Length of the longest end of ``text`` that is the beginning of a stop string."""
    return max((n for stop in stops for n in range(1, len(stop)) if text.endswith(stop[:n])), default=0)


def sources(pool: Pool, arm: int, emitted: int, accepted: int) -> list[int]:
    """Who each token of a round is from: the arm's drafter for the accepted ones, -1 for the target's own."""
    return [pool.arms[arm].drafter if i < accepted else -1 for i in range(emitted)]
