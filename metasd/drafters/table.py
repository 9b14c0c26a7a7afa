"""The training-free specialist: the longest known run wins, looked up in the text first, in a table second.

Drafts one token at a time. For runs of 4, 3, 2, 1 tokens at the end of text and draft: if the run occurred in the
text, its latest occurrence says what follows; else, if the table of the target's earlier output knows it, the table
does; else the next shorter run is tried. A draft ends where no run is known.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from metasd.core import poolfolder
from metasd.core.errors import UsageError
from metasd.core.pool import DrafterInfo
from metasd.drafters.base import Draft
from metasd.drafters.index import RECENT, ContextIndex, other_than
from metasd.drafters.ngrams import ORDER, NgramCounts, NgramTable, Table
from metasd.drafters.text import Evidence, Finding, TextDrafterBase

SHIPPED = Path(__file__).parent.parent / "data" / "tables"
SHIPPED_FOR = "smollm2"

GROWTH_LIMIT = 250_000
"""Answer tokens after which a growing table stops learning: about 200 MB."""


class Step(NamedTuple):
    """One drafted token: its order, and its latest occurrence in the text or None when the table knew it."""

    token: int
    confidence: float
    order: int
    source: int | None


class TableDrafter(TextDrafterBase):
    """A back-off n-gram table joined with the text. ``path=`` names a table; without it one grows.

    Args:
        path: a file made by ``metasd distill``, or the name of a shipped table (code, math, chat for SmolLM2).
            None grows a table from the target's own output: ``begin`` takes the answer just finished into it, so
            what is proposed depends on the texts decoded before, in their order. It stops at ``GROWTH_LIMIT`` tokens.
        name: how the pool calls it; ``table-<name of the file>``, or ``table``.
        draft_length: most tokens it proposes.

    Confidence of a token from the text: the share of the recent occurrences of the run that it followed; from the
    table: its share there. With the first token from the table, ``match_length`` is the length of the run the table
    knew, and ``latest`` and ``depth`` are NaN: no occurrence in the text is as long.

    Raises UsageError when the table cannot be read.
    """

    def __init__(self, path: str | None = None, name: str | None = None, draft_length: int = 8) -> None:
        self.table: Table
        settings: dict[str, object] = {"draft_length": draft_length}
        if path is None:
            self._grown: NgramCounts | None = NgramCounts(ORDER)
            self.table = self._grown
            settings |= {"grows": True, "grows_to": GROWTH_LIMIT, "order": ORDER}
        else:
            file = resolve(path)
            self._grown = None
            self.table = loaded = NgramTable.load(file)
            about = loaded.info
            settings |= {"path": path, "grows": False, "order": about.order, "domain": about.domain}
            settings |= {"tokenizer": about.tokenizer, "vocabulary": about.vocabulary, "target": about.target}
            settings |= {"tokens": about.tokens, "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        self._set_up(draft_length, ContextIndex(1, self.table.order))
        self.info = DrafterInfo(name or default_name(path), "table", free=True, deterministic=True, settings=settings)

    @property
    def remembers(self) -> bool:
        return self._grown is not None

    def require(self, tokenizers: Collection[str], vocabulary: int) -> None:
        """Raises UsageError unless the table was made with the target's tokenizer and its tokens exist there.

        Args:
            tokenizers: hashes of the target's tokenizer and of those it only adds tokens to.
            vocabulary: columns of the target's logits; models of one family pad them differently.
        """
        if not isinstance(self.table, NgramTable):
            return
        about, largest = self.table.info, self.table.largest()
        problem = f"drafter {self.info.name!r}: its table was made with the tokenizer of {about.target or 'a file'}"
        if about.tokenizer not in tokenizers:
            raise UsageError(f"{problem}, which is not this target's; make one with metasd distill")
        if largest >= vocabulary:
            raise UsageError(f"{problem} and has token {largest}, which this target, of {vocabulary}, lacks")

    def closed(self) -> None:
        if self._grown is not None:
            self._learn(self._grown)

    def _learn(self, counts: NgramCounts) -> None:
        """Count the answer just finished, up to the limit."""
        first = max(self.prompt_length - ORDER, 0)
        room = GROWTH_LIMIT - counts.tokens
        counts.add(self.index.tokens[first : self.prompt_length + room], self.prompt_length - first)

    def find(self) -> Finding | None:
        self._walked: list[Step] = []
        tail = tuple(self.index.tokens[-self.table.order :])
        step = self._next(tail)
        if step is None:
            return None
        self._walked.append(step)
        return Finding(step.token, tail[-step.order :] if step.source is None else step.source)

    def evidence(self, found: Finding) -> Evidence:
        steps = self._walk(self.draft_length)
        first = steps[0]
        if first.source is None:
            return Evidence(first.order, len(steps), first.confidence, float("nan"), float("nan"), False, True)
        tokens, source = self.index.tokens, first.source
        known = self.index.occurrences(tuple(tokens[-first.order :])) or [source]
        other = other_than(source, known)
        depth = 0
        for step, its in zip(steps, tokens[other : other + len(steps)], strict=False):
            if step.token != its:
                break
            depth += 1
        return Evidence(
            match_length=self.index.backward_match(source),
            proposal_length=len(steps),
            share=first.confidence,
            latest=float(tokens[other] == first.token),
            depth=depth,
            in_prompt=source < self.prompt_length,
            from_table=False,
        )

    def offered(self, found: Finding, length: int) -> list[int]:
        return [s.token for s in self._walk(length)[:length]]

    def propose(self, found: Finding, length: int) -> Draft:
        steps = self._walk(length)[:length]
        return Draft([s.token for s in steps], [s.confidence for s in steps])

    # -- helpers ------------------------------------------------------------------------------------------------

    def _walk(self, length: int) -> list[Step]:
        """The first ``length`` steps, fewer where no run is known; walked once per commit, whoever asks."""
        order, steps = self.table.order, self._walked
        while len(steps) < length:
            drafted = [s.token for s in steps[-order:]]
            kept = order - len(drafted)
            step = self._next((*self.index.tokens[-kept:], *drafted) if kept else tuple(drafted))
            if step is None:
                break
            steps.append(step)
        return steps

    def _next(self, tail: tuple[int, ...]) -> Step | None:
        """What follows ``tail``, by its longest known end."""
        tokens, occurrences, entries = self.index.tokens, self.index.occurrences, self.table.get
        order = len(tail)
        while order:
            known = occurrences(tail)
            if known is not None:
                recent = known[-RECENT:]
                last = recent[-1]
                token = tokens[last]
                share = 1.0 if len(recent) == 1 else [tokens[o] for o in recent].count(token) / len(recent)
                return Step(token, share, order, last)
            entry = entries(tail)
            if entry is not None:
                return Step(entry[0], entry[1], order, None)
            tail = tail[1:]
            order -= 1
        return None


def shipped() -> list[str]:
    """Names of the tables in the package."""
    return sorted(p.stem.removeprefix(f"{SHIPPED_FOR}-") for p in SHIPPED.glob(f"{SHIPPED_FOR}-*.safetensors"))


def resolve(path: str) -> Path:
    """The file behind ``path=``: itself, or the shipped table of that name. Raises UsageError when there is none."""
    own = Path(path)
    if own.is_file():
        return own
    if path in shipped():
        return SHIPPED / f"{SHIPPED_FOR}-{path}.safetensors"
    raise UsageError(
        f"table {path!r} is neither a file nor a shipped table; shipped are {', '.join(shipped()) or 'none'}"
    )


def tables_of(folder: str) -> list[str]:
    """The tables of a folder that ``metasd distill`` wrote, one a domain. Raises UsageError for another folder."""
    found = [member.path for member in poolfolder.members(folder) if member.kind == "table"]
    if not found:
        raise UsageError(f"{folder} is no folder of tables that metasd distill wrote; a model is model:path={folder}")
    return found


def default_name(path: str | None) -> str:
    """``table-code`` for the shipped table ``code`` and for any file ``code.safetensors``; ``table`` for none."""
    return "table" if path is None else f"table-{Path(path).stem.removeprefix(f'{SHIPPED_FOR}-')}"
