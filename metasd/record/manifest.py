"""What a manifest says of a recording: all that decides its arrays, and on what it was made."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from metasd.core.pool import Pool
from metasd.core.results import versions
from metasd.runtime import moment
from metasd.runtime.conversation import EncodedPrompt
from metasd.runtime.identity import identity_of, machine
from metasd.runtime.load import Target
from metasd.runtime.sampling import OVERLAP_TEMPERATURE, Sampling
from metasd.runtime.stops import Stops


def manifest_of(
    target: Target,
    pool: Pool,
    texts: Sequence[EncodedPrompt],
    sampling: Sampling,
    *,
    max_new_tokens: int,
    seed: int,
    raw: bool,
    stops: Stops | None = None,
) -> dict[str, Any]:
    """The manifest of a recording. A resumed one must have the same ``config``; the rest is for the reader."""
    return {
        "config": identity_of(target)
        | {
            "acceptance": "greedy" if sampling.greedy else "ratio",
            "temperature": sampling.temperature,
            "top_k": None if sampling.greedy else sampling.top_k,
            "top_p": None if sampling.greedy else sampling.top_p,
            "overlap_temperature": OVERLAP_TEMPERATURE if sampling.greedy else sampling.temperature,
            "chains": "own" if sampling.greedy else "rejected",
            "max_new_tokens": max_new_tokens,
            "seed": seed,
            "chat_template": not raw and bool(target.tokenizer.chat_template),
            "prompts": _hash(texts, stops or {}),
        },
        "pool": pool.to_json(),
        "draft_lengths": pool.longest,
        "token_dtype": "uint16" if target.vocab_size <= 1 << 16 else "int32",
        "exact": True,
        "versions": versions(),
        "machine": machine(target.device),
        "engine": asdict(target.engine),
        "moment": moment.now().isoformat(),
    }


def _hash(texts: Sequence[EncodedPrompt], stops: Stops) -> str:
    """Over ids, domains and tokens, in order, and the stop strings where there are some."""
    told = [list(texts), dict(stops)] if stops else texts
    return hashlib.sha256(json.dumps(told).encode()).hexdigest()
