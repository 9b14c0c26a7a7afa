"""A reader whose logits are what the target's generation settings leave of them, each row by its own prefix."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from metasd.record.reader import Reader
from metasd.runtime.processors import RowProcessors


class ProcessedReader:
    """``reader``, processed. Implements ``metasd.record.reader.Reader``.

    Attributes:
        process: the processors of the text that is read next.
    """

    process: RowProcessors

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._text: list[int] = []
        self._prefixes: list[list[int]] = []  # of every node: all tokens up to it, its own included

    def read(self, tokens: Sequence[int], first: int, width: int) -> Iterator[tuple[int, Tensor]]:
        self._text, self._prefixes = list(tokens), []
        for seen, logits in self._reader.read(tokens, first, width):
            yield seen, self.process.rows(self._text[: seen + len(logits) - 1], logits)

    def grow(self, tokens: Sequence[int], seen: Sequence[int], parents: Sequence[int]) -> Tensor:
        logits, old = self._reader.grow(tokens, seen, parents), len(self._prefixes)
        for token, known, parent in zip(tokens, seen, parents, strict=True):
            before = self._text[:known] if parent < 0 else self._prefixes[parent]
            self._prefixes.append([*before, token])
        return self.process.each(self._prefixes[old:], logits)

    def drop(self) -> None:
        self._reader.drop()
        self._prefixes = []
