"""A decoded answer, every token in the colour of the drafter that produced it."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.text import Text

from metasd.core import files, shown
from metasd.core.pool import Pool

# Told apart by most colour-blind readers (Okabe and Ito 2008), one a drafter in pool order.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#999999")
TARGET_STYLE = "dim"


def colour(drafter: int) -> str:
    """The colour of a drafter, by its place in the pool."""
    return PALETTE[drafter % len(PALETTE)]


class Painter:
    """Prints tokens as they are decoded, then a legend; with ``svg`` also writes the picture.

    decode: token ids to text. Tokens are decoded in the context of all before them, since a token may be part of a
    character; text that is not complete yet waits for the next token.
    """

    def __init__(self, pool: Pool, decode: Callable[[Sequence[int]], str], svg: Path | None = None) -> None:
        self.pool, self.decode, self.svg = pool, decode, svg
        self.console = Console()
        self.ids: list[int] = []
        self.shown = ""
        self.answer = Text()
        self.by_source: dict[int, int] = {}

    def __enter__(self) -> Painter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        if kind is not None:
            return
        self.console.print()
        self.console.print(self.legend())
        if self.svg is not None:
            files.write_text(self.svg, self._picture())

    def _picture(self) -> str:
        """The answer and its legend as SVG, in whatever fixed-width font the reader has: nothing is fetched."""
        page = Console(record=True, width=100, file=io.StringIO())
        page.print(self.answer)
        page.print(self.legend())
        return re.sub(r"@font-face \{.*?\}", "", page.export_svg(title="metasd run"), flags=re.DOTALL)

    def tokens(self, prompt: int, tokens: Sequence[int], arm: int, accepted: int) -> None:
        """Take the tokens of one round: the first ``accepted`` are the drafter's, the rest the target's own."""
        for i, token in enumerate(tokens):
            source = self.pool.arms[arm].drafter if i < accepted else -1
            self.by_source[source] = self.by_source.get(source, 0) + 1
            self._take(token, TARGET_STYLE if source < 0 else colour(source))

    def _take(self, token: int, style: str) -> None:
        self.ids.append(token)
        text = self.decode(self.ids)
        if text.endswith("�"):
            return
        piece = Text(shown.block(text[len(self.shown) :]), style=style)
        self.shown = text
        self.answer.append_text(piece)
        self.console.print(piece, end="", soft_wrap=True)

    def legend(self) -> Text:
        """Which colour is which drafter, with its share of the tokens."""
        total = max(len(self.ids), 1)
        parts = [Text("\n")]
        for source, n in sorted(self.by_source.items()):
            name = "the target itself" if source < 0 else shown.name(self.pool.drafters[source].name)
            style = TARGET_STYLE if source < 0 else colour(source)
            parts.append(Text(f"■ {name} {n / total:.0%}   ", style=style))
        return Text.assemble(*parts)
