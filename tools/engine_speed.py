"""What the engine's path brings on this machine: ``python tools/engine_speed.py [--target smollm2] [--tokens 48]``.

Two copies of a target, one as it comes and one on the path that ``--engine auto`` chooses, in turn: plain decoding
against ``model.generate``, whether texts are equal, then seconds of a pass by width. Medians and minima; close
everything else first.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch

from metasd.runtime.engine.cache import CachedModel
from metasd.runtime.load import load_target

PROMPT = "Explain in a few sentences why the sky is blue at noon and red in the evening."
WIDTHS = (1, 2, 4, 8, 9, 16)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--target", default="smollm2")
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=5)
    given = parser.parse_args()
    eager, engine = load_target(given.target, engine="eager"), load_target(given.target)
    prompt = engine.encode(PROMPT)
    print(f"{engine.name}, {torch.get_num_threads()} threads, engine {engine.engine.name} ({engine.engine.reason})")
    ways: dict[str, Callable[[], list[int]]] = {
        "generate, model as it comes": lambda: generate(eager.model, prompt, given.tokens),
        "plain, model as it comes": lambda: plain(eager.model, prompt, given.tokens),
        "plain, engine": lambda: plain(engine.model, prompt, given.tokens),
    }
    taken, texts = decode_in_turn(ways, given.repeats)
    first = median(next(iter(taken.values())))
    for name, seconds in taken.items():
        same = "same text" if texts[name] == next(iter(texts.values())) else "another text"
        print(f"{name:30} {len(texts[name]) / median(seconds):6.1f} tok/s  {first / median(seconds):5.2f} x  {same}")
    for name, model in (("as it comes", eager.model), ("engine", engine.model)):
        print(f"{name:12} ms by width:", by_width(model, given.repeats))


def decode_in_turn(
    ways: dict[str, Callable[[], list[int]]], repeats: int
) -> tuple[dict[str, list[float]], dict[str, list[int]]]:
    """Seconds of every repeat, and the text, of each way; the first round warms up and does not count."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    texts: dict[str, list[int]] = {}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            start = time.perf_counter()
            texts[name] = way()
            if repeat:
                taken[name].append(time.perf_counter() - start)
    return taken, texts


@torch.inference_mode()
def generate(model: Any, prompt: list[int], tokens: int) -> list[int]:
    """What transformers decodes greedily, exactly so many tokens."""
    made = model.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=tokens, min_new_tokens=tokens)
    return [int(t) for t in made[0, len(prompt) :]]


@torch.inference_mode()
def plain(model: Any, prompt: list[int], tokens: int) -> list[int]:
    """The same through the engine."""
    cached, answer, eos = CachedModel(model), list[int](), model.generation_config.eos_token_id
    logits = cached.forward(prompt, 1)
    while True:
        logits[0, eos] = -torch.inf  # as min_new_tokens has it
        token = logits.argmax(-1)
        answer.append(int(token))
        if len(answer) == tokens:
            return answer
        logits = cached.feed(token, 1)
        cached.label(answer[-1:])


def by_width(model: Any, repeats: int) -> dict[int, float]:
    """Least milliseconds of a pass behind 200 tokens, by its width."""
    cached, text = CachedModel(model), list(range(5, 205))
    cached.read(text)
    best: dict[int, float] = {}
    for _ in range(repeats + 1):
        for width in WIDTHS:
            start = time.perf_counter()
            cached.forward([*text, *range(300, 300 + width)], width)
            best[width] = min(best.get(width, torch.inf), time.perf_counter() - start)
    return {width: round(1e3 * seconds, 1) for width, seconds in best.items()}


if __name__ == "__main__":
    main()
