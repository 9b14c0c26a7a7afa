"""Standard output and error while a command runs: any encoding, JSON alone, and a reader who leaves.

Knows file descriptors; knows nothing of commands.
"""

from __future__ import annotations

import ctypes
import errno
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, TextIO, cast

STDOUT = "standard output"
"""The ``filename`` of an OSError that writing to stdout raises."""

_now: list[Streams] = []
"""The guard of the command that runs, if one does."""


class _Named:
    """A text stream whose errors say which stream they are of: a system's own say only "No space left on device"."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        return int(self._named(self._stream.write, text))

    def flush(self) -> None:
        if not self._stream.closed:
            self._named(self._stream.flush)

    @staticmethod
    def _named(call: Callable[..., Any], *given: str) -> Any:
        try:
            return call(*given)
        except OSError as error:
            raise OSError(error.errno, error.strerror, STDOUT) from error


class Streams:
    """Guards the streams inside a ``with`` block and puts them back behind it.

    What the encoding of stdout cannot say is replaced, not raised. After ``json_alone`` whatever a library prints, in
    Python or in C, goes to stderr, and ``result`` alone reaches stdout.
    """

    def __init__(self) -> None:
        self._saved: int | None = None  # what descriptor 1 was
        self._results: _Named | None = None

    def __enter__(self) -> Streams:
        self._stdout, self._stderr = sys.stdout, sys.stderr
        self._errors = self._stdout.errors if isinstance(self._stdout, io.TextIOWrapper) else None
        if isinstance(self._stdout, io.TextIOWrapper):
            self._stdout.reconfigure(errors="replace")
        if self._stdout is not None:
            sys.stdout = cast("TextIO", _Named(self._stdout))
        if self._stderr is None:  # started without streams, as services are; numpy's modules write to it on import
            sys.stderr = io.StringIO()
        _now.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        _now.remove(self)
        self._back()
        sys.stdout, sys.stderr = self._stdout, self._stderr
        if isinstance(self._stdout, io.TextIOWrapper):
            self._stdout.reconfigure(errors=self._errors)

    def json_alone(self) -> None:
        """From here on stdout is for ``result``."""
        if self._results is not None:
            return
        if self._stdout is None:
            return
        self._results = _Named(self._stdout)
        sys.stdout = sys.stderr
        with suppress(OSError, ValueError, AttributeError):  # a stream without a descriptor, or closed
            self._stdout.flush()
            own = self._stdout.fileno() == 1
            self._saved = os.dup(1)
            os.dup2(2, 1)
            if own:
                encoding = self._stdout.encoding
                file = open(self._saved, "w", encoding=encoding, errors="replace", closefd=False)  # noqa: SIM115
                self._results = _Named(file)

    def result(self, text: str) -> None:
        """Print a line on stdout. Raises OSError when it cannot be written."""
        out = self._results if self._results is not None else sys.stdout
        if out is not None:
            out.write(text + "\n")
            out.flush()

    def finish(self) -> None:
        """Everything said is on its way. Raises OSError when it cannot be written."""
        for stream in (self._results, None if self._stdout is None else _Named(self._stdout)):
            if stream is not None:
                stream.flush()

    def give_up(self) -> None:
        """Nobody reads stdout any more: what is still buffered goes nowhere, without a word at the program's end."""
        for stream in filter(None, (self._results, self._stdout)):
            with suppress(OSError, ValueError, AttributeError):
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, stream.fileno())
                os.close(null)

    def _back(self) -> None:
        if self._saved is None:
            return
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).fflush(None)  # what C has buffered belongs to stderr too
        with suppress(OSError):
            os.dup2(self._saved, 1)
        with suppress(OSError):
            os.close(self._saved)


def current() -> Streams | None:
    """The guard of the command that runs; None outside one."""
    return _now[-1] if _now else None


def left(error: OSError) -> bool:
    """Whether ``error`` says that the reader of stdout has gone."""
    return error.filename == STDOUT and error.errno in (errno.EPIPE, errno.ESHUTDOWN)
