"""Policies from outside the package: ``package.module:Class,key=value``, ``file.py:Class``, entry points."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import inspect
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from metasd.core import specs
from metasd.core.errors import MetaSDError, UsageError
from metasd.policies.base import Policy

GROUP = "metasd.policies"
"""The entry-point group: a package's ``name = "package.module:Class"`` makes ``name`` a policy."""

_SPEC = re.compile(r"(?P<place>.+?\.py|[^\W\d][\w.]*):(?P<cls>[^\W\d]\w*)(?:,(?P<rest>.*))?", re.DOTALL)


def split(spec: str) -> tuple[str, str, dict[str, str]] | None:
    """Module or file, class and settings of a spec that names a class; None for ``name:key=value,...``.

    Raises UsageError for a file without a class, and for settings that are not key=value.
    """
    if spec.strip().endswith(".py"):
        raise UsageError(f"{spec!r} names a file and no class; write {spec.strip()}:Class")
    found = _SPEC.fullmatch(spec.strip())
    if found is None:
        return None
    place, cls, rest = found["place"], found["cls"], found["rest"] or ""
    return place, cls, specs.settings(rest, spec, f"{place}:{cls},")


def load(place: str, name: str) -> type[Policy]:
    """The policy class ``name`` of the file or module ``place``. Raises UsageError for what is not one."""
    module = _file(Path(place)) if place.endswith(".py") else _module(place)
    found = getattr(module, name, None)
    if found is None:
        there = [k for k, v in vars(module).items() if _is_policy(v) and v.__module__ == module.__name__]
        raise UsageError(f"{place} has no {name!r}; its policies are {', '.join(there) or 'none'}")
    return checked(found, f"{place}:{name}")


def checked(found: Any, where: str) -> type[Policy]:
    """``found``, a policy class that can be made. Raises UsageError for anything else."""
    if not _is_policy(found):
        raise UsageError(f"{where} is no policy class; subclass metasd.policies.Policy or IndexPolicy")
    if inspect.isabstract(found):
        raise UsageError(f"{where} lacks {', '.join(sorted(found.__abstractmethods__))}; write it as a policy needs it")
    policy: type[Policy] = found
    return policy


def entry_points() -> dict[str, importlib.metadata.EntryPoint]:
    """What installed packages offer in ``GROUP``, by name; nothing is imported yet."""
    return {point.name: point for point in importlib.metadata.entry_points(group=GROUP)}


def build(cls: type[Policy], name: str, settings: dict[str, str]) -> Policy:
    """A policy of somebody else's class. Raises UsageError, naming file and line, where its constructor fails."""
    with _told(f"policy {name} cannot be made"):
        policy: Policy = specs.build(cls, name, settings, "policy")
        return policy


def from_entry_point(point: importlib.metadata.EntryPoint) -> type[Policy]:
    """The class that ``point`` names. Raises UsageError where it cannot be imported or is no policy."""
    where = f"policy {point.name} ({point.value}, an entry point)"
    with _told(f"{where} cannot be imported"):
        found = point.load()
    return checked(found, where)


def _is_policy(thing: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, Policy) and thing is not Policy


def _file(path: Path) -> ModuleType:
    """The module in ``path``, read anew when the file has changed. Its folder is searched for what it imports."""
    path = path.expanduser().resolve()
    try:
        source = path.read_bytes()
    except OSError as error:
        raise UsageError(f"policy file {path}: {error.strerror or error}; give a file that can be read") from error
    name = f"{path.stem}_{sha256(str(path).encode() + source).hexdigest()[:12]}"
    if name in sys.modules:
        return sys.modules[name]
    made = importlib.util.spec_from_file_location(name, path)
    if made is None or made.loader is None:
        raise UsageError(f"policy file {path} is not Python; give a .py file")
    module = importlib.util.module_from_spec(made)
    _search(path.parent)
    sys.modules[name] = module  # what is pickled or annotated is looked up there
    try:
        with _told(f"policy file {path} cannot be imported"):
            made.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _module(name: str) -> ModuleType:
    """The module ``name``; the current folder is searched last."""
    _search(Path.cwd())
    try:
        with _told(f"policy module {name} cannot be imported"):
            return importlib.import_module(name)
    except UsageError as error:
        cause = error.__cause__
        missing = isinstance(cause, ModuleNotFoundError) and name.startswith(str(cause.name))
        if missing:
            raise UsageError(
                f"there is no policy and no module {name!r}; metasd policies lists them, file.py:Class names a file's"
            ) from cause
        raise


def _search(folder: Path) -> None:
    """Let imports find ``folder``, after everything else, so that it hides nothing."""
    if str(folder) not in sys.path:
        sys.path.append(os.fspath(folder))
        importlib.invalidate_caches()


@contextmanager
def _told(what: str) -> Iterator[None]:
    """Any failure of somebody else's code inside it as a UsageError of one line."""
    try:
        yield
    except MetaSDError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())
        frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<")]
        at = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
        raise UsageError(
            f"{what}: {type(error).__name__}: {said}{'' if isinstance(error, SyntaxError) else at}"
        ) from error
