"""One prompt's record, and how records become the arrays of a shard. Knows shapes, nothing of files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from metasd.core import jsontext
from metasd.core.errors import UsageError
from metasd.core.signals import F
from metasd.traces import format as fmt

DEPTH_FIELDS = ("accept", "overlap", "confidence", "draft_tokens")
"""Columns whose axes are row, drafter and depth."""
DRAFTER_FIELDS = ("proposed", "accepted", *DEPTH_FIELDS, "signals")
"""Columns whose second axis is the drafter."""
ROW_FIELDS = (*DRAFTER_FIELDS, "margin")


@dataclass(slots=True)
class PromptRecord:
    """All that was recorded of one prompt. n rows = answer tokens, D drafters, G longest draft, F signals.

    Arrays are named as in ``Trace``; optional ones are present for all prompts of a trace or for none.
    """

    id: str
    domain: str
    prompt_tokens: Sequence[int] | NDArray[Any] | None
    tokens: Sequence[int] | NDArray[Any]  # [n], n >= 1
    ended: bool
    proposed: NDArray[Any]  # [n, D]
    accepted: NDArray[Any]  # [n, D]
    accept: NDArray[Any] | None = None  # [n, D, G]
    overlap: NDArray[Any] | None = None  # [n, D, G]
    confidence: NDArray[Any] | None = None  # [n, D, G]
    draft_tokens: NDArray[Any] | None = None  # [n, D, G]
    signals: NDArray[Any] | None = None  # [n, D, F]
    margin: NDArray[Any] | None = None  # [n]
    column_text: NDArray[np.int64] | None = None  # [D] text_hash each column was recorded on; None: this text
    unaligned: bool = False  # some column speaks of another text, and the trace is to keep the prompt all the same
    prompt_length: int | None = None  # where prompt_tokens are not kept

    @property
    def present(self) -> tuple[str, ...]:
        """The optional fields that were recorded."""
        return tuple(name for name in fmt.OPTIONAL if getattr(self, name) is not None)


def check(record: PromptRecord, draft_lengths: Sequence[int], token_dtype: str) -> None:
    """Raises UsageError, naming the prompt, unless all shapes and lengths fit together and into the format."""
    n, D, G = len(record.tokens), len(draft_lengths), max(draft_lengths, default=0)
    if n == 0:
        raise UsageError(f"prompt {record.id!r} has an empty text; leave it out")
    axes = {"N": n, "D": D, "G": G, "F": F}
    for name in ROW_FIELDS:
        value = getattr(record, name)
        wanted = tuple(axes[a] for a in fmt.COLUMNS[name][1])
        if value is not None and np.shape(value) != wanted:
            raise UsageError(f"prompt {record.id!r}: {name} has shape {np.shape(value)}, not {wanted}")
    limits = np.iinfo(token_dtype)
    for name in fmt.TOKEN_COLUMNS:
        values = np.asarray(() if getattr(record, name) is None else getattr(record, name))
        if values.size and (values.min() < limits.min or values.max() > limits.max):
            found = f"{name} holds {values.min()}..{values.max()}"
            raise UsageError(f"prompt {record.id!r}: {found}, more than {token_dtype} can hold")
    accepted, proposed = np.asarray(record.accepted), np.asarray(record.proposed)
    if np.any(accepted < 0) or np.any(accepted > proposed) or np.any(proposed > np.asarray(draft_lengths)):
        raise UsageError(f"prompt {record.id!r}: 0 <= accepted <= proposed <= draft length does not hold")
    columns = record.column_text
    if columns is not None and not record.unaligned and np.any(columns != fmt.text_hash(record.tokens)):
        raise UsageError(f"prompt {record.id!r}: a column was recorded on another text; mark it unaligned")


def pack(records: Sequence[PromptRecord], token_dtype: str) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """The arrays and metadata of a shard that holds ``records``, in order."""
    D = np.shape(records[0].proposed)[1]
    texts = np.array([fmt.text_hash(r.tokens) for r in records], np.int64)
    columns = [np.full(D, t) if r.column_text is None else r.column_text for r, t in zip(records, texts, strict=True)]
    tensors: dict[str, NDArray[Any]] = {
        "lengths": np.array([len(r.tokens) for r in records], np.int64),
        "ended": np.array([r.ended for r in records], np.uint8),
        "prompt_lengths": np.array([_prompt_length(r) for r in records], np.int64),
        "text": texts,
        "column_text": np.stack(columns).astype(np.int64),
    }
    for name in ("tokens", "prompt_tokens", *ROW_FIELDS):
        parts = [getattr(r, name) for r in records]
        if parts[0] is not None:
            dtype = token_dtype if name in fmt.TOKEN_COLUMNS else fmt.COLUMNS[name][0][0]
            tensors[name] = np.concatenate([np.asarray(p).astype(dtype, copy=False) for p in parts])
    return tensors, metadata([r.id for r in records], [r.domain for r in records])


def metadata(ids: Sequence[str], domains: Sequence[str]) -> dict[str, str]:
    """A shard's metadata: the strings, as JSON."""
    return {"ids": json.dumps(list(ids)), "domains": json.dumps(list(domains))}


def strings(data: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Ids and domains from a shard's metadata."""
    return jsontext.loads(data["ids"]), jsontext.loads(data["domains"])


def _prompt_length(record: PromptRecord) -> int:
    return record.prompt_length or 0 if record.prompt_tokens is None else len(record.prompt_tokens)
