"""What computing block divergence costs: a round's check with and without the overlap of target and drafter.

Run it as ``python benchmarks/overlap.py [--target MODEL] [--device D] [--dtype T]``. The drafter's distributions are
drawn once and cost nothing here, so what is timed is the target's pass, the judgement, and what overlap adds to them:
a softmax over the vocabulary for each draft token (two at temperature 0) and a sum of minima. The two take turns.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from statistics import median
from typing import Any

import numpy as np
import torch

from metasd.core.results import versions
from metasd.drafters.base import Draft
from metasd.runtime.engine.cache import CachedModel
from metasd.runtime.identity import machine
from metasd.runtime.load import load_target
from metasd.runtime.sampling import Sampling
from metasd.runtime.verify import Verifier


def drawn(length: int, vocabulary: int, temperature: float, device: torch.device) -> Draft:
    """A draft as a model drafter makes it: at temperature 0 with logits, above with the distributions drawn from."""
    logits = torch.randn(length, vocabulary, generator=torch.Generator().manual_seed(0)).to(device) * 3
    tokens = logits.argmax(-1).tolist()
    if temperature == 0:
        return Draft(tokens, [1.0] * length, logits=logits)
    return Draft(tokens, [1.0] * length, probs=(logits / temperature).softmax(-1))


def measure(target: Any, length: int, temperature: float, context: int, repeats: int) -> dict[str, float]:
    """Milliseconds of a check, medians, without and with overlap, and the median of their differences in turn."""
    cached, sampling = CachedModel(target.model), Sampling(temperature=temperature)
    draft = drawn(length, cached.vocab_size, temperature, cached.device)
    text = [int(t) for t in np.random.default_rng(0).integers(0, min(1000, cached.vocab_size), context)]
    uniforms = None if temperature == 0 else np.full((2, length + 1), 0.5)
    judges = [Verifier(cached, sampling, overlap=o) for o in (False, True)]
    taken: list[list[float]] = [[], []]
    for turn in range(repeats + 2):
        for which in (0, 1) if turn % 2 else (1, 0):
            started = time.perf_counter()
            judges[which].verify(text, draft, uniforms)  # reads the device, so nothing is under way behind it
            if turn >= 2:
                taken[which].append(1e3 * (time.perf_counter() - started))
    more = median(b - a for a, b in zip(*taken, strict=True))
    return {"without_ms": median(taken[0]), "with_ms": median(taken[1]), "overlap_ms": more}


def main() -> None:
    """Print a row for each draft length and temperature, and JSON with ``--json``."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--target", default="smollm2")
    asked.add_argument("--device", default="cpu")
    asked.add_argument("--dtype", default="auto")
    asked.add_argument("--context", type=int, default=200)
    asked.add_argument("--repeats", type=int, default=40)
    asked.add_argument("--json", action="store_true")
    given = asked.parse_args()
    target = load_target(given.target, given.device, given.dtype)
    rows = [
        {"temperature": t, "draft_length": n} | measure(target, n, t, given.context, given.repeats)
        for t in (0.0, 0.7)
        for n in (1, 2, 4, 8)
    ]
    if given.json:
        about = {"machine": machine(target.device), "versions": versions(), "target": target.name}
        sys.stdout.write(json.dumps(about | {"results": rows}, indent=1) + "\n")
        return
    for row in rows:
        share = row["overlap_ms"] / row["without_ms"]
        line = f"T {row['temperature']:.1f}, {row['draft_length']} draft tokens: {row['without_ms']:6.1f} ms a check"
        sys.stdout.write(f"{line}, overlap adds {row['overlap_ms']:.2f} ms ({share:.1%})\n")


if __name__ == "__main__":
    main()
