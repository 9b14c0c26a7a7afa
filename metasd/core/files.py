"""How a file is written: whole or not at all, and in the words of one line when it cannot be.

Everything that writes goes through here. A file is made under a temporary name in its own folder, synced and renamed,
so whatever has its final name is whole, and a disk that is full or read-only leaves what was there before.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from metasd.core.errors import FileError

_SUFFIX = ".tmp"
_STEM = 40  # characters of the name that the temporary one repeats: both have to fit a file system's 255 bytes

_UNABLE = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)
"""What fsync says where a file system cannot do it at all."""
_FOLDER_UNABLE = (*_UNABLE, errno.EACCES, errno.EPERM, errno.EBADF, errno.EISDIR)
"""Some cannot sync, or even open, a folder (network shares, Windows)."""

_MENDS = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space",
    errno.EFBIG: "give a place that takes files of this size",
    errno.EROFS: "give a place that can be written",
    errno.EACCES: "give a place that you may write to",
    errno.EPERM: "give a place that you may write to",
    errno.EISDIR: "name a file, not a folder",
    errno.ENOTDIR: "a part of its path is a file",
    errno.EEXIST: "a part of its path is a file",
    errno.ENAMETOOLONG: "give it a shorter name",
}


def unwritable(path: Path | str, error: OSError) -> FileError:
    """The one line about a file that cannot be written: its name, the cause, the mend."""
    mend = _MENDS.get(error.errno or 0, "give another place")
    return FileError(f"{path} cannot be written: {error.strerror or error}; {mend}")


def temporary(path: Path) -> Path:
    """A fresh name beside ``path`` under which it is made; see ``is_temporary``."""
    return path.with_name(f".{path.name[:_STEM]}.{secrets.token_hex(4)}{_SUFFIX}")


def is_temporary(path: Path) -> bool:
    """Whether ``path`` has a name that ``temporary`` gives: what a killed program leaves."""
    return path.name.startswith(".") and path.suffix == _SUFFIX


def write_text(path: Path | str, text: str) -> None:
    """Write ``text`` as UTF-8 with line ends as they are. Raises FileError; the file is then as it was before."""
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_bytes(path: Path | str, data: bytes) -> None:
    """Write ``data``. Raises FileError; the file is then as it was before."""
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path | str) -> Iterator[BinaryIO]:
    """A new file that takes the name ``path`` when the block ends, missing folders made; nothing if the block raises.

    A link stays a link, a file keeps its permissions, and what is no file (a pipe, a device) is written directly.
    Raises FileError for whatever the file system says.
    """
    named = Path(path)
    try:
        if named.exists() and not named.is_file() and not named.is_dir():
            with named.open("wb") as stream:
                yield stream
            return
        place = named.resolve() if named.is_symlink() else named
        mode = _check(place)
        made = temporary(place)
        try:
            with made.open("xb") as file:
                yield file
                file.flush()
                _sync(file.fileno(), _UNABLE)
            if mode is not None:
                with suppress(OSError):  # not every file system has permissions
                    made.chmod(mode)
            commit(made, place)
        except BaseException:
            made.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise unwritable(path, error) from error


def _check(place: Path) -> int | None:
    """Make the folder of ``place``; the permissions of what is there. Raises OSError for what may not be replaced."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if not place.exists():
        return None
    if place.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not os.access(place, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    return place.stat().st_mode & 0o7777


def commit(made: Path, path: Path) -> None:
    """Give the finished, synced ``made`` its final name. The rename counts: not every file system can sync a folder."""
    os.replace(made, path)  # noqa: PTH105 - the one atomic rename
    sync_folder(path.parent)


def make_folder(path: Path) -> None:
    """Make the folder ``path`` where it is not there. Raises FileError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error


def check_place(path: Path) -> None:
    """Raises FileError when it is plain already that ``path`` cannot be written: for before the work, not after."""
    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    code = 0
    if there.is_dir():
        code = errno.EISDIR if there == path else 0 if os.access(there, os.W_OK | os.X_OK) else errno.EACCES
    elif there != path:
        code = errno.ENOTDIR
    elif not os.access(there, os.W_OK):
        code = errno.EACCES
    if code:
        raise unwritable(path, OSError(code, os.strerror(code)))


def sync_folder(path: Path) -> None:
    """Make renames inside ``path`` durable, where the file system can."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError as error:
        if error.errno in _FOLDER_UNABLE:
            return
        raise
    try:
        _sync(handle, _FOLDER_UNABLE)
    finally:
        os.close(handle)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder under a temporary name that takes the name ``path``, free or an empty folder, when the block ends.

    Nothing is left if the block raises. Raises FileError for whatever the file system says.
    """
    place = path.resolve()  # of a link, and of "."
    made = temporary(place)
    try:
        try:
            made.mkdir(parents=True)
            yield made
            if place.is_dir():
                place.rmdir()
            commit(made, place)
        finally:
            shutil.rmtree(made, ignore_errors=True)
    except OSError as error:
        raise unwritable(path, error) from error


def append(path: Path, handle: int, data: bytes) -> None:
    """Append ``data`` to the open file ``path``, synced. Raises FileError; the file is then as long as it was."""
    size = os.fstat(handle).st_size
    left = memoryview(data)
    try:
        while left:
            left = left[os.write(handle, left) :]
        _sync(handle, _UNABLE)
    except OSError as error:
        os.ftruncate(handle, size)
        raise unwritable(path, error) from error


def _sync(handle: int, unable: tuple[int, ...]) -> None:
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in unable:
            raise
