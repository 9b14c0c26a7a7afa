"""Sessions that tests play: four prompts, four drafters on a tiny target, and how to play them to their end."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from metasd.core.pool import DrafterInfo, Pool
from metasd.core.records import Rounds, concatenate
from metasd.drafters import LookupDrafter, TableDrafter
from metasd.runtime.load import Target
from metasd.runtime.models import ModelDrafter, SkipDrafter
from metasd.runtime.sampling import Sampling
from metasd.runtime.session import LiveSession

ARMS = ((0, 8), (1, 3), (2, 1), (2, 5), (3, 4), (-1, 0))
PROMPTS = [("a", [5, 9, 7]), ("b", [30]), ("c", [8, 8, 8, 12, 50, 8, 8, 8]), ("d", [44, 3, 19, 21])]
LOOKUP, TABLE, SHORT, LONG, SKIP, PLAIN = range(6)


def drafters_for(target: Target, model: Any, temperature: float = 0.0, seed: int = 0) -> tuple[list[Any], Pool]:
    sampling = Sampling(temperature)
    info = DrafterInfo("model", "model", free=False, deterministic=False)
    made: list[Any] = [
        LookupDrafter(draft_length=8),
        TableDrafter(draft_length=3),
        ModelDrafter(info, model, vocab_size=target.vocab_size, sampling=sampling, seed=seed),
        SkipDrafter(target, "1-2", sampling=sampling, seed=seed),
    ]
    return made, Pool([d.info for d in made], ARMS)


def play_all(session: LiveSession, arms: Any) -> Rounds:
    """Every text to its end, the arms from an iterator."""
    rounds = []
    while not session.done:
        rounds.append(session.play(np.array([next(arms)])))
    return concatenate(rounds)


def cycle(*arms: int) -> Any:
    while True:
        yield from arms


def generated(target: Target, prompt: list[int], budget: int) -> list[int]:
    """What transformers itself decodes greedily."""
    ids = torch.tensor([prompt])
    out = target.model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=budget,
        do_sample=False,
        eos_token_id=sorted(target.eos_ids),
    )
    return out[0, len(prompt) :].tolist()
