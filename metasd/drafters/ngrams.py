"""Back-off n-gram tables over token ids: counting, the packed file, and its metadata.

Knows nothing of drafting. A *run* of one to ``order`` tokens maps to the token that most often followed it and the
share of its occurrences that did; a table may keep the next best ones as well, for trees.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from metasd.core import files, jsontext
from metasd.core.errors import UsageError

FORMAT = "metasd-table-1"
ORDER = 4

Run = tuple[int, ...]
Entry = tuple[int, float]
"""The token most often seen behind a run, and its share of what was seen there."""


class Table(Protocol):
    """What a table drafter asks: the entry of a run, None when it is unknown."""

    order: int

    @property
    def get(self) -> Callable[[Run], Entry | None]: ...


class NgramCounts:
    """Counts of what followed every run of 1 to ``order`` tokens; grows as texts are added.

    Of two continuations seen equally often the one that got there first stands.
    """

    def __init__(self, order: int = ORDER) -> None:
        self.order = order
        self.tokens = 0
        self._counts: dict[Run, dict[int, int]] = {}
        self._best: dict[Run, int] = {}

    def add(self, text: Sequence[int], start: int = 0) -> None:
        """Count the tokens of ``text`` from index ``start`` on; earlier ones only serve as what they follow."""
        for here in range(start, len(text)):
            token = text[here]
            for order in range(1, min(self.order, here) + 1):
                self._count(tuple(text[here - order : here]), token)
        self.tokens += max(len(text) - start, 0)

    def _count(self, run: Run, token: int) -> None:
        counts = self._counts.setdefault(run, {})
        counts[token] = counts.get(token, 0) + 1
        if counts[token] > counts[self._best.setdefault(run, token)]:
            self._best[run] = token

    def get(self, run: Run) -> Entry | None:
        token = self._best.get(run)
        if token is None:
            return None
        counts = self._counts[run]
        return token, counts[token] / sum(counts.values())

    def others(self, most: int) -> dict[Run, tuple[Entry, ...]]:
        """Of runs with several continuations the next best ``most``, best first; of equal ones the one seen first."""
        made: dict[Run, tuple[Entry, ...]] = {}
        for run, counts in self._counts.items():
            if most and len(counts) > 1:
                rest = sorted((c for c in counts.items() if c[0] != self._best[run]), key=lambda c: -c[1])
                made[run] = tuple((token, count / sum(counts.values())) for token, count in rest[:most])
        return made

    def entries(self) -> dict[Run, Entry]:
        return {
            run: (token, self._counts[run][token] / sum(self._counts[run].values()))
            for run, token in self._best.items()
        }


@dataclass(frozen=True, slots=True)
class TableInfo:
    """Where a table comes from. ``tokenizer`` is a hash; a table serves targets with that tokenizer only."""

    tokenizer: str
    vocabulary: int
    domain: str = "default"
    target: str = ""
    tokens: int = 0
    order: int = ORDER


class NgramTable:
    """A finished table. Confidences are kept in steps of 1/255, as the file has them.

    others: of some runs the next best continuations, best first; a table made for chains has none.
    """

    def __init__(
        self, entries: dict[Run, Entry], info: TableInfo, others: dict[Run, tuple[Entry, ...]] | None = None
    ) -> None:
        self._entries = entries
        self.get = entries.get  # the entry of a run, None when it is unknown
        self.others = others or {}
        self.info = info
        self.order = info.order

    def __len__(self) -> int:
        return len(self._entries)

    def entries(self) -> dict[Run, Entry]:
        """All runs and what follows them; not to be changed."""
        return self._entries

    def largest(self) -> int:
        """The largest token id in it, -1 when it is empty."""
        told = (token for others in self.others.values() for token, _ in others)
        return max((*(max(*run, token) for run, (token, _) in self._entries.items()), *told), default=-1)

    @classmethod
    def build(
        cls,
        sequences: Iterable[Sequence[int]],
        order: int = ORDER,
        *,
        tokenizer: str,
        vocabulary: int,
        domain: str = "default",
        target: str = "",
        best: int = 1,
    ) -> NgramTable:
        """Count ``sequences`` of token ids, each beginning with what its first counted token followed, if anything.

        best: continuations kept of a run. Raises UsageError when a token lies outside the vocabulary or an order
        outside 1..8.
        """
        if not 1 <= order <= 8:
            raise UsageError(f"order {order} is not between 1 and 8")
        counts = NgramCounts(order)
        for sequence in sequences:
            if any(not 0 <= token < vocabulary for token in sequence):
                raise UsageError(f"a token lies outside the vocabulary of {vocabulary}; is the tokenizer the target's?")
            counts.add(sequence)
        entries = {run: (token, _steps(share) / 255) for run, (token, share) in counts.entries().items()}
        others = {
            run: tuple((token, _steps(share) / 255) for token, share in told)
            for run, told in counts.others(best - 1).items()
        }
        return cls(entries, TableInfo(tokenizer, vocabulary, domain, target, counts.tokens, order), others)

    # -- file ---------------------------------------------------------------------------------------------------

    def save(self, path: Path | str) -> None:
        """Write one safetensors file: per order k the sorted runs [n, k], their tokens [n] and shares [n] (u8).

        Further continuations, where there are any, are rows of their own: which run [m], token [m] and share [m], best
        first. Who does not know them finds the rest as it was. Raises FileError.
        """
        kind = np.uint16 if self.info.vocabulary <= 1 << 16 else np.uint32
        arrays: dict[str, NDArray[Any]] = {}
        for order in range(1, self.order + 1):
            rows = sorted((run, *entry) for run, entry in self._entries.items() if len(run) == order)
            arrays[f"runs{order}"] = np.array([r[0] for r in rows], kind).reshape(-1, order)
            arrays[f"tokens{order}"] = np.array([r[1] for r in rows], kind)
            arrays[f"shares{order}"] = np.array([_steps(r[2]) for r in rows], np.uint8)
            if self.others:
                more = [(at, *other) for at, row in enumerate(rows) for other in self.others.get(row[0], ())]
                arrays[f"others{order}"] = np.array([m[0] for m in more], np.uint32)
                arrays[f"others_tokens{order}"] = np.array([m[1] for m in more], kind)
                arrays[f"others_shares{order}"] = np.array([_steps(m[2]) for m in more], np.uint8)
        # One key of metadata: safetensors writes several in no fixed order, and equal tables should be equal files.
        data = save(arrays, {"table": json.dumps({"format": FORMAT, **asdict(self.info)})})
        files.write_bytes(path, data)  # save_file would leave it readable by the owner alone

    @classmethod
    def load(cls, path: Path | str) -> NgramTable:
        """Read a file made by ``save``. Raises UsageError when there is none, or it is not a table."""
        try:
            with safe_open(path, "numpy") as file:
                about = jsontext.loads((file.metadata() or {}).get("table", "{}"))
                if about.pop("format", None) != FORMAT:
                    raise UsageError(f"{path} is not a table of format {FORMAT}; make one with metasd distill")
                info = TableInfo(**about)
                entries: dict[Run, Entry] = {}
                others: dict[Run, tuple[Entry, ...]] = {}
                for order in range(1, info.order + 1):
                    runs = [tuple(run) for run in file.get_tensor(f"runs{order}").tolist()]
                    shares = (file.get_tensor(f"shares{order}") / 255).tolist()
                    following = zip(file.get_tensor(f"tokens{order}").tolist(), shares, strict=True)
                    entries.update(zip(runs, following, strict=True))
                    if f"others{order}" in file.keys():  # noqa: SIM118 - no mapping
                        others |= _others(file, order, runs)
        except (OSError, SafetensorError, KeyError, IndexError, TypeError, ValueError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(f"table {path} cannot be read ({error}); make it anew with metasd distill") from None
        return cls(entries, info, others)


def _others(file: Any, order: int, runs: Sequence[Run]) -> dict[Run, tuple[Entry, ...]]:
    """The further continuations of runs of one ``order``. Raises IndexError for a run that is not there."""
    made: dict[Run, tuple[Entry, ...]] = {}
    names = (f"others{order}", f"others_tokens{order}", f"others_shares{order}")
    for at, token, steps in zip(*(file.get_tensor(name).tolist() for name in names), strict=True):
        made[runs[at]] = (*made.get(runs[at], ()), (token, steps / 255))
    return made


def _steps(share: float) -> int:
    """A share as the file keeps it: 1..255."""
    return max(1, round(255 * share))
