"""``compiled``: numba's compiler where it is installed, as it is where vLLM is; elsewhere functions stay as they are.

Compiled code is kept beside the sources, or where numba keeps it for sources that nobody may write to. numba looks at
the file of the function alone, and not at those it calls: what is older than any source here is thrown away.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

Kernel = TypeVar("Kernel", bound=Callable[..., Any])


def _compiler() -> Any:
    try:
        return importlib.import_module("numba").njit
    except ImportError:
        return None


def forget(folder: Path) -> None:
    """Throw compiled code away that a source in ``folder`` has outlived."""
    newest = max(source.stat().st_mtime for source in folder.glob("*.py"))
    for index in folder.glob("__pycache__/*.nbi"):
        with suppress(OSError):  # another process may be faster
            if index.stat().st_mtime < newest:
                index.unlink()


_NJIT = _compiler()

FAST = _NJIT is not None
"""Whether kernels are compiled; without it they are slower than the drafters they stand for."""

if FAST:
    forget(Path(__file__).parent)


def compiled(kernel: Kernel) -> Kernel:
    """The same function, compiled at its first call."""
    if _NJIT is None:
        return kernel
    try:
        made: Kernel = _NJIT(kernel, cache=True, no_cfunc_wrapper=True)
    except RuntimeError:  # there is no place to keep it in
        made = _NJIT(kernel, no_cfunc_wrapper=True)
    return made
