"""The traces that ship with the package, and the parts of them that have names of their own."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path

import numpy as np

from metasd.core import specs
from metasd.core.errors import TraceError, UsageError
from metasd.traces.reader import read_trace
from metasd.traces.select import take_drafters, take_prompts
from metasd.traces.trace import Trace

REFERENCE, LARGER = "reference", "reference-2"
TRAINED, SHIFTED, SAMPLED = "reference-trained", "reference-shifted", "reference-sampled"
SHIPPED = (REFERENCE, LARGER, TRAINED, SHIFTED, SAMPLED)
"""The larger one is newer, with longer texts. Those behind it are of trained drafters: on the evaluation prompts; on
prompts of two tasks, reworded ones and other domains; at temperature 0.7."""
PARTS = ("train", "test")
"""Halves of ``LARGER``: prompts numbered up to ``TRAIN`` in their domain, on which settings were chosen; the others."""
TRAIN = 8
POOLS = {"white-box": ("head",), "black-box": ("model", "table", "lookup"), "models": ("model",)}
"""Kinds of drafters of the pools within the traces of trained drafters: those that read the target's states; the
others; of these the small models alone, which are the paper's black-box pool."""


def shipped(name: str = REFERENCE) -> Path:
    """The folder of a trace of ``SHIPPED``. Raises TraceError where the installation has none."""
    folder = Path(str(files("metasd") / "data" / name))
    if not folder.is_dir():
        raise TraceError(f"this installation ships no {name} trace; give a folder or synthetic:kind=iid")
    return folder


def is_part(source: str) -> bool:
    """Whether ``source`` is ``NAME:...`` of a shipped trace."""
    name, colon, _ = source.partition(":")
    return bool(colon) and name in SHIPPED


def part(source: str) -> Trace:
    """The part that ``NAME:key=value`` means, as a trace in memory. Raises UsageError for one that there is not."""
    name, settings = specs.parse(source)
    which = ",".join(f"{key}={value}" for key, value in settings.items())
    if name == LARGER and which in {f"part={p}" for p in PARTS}:
        whole = read_trace(shipped(name))
        numbers = np.array([int(prompt.rpartition("-")[2]) for prompt in whole.ids])
        found = take_prompts(whole, (numbers > TRAIN) == (which == "part=test"))
    elif name in (TRAINED, SHIFTED, SAMPLED) and which in {f"pool={p}" for p in POOLS}:
        whole, kinds = read_trace(shipped(name)), POOLS[settings["pool"]]
        found = take_drafters(whole, [i for i, d in enumerate(whole.drafters) if d.kind in kinds])
    else:
        known = [f"{LARGER}:part={p}" for p in PARTS] + [f"{n}:pool={p}" for n in SHIPPED[2:] for p in POOLS]
        raise UsageError(f"trace {source!r} is unknown; there is {' and '.join([', '.join(known[:-1]), known[-1]])}")
    return replace(found, path=None, manifest={**found.manifest, "part": f"{name}, {which.partition('=')[2]}"})
