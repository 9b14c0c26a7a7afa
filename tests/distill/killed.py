"""A tiny target that goes round in cycles, its prompts and its training; as a program: trains slowly, to be killed."""

from __future__ import annotations

import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

import tiny
import torch

from metasd.core.prompts import Prompt
from metasd.distill import train
from metasd.distill.run import distill
from metasd.runtime.load import Target, as_target

TRAINING = train.Training(draft_vocabulary=16, unroll=3, epochs=8, rate=2e-2, entries=40, held_out=4, patience=8)
CYCLES = ((2, 6, 10, 14, 18), (3, 7, 11, 15, 19, 22, 5))
"""What the target says for ever, once it has said one of them; a domain each."""


def target(seed: int = 7) -> Target:
    """Its layers pass the embedding through, and its output row of a token is the embedding of the one before."""
    model = tiny.llama(seed, 6, torch.float32, eos_token_id=None)
    following = {a: b for cycle in CYCLES for a, b in zip(cycle, (*cycle[1:], cycle[0]), strict=True)}
    rows = model.model.embed_tokens.weight
    with torch.no_grad():
        model.lm_head.weight.mul_(0.01)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        for before, after in following.items():
            model.lm_head.weight[after] = 2 * rows[before] / rows[before].norm()
    return as_target(model, tiny.tokenizer(), "tiny", f"seed{seed}")


def prompts() -> list[Prompt]:
    """Any words, the last one of the domain's cycle."""
    made = []
    for i in range(16):
        cycle = CYCLES[i % 2]
        words = [*((5 * i + k * (i + 3)) % 21 + 2 for k in range(2 + i % 4)), cycle[i // 2 % len(cycle)]]
        made.append(Prompt(f"p{i}", ("even", "odd")[i % 2], (" ".join(f"w{w}" for w in words),)))
    return made


def make(out: Path, **more) -> dict:
    settings = {"kind": "head", "max_new_tokens": 30, "training": TRAINING, **more}
    return distill(target(), prompts(), out, **settings)


def main() -> None:
    torch.set_num_threads(1)
    train.CHECKPOINT_SECONDS = 0.0
    saved = train._Run.save

    def slowly(run: train._Run) -> None:
        saved(run)
        time.sleep(0.1)

    train._Run.save = slowly  # type: ignore[method-assign]
    make(Path(sys.argv[1]))


if __name__ == "__main__":
    main()
