"""Traces: what every drafter would have done at every position, on disk and in memory."""

from metasd.traces.synth import synthetic
from metasd.traces.trace import Trace

__all__ = ["Trace", "synthetic"]
