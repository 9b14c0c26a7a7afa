"""The place of 0.1 of ``metasd.record.reader``; see ``metasd.core.moved``."""

from metasd.core.moved import moved

__getattr__ = moved(__name__, "metasd.record.reader")
