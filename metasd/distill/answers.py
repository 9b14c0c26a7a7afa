"""Answers of a target to many prompts at once, greedy or drawn: what specialists are made from.

Knows the target alone. An answer that falls into a loop is cut to the loop's first turn, or the loop would outweigh
everything else. Batched float32 arithmetic may differ from decoding one prompt in the last bits, so an answer can
leave the one of ``model.generate`` where two tokens are as good as equally likely; for counting this does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from metasd.core import noise
from metasd.drafters.ngrams import ORDER
from metasd.runtime.engine.engine import Engine
from metasd.runtime.load import Target
from metasd.runtime.sampling import Sampling, pick
from metasd.runtime.stops import ends_in

LOOP_WINDOW, LOOP_PERIOD = 64, 32

Said = Callable[[int], None]
"""Told the tokens of every decoding step."""


@dataclass(slots=True)
class Answer:
    """One answer: the prompt it followed, its tokens, and why it stopped (ended, limit, looped)."""

    prompt: list[int]
    tokens: list[int]
    stop: str

    @property
    def before(self) -> list[int]:
        """The end of the prompt."""
        return self.prompt[-ORDER:]


@torch.inference_mode()
def batch_answers(
    target: Target,
    prompts: list[list[int]],
    max_new_tokens: int,
    said: Said,
    ends: Sequence[Sequence[str]] | None = None,
    sampling: Sampling | None = None,
    seed: int = 0,
) -> Iterator[Answer]:
    """Answers to ``prompts`` (token ids), decoded together; finished ones leave the batch.

    The target's generation settings are applied, as ``model.generate`` does. Prompts are padded on the left; ``said``
    is told the number of tokens of every step; ``ends`` are the stop strings of each prompt. Answers come in the order
    in which they finish. ``sampling`` is greedy where None; what is drawn depends on ``seed``, the prompt and the
    position alone, so that the same prompt gets the same answer in another batch.
    """
    width = max(map(len, prompts))
    padding = [[0] * (width - len(p)) for p in prompts]
    tokens = torch.tensor([pad + p for pad, p in zip(padding, prompts, strict=True)], device=target.device)
    attention = torch.tensor(
        [pad + [1] * len(p) for pad, p in zip(padding, prompts, strict=True)], device=target.device
    )
    engine, alive = Engine(target.model), list(range(len(prompts)))
    answers: list[list[int]] = [[] for _ in prompts]
    drawn = None if sampling is None or sampling.greedy else sampling
    keys = np.array([noise.key(seed, "answer", *prompt) for prompt in prompts])
    made = target.processors()
    processes = None if made is None else [made.text(prompt, max_new_tokens) for prompt in prompts]
    while alive:
        positions = (attention.cumsum(1) - 1).clamp(min=0)[:, -tokens.shape[1] :]
        logits = engine.step(tokens, 1, mask=attention, positions=positions)[:, -1]
        if processes is not None:
            one_by_one = (processes[r].rows(prompts[r] + answers[r], logits[[i]]) for i, r in enumerate(alive))
            logits = torch.cat(list(one_by_one))
        if drawn is None:
            chosen = logits.argmax(-1)
        else:
            uniforms = noise.uniform_at(keys[alive], np.array([len(answers[row]) for row in alive]))
            chosen = pick(drawn.probs(logits), torch.from_numpy(uniforms).to(logits.device))
        for row, token in zip(alive, chosen.tolist(), strict=True):
            answers[row].append(token)
        said(len(alive))
        stops = [_stop(answers[row], target, max_new_tokens, ends[row] if ends else ()) for row in alive]
        for row, stop in zip(alive, stops, strict=True):
            if stop is not None:
                yield _answer(prompts[row], answers[row], stop)
        kept = [i for i, stop in enumerate(stops) if stop is None]
        if 0 < len(kept) < len(alive):
            engine.select(kept)
            attention, chosen = attention[kept], chosen[kept]
        alive = [alive[i] for i in kept]
        tokens = chosen[:, None]
        attention = torch.cat([attention, attention.new_ones(len(attention), 1)], dim=1)


def _stop(answer: list[int], target: Target, limit: int, ends: Sequence[str]) -> str | None:
    if ends_in(target, answer[:-1], answer[-1:], ends) == 1:
        return "ended"
    if loop_period(answer):
        return "looped"
    return "limit" if len(answer) >= limit else None


def _answer(prompt: list[int], tokens: list[int], stop: str) -> Answer:
    kept = len(tokens) - LOOP_WINDOW + loop_period(tokens) if stop == "looped" else len(tokens)
    return Answer(prompt, tokens[:kept], stop)


def loop_period(tokens: Sequence[int]) -> int:
    """Shortest period, at most ``LOOP_PERIOD``, of the last ``LOOP_WINDOW`` tokens; 0 when they have none."""
    if len(tokens) < LOOP_WINDOW:
        return 0
    tail: NDArray[np.int64] = np.array(tokens[-LOOP_WINDOW:])
    for period in range(1, LOOP_PERIOD + 1):
        if tail[-1] == tail[-1 - period] and (tail[period:] == tail[:-period]).all():
            return period
    return 0
