"""What every drafter would have proposed at every position of the served texts, as an ordinary trace."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metasd.core.pool import Pool
from metasd.core.signals import F, rounded
from metasd.drafters import TextDrafterBase
from metasd.traces.rows import PromptRecord
from metasd.traces.writer import TraceWriter

PROMPTS = ("keep", "hash", "none")
"""What a record says of a prompt: its tokens, 16 digits of their sha256 in the id, or its length alone."""


class Record:
    """One request: its tokens behind the first, and what stood in front of each.

    Rows are what ``metasd.serve.text.Text`` notes; a proposal is judged when the text is known.
    """

    def __init__(self, prompt: Sequence[int]) -> None:
        self.prompt = list(prompt)
        self.tokens: list[int] = []
        self.offers: list[list[list[int]]] = []
        self.shown: list[list[list[float]]] = []

    def add(self, token: int, offers: list[list[int]], shown: list[list[float]]) -> None:
        """``token`` was committed where ``offers`` [D] and signals ``shown`` [D, F] stood."""
        self.tokens.append(token)
        self.offers.append(offers)
        self.shown.append(shown)


class Records:
    """Writes requests, as they end, to a trace of shards; what a killed server had not committed is lost.

    Args:
        path: the trace's folder; a trace of the same model, pool and prompt setting there is gone on with.
        prompts: one of ``PROMPTS``.

    Raises UsageError for a folder that holds something else, FileError for a disk that refuses.
    """

    def __init__(self, path: Path, pool: Pool, drafters: Sequence[TextDrafterBase], prompts: str, target: str) -> None:
        self._prompts = prompts
        lengths = [drafter.draft_length for drafter in drafters]
        config = {
            "target": target,
            "format": "metasd-serve",
            "acceptance": "greedy",
            "temperature": 0.0,
            "prompts": prompts,
            "drafters": pool.to_json()["drafters"],
        }
        manifest: dict[str, Any] = {
            "config": config,
            "pool": pool.to_json(),
            "draft_lengths": lengths,
            "token_dtype": "int32",
            "exact": True,
        }
        self._lengths = lengths
        self._writer = TraceWriter(path, manifest, resume=True)
        self._number = len(self._writer.done)

    def add(self, record: Record) -> None:
        """Keep one request. Raises FileError."""
        if not record.tokens:
            return
        kept = record.prompt if self._prompts == "keep" else None
        name = f"{self._number:08d}"
        if self._prompts == "hash":
            name += "-" + hashlib.sha256(np.array(record.prompt, "<i4").tobytes()).hexdigest()[:16]
        self._number += 1
        proposed, accepted, drafts = self._judged(record)
        self._writer.add(
            PromptRecord(
                id=name,
                domain="served",
                prompt_tokens=kept,
                prompt_length=len(record.prompt),
                tokens=record.tokens,
                ended=False,
                proposed=proposed,
                accepted=accepted,
                draft_tokens=drafts,
                signals=rounded(np.array(record.shown, np.float32).reshape(len(record.tokens), -1, F)),
            )
        )

    def close(self) -> None:
        """Commit what is pending. The trace is whole then, and can still be gone on with."""
        self._writer.close()

    def _judged(self, record: Record) -> tuple[Any, Any, Any]:
        """[n, D] proposed, [n, D] accepted, [n, D, G] draft tokens."""
        n, D, G = len(record.tokens), len(self._lengths), max(self._lengths)
        proposed, accepted = np.zeros((2, n, D), np.uint8)
        drafts = np.zeros((n, D, G), np.int32)
        for at, offers in enumerate(record.offers):
            for d, offer in enumerate(offers):
                proposed[at, d] = len(offer)
                drafts[at, d, : len(offer)] = offer
                agreed = 0
                for mine, its in zip(offer, record.tokens[at:], strict=False):
                    if mine != its:
                        break
                    agreed += 1
                accepted[at, d] = agreed
        return proposed, accepted, drafts
