"""A tiny target that repeats itself, its prompts and its training; as a program: trains slowly, to be killed."""

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

TRAINING = train.Training(draft_vocabulary=16, unroll=3, epochs=8, rate=1e-2, entries=160, held_out=4, patience=8)


def target(seed: int = 7) -> Target:
    model = tiny.llama(seed, 6, torch.float32, eos_token_id=None)
    return as_target(model, tiny.tokenizer(), "tiny", f"seed{seed}")


def prompts() -> list[Prompt]:
    texts = [" ".join(f"w{2 + (5 * i + k * (i + 3)) % 21}" for k in range(3 + i % 4)) for i in range(16)]
    return [Prompt(f"p{i}", ("even", "odd")[i % 2], (text,)) for i, text in enumerate(texts)]


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
