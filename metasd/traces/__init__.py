"""Traces: what every drafter would have done at every position, on disk and in memory."""

from metasd.traces.find import open_trace, register_trace
from metasd.traces.importers import import_trace
from metasd.traces.rows import PromptRecord
from metasd.traces.save import save_trace, split
from metasd.traces.select import take_prompts
from metasd.traces.synth import synth, synthetic
from metasd.traces.trace import Trace
from metasd.traces.validate import describe, validate
from metasd.traces.writer import TraceWriter

__all__ = [
    "PromptRecord",
    "Trace",
    "TraceWriter",
    "describe",
    "import_trace",
    "open_trace",
    "register_trace",
    "save_trace",
    "split",
    "synth",
    "synthetic",
    "take_prompts",
    "validate",
]
