"""Specialists without training: the target's own answers of a domain, counted into an n-gram table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from metasd.core import poolfolder
from metasd.distill.answers import Answer
from metasd.distill.asking import counts
from metasd.drafters.ngrams import NgramTable
from metasd.runtime.load import Target

SUFFIX = ".safetensors"


def write(folder: Path, domain: str, answers: Sequence[Answer], target: Target, best: int = 1) -> poolfolder.Row:
    """Write FOLDER/<domain>.safetensors; its row: domain, file, bytes, entries (runs known), and of the answers.

    best: continuations kept of a run.
    """
    table = NgramTable.build(
        [a.before + a.tokens for a in answers],
        tokenizer=target.tokenizer_hash,
        vocabulary=target.vocab_size,
        domain=domain,
        target=target.name,
        best=best,
    )
    path = folder / (poolfolder.file_name(domain) + SUFFIX)
    table.save(path)
    return {"domain": domain, "file": path.name, "bytes": path.stat().st_size, "entries": len(table), **counts(answers)}
