"""Decoded answers, every token in the colour of the drafter that produced it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.text import Text

from metasd.core import files, shown
from metasd.core.pieces import Speller, sources
from metasd.core.pool import Pool
from metasd.report.cells import words

# Told apart by most colour-blind readers (Okabe and Ito 2008), one a drafter in pool order.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#999999")
TARGET_STYLE = "dim"


def colour(drafter: int) -> str:
    """The colour of a drafter, by its place in the pool."""
    return PALETTE[drafter % len(PALETTE)]


class Painter:
    """Prints answers as they are decoded, every token in its colour, then a legend; ``svg``: also writes the picture.

    decode: token ids to text.
    headings: a line above each answer; none for a single one.
    stops: of each answer, the texts that end it and are not shown.
    prompt, remark: what the picture says above and below the answer; ``remark`` may be set when all is decoded.
    """

    def __init__(
        self,
        pool: Pool,
        decode: Callable[[Sequence[int]], str],
        svg: Path | None = None,
        *,
        headings: Sequence[str] = (),
        stops: Sequence[Sequence[str]] = (),
        prompt: str = "",
    ) -> None:
        self.pool, self.decode, self.svg, self.headings, self.stops = pool, decode, svg, headings, stops
        self.prompt, self.remark = prompt, ""
        self.console = Console()
        self.answer = Text()
        self.by_source: dict[int, int] = {}
        self._at = -1
        self._speller = Speller(decode)

    def __enter__(self) -> Painter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if kind is not None:
            return
        self._end()
        self.console.print(self.legend())
        if self.svg is not None:
            files.write_text(self.svg, self._picture())

    def _picture(self) -> str:
        """The answer and its legend as SVG, in whatever fixed-width font the reader has: nothing is fetched."""
        page = Console(record=True, width=100, file=io.StringIO())
        page.print(Text(shown.block(self.prompt) + "\n", style="bold"))
        page.print(self.answer)
        page.print(self.legend())
        page.print(words(self.remark, TARGET_STYLE, None))
        return re.sub(r"@font-face \{.*?\}", "", page.export_svg(title="metasd run"), flags=re.DOTALL)

    def tokens(self, prompt: int, tokens: Sequence[int], arm: int, accepted: int) -> None:
        """Take the tokens of one round: the first ``accepted`` are the drafter's, the rest the target's own."""
        if prompt != self._at:
            self._begin(prompt)
        for token, source in zip(tokens, sources(self.pool, arm, len(tokens), accepted), strict=True):
            self.by_source[source] = self.by_source.get(source, 0) + 1
            self._show(self._speller.take(token), TARGET_STYLE if source < 0 else colour(source))

    def _begin(self, prompt: int) -> None:
        self._end()
        self._at, self.answer = prompt, Text()
        self._speller = Speller(self.decode, self.stops[prompt] if self.stops else ())
        if self.headings:
            self.console.print(words(self.headings[prompt], "bold", None))

    def _end(self) -> None:
        if self._at >= 0:
            self._show(self._speller.rest(), TARGET_STYLE)
            self.console.print()

    def _show(self, text: str, style: str) -> None:
        if text:
            piece = Text(shown.block(text), style=style)
            self.answer.append_text(piece)
            self.console.print(piece, end="", soft_wrap=True)

    def legend(self) -> Text:
        """Which colour is which drafter, with its share of the tokens."""
        total = max(sum(self.by_source.values()), 1)
        parts = [Text("\n")]
        for source, n in sorted(self.by_source.items()):
            name = "the target itself" if source < 0 else shown.name(self.pool.drafters[source].name)
            style = TARGET_STYLE if source < 0 else colour(source)
            parts.append(Text(f"■ {name} {n / total:.0%}   ", style=style))
        return Text.assemble(*parts)


class Voice:
    """Prints one answer of a conversation, piece by piece, each in the colour of the drafter it came from."""

    def __init__(self, pool: Pool) -> None:
        self._places = {d.name: i for i, d in enumerate(pool.drafters)}
        self._console = Console()

    def say(self, piece: str, drafter: str | None) -> None:
        """``piece`` of the answer; None: the target's own."""
        style = TARGET_STYLE if drafter is None else colour(self._places[drafter])
        self._console.print(Text(shown.block(piece), style=style), end="", soft_wrap=True)

    def end(self, remark: str) -> None:
        """The answer is complete; ``remark`` goes to stderr, since it is not part of it."""
        self._console.print()
        Console(stderr=True).print(words(remark, TARGET_STYLE, None))
