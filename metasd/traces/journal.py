"""The journal of a recording while it is written: held against other writers, one synced line a shard."""

from __future__ import annotations

import errno
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from metasd.core import files
from metasd.core.errors import UsageError
from metasd.traces import format as fmt

if sys.platform != "win32":
    import fcntl

log = logging.getLogger("metasd")
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


class Journal:
    """The journal ``name`` in the trace's ``folder``, made where it is not there; the system lets go of it at a
    process's end.

    Where the file system knows no locks a warning says so, and nothing keeps two recordings apart.
    Raises UsageError when another process records there, FileError when the journal cannot be written.
    """

    def __init__(self, folder: Path, name: str = fmt.JOURNAL) -> None:
        self.file = folder / name
        try:
            self._handle = os.open(self.file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError as error:
            raise files.unwritable(self.file, error) from error
        try:
            self._lock()
            files.sync_folder(folder)
        except BaseException:
            self.close()
            raise

    def _lock(self) -> None:
        if sys.platform == "win32":
            return
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                raise UsageError(
                    f"{self.file.parent} is being recorded by another process; wait for it or stop it"
                ) from None
            log.warning("%s: no locks here (%s); record into it from one process only", self.file, error.strerror)

    def append(self, entry: Mapping[str, Any]) -> None:
        """One more line, whole and synced, or FileError and none."""
        files.append(self.file, self._handle, fmt.journal_line(entry))

    def cut(self, size: int) -> None:
        """Forget what is behind the first ``size`` bytes: a torn line."""
        if os.fstat(self._handle).st_size > size:
            os.ftruncate(self._handle, size)

    def close(self) -> None:
        """Let go of it. May be called twice."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
