"""What names a model and a machine: all that the texts of a run, or its seconds, depend on."""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import torch

from metasd.runtime.load import Target


def identity_of(target: Target) -> dict[str, Any]:
    """What a text depends on besides its prompt, its budget and how tokens are drawn; part of a manifest's config."""
    return {
        "target": {
            "name": target.name,
            "revision": target.revision,
            "tokenizer": target.tokenizer_hash,
            "vocabulary": target.vocab_size,
            "dtype": target.dtype,
            "device": target.device.type,
            **target.arithmetic,
        },
        "generation": dict(target.settings.applied),
        "ignore_generation_config": target.settings.ignored,
    }


def machine(device: torch.device) -> dict[str, Any]:
    """The machine that timings belong to."""
    found: dict[str, Any] = {"cpu": _cpu(), "threads": torch.get_num_threads(), "torch": torch.__version__}
    if device.type == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(device), "cuda": torch.version.cuda}
    return found


def _cpu() -> str:
    """The processor's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
