"""The place of 0.1 of ``metasd.runtime.sampling``; see ``metasd.core.moved``."""

from metasd.core.moved import moved

__getattr__ = moved(__name__, "metasd.runtime.sampling")
