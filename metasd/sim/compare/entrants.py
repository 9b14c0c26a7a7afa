"""Who takes part in a comparison: how a policy travels to a worker, and which code its outcome depends on."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import sys
from collections.abc import Container, Iterator, Sequence
from functools import lru_cache
from hashlib import sha256
from itertools import chain, count
from pathlib import Path
from typing import Any

import cloudpickle

from metasd.core.errors import UsageError
from metasd.policies import REGISTERED, Policy, PolicyLike, label, make, resolve
from metasd.sim.compare.outcome import Entry

_PLAYS = "metasd.sim.replay.run"
_WHOLE = ("metasd", "metasd.policies")
"""Packages that import everything: what a policy needs of them it imports by name or inherits."""


def entrants(policies: Sequence[PolicyLike]) -> list[Entry]:
    """The policies as they take part, equal specs once, equal names of objects numbered. Raises UsageError."""
    found: list[Entry] = []
    for policy in policies:
        if isinstance(policy, str) and any(e.spec == policy for e in found):
            continue
        found.append(entrant(policy, {e.spec for e in found}))
    return found


def entrant(policy: PolicyLike, taken: Container[str] = (), *, comparator: bool = False) -> Entry:
    """``policy`` as it takes part, under the first name that is not ``taken``. Raises UsageError as ``make`` does."""
    made = make(policy)
    spec = policy if isinstance(policy, str) and policy.partition(":")[0].strip() not in REGISTERED else None
    return Entry(
        first_free(label(policy), taken),
        comparator=comparator,
        takes_prior=type(made).set_prior is not Policy.set_prior,
        pickled=cloudpickle.dumps(made) if spec is None else None,
        code=code_of(made, spec),
    )


def first_free(name: str, taken: Container[str]) -> str:
    """``name``, or ``name #2``, ``name #3``, ...: the first that is not ``taken``."""
    return next(label for label in chain([name], (f"{name} #{n}" for n in count(2))) if label not in taken)


def refuse_unknown(entries: Sequence[Entry]) -> None:
    """Raises UsageError where outcomes would be kept of a policy whose code cannot be read, so its edits not
    noticed."""
    for entry in entries:
        if entry.code is None:
            raise UsageError(
                f"the source of {entry.spec} cannot be read, so nothing of it can be kept; move it to a file"
            )


def code_of(policy: Policy, spec: str | None) -> str | None:
    """A digest of all that an outcome depends on besides settings and trace; None where source cannot be read.

    It covers the module of the policy's class and of the classes it inherits from, what these import of their own
    package, folder or metasd, the code that replays, files that ``spec`` names, and the state of an object (no spec).
    """
    classes = [c for c in type(policy).__mro__ if issubclass(c, Policy)]
    modules = list(dict.fromkeys(c.__module__ for c in classes))
    loose = [c for c in classes if _source(c.__module__) is None]
    written = [_methods(c) for c in loose]
    if None in written:
        return None
    read = {*_reached([*modules, _PLAYS]), *((c.__qualname__, text) for c, text in zip(loose, written, strict=True))}
    found = sha256(type(policy).__qualname__.encode())
    for name, text in sorted(read):
        found.update(f"\n{name}\n".encode() + (text or b""))
    if spec is None:
        found.update(cloudpickle.dumps(vars(policy)))
    else:
        for value in resolve(spec)[2].values():
            found.update(Path(value).read_bytes() if Path(value).is_file() else b"-")
    return found.hexdigest()[:24]


def _methods(cls: type) -> bytes | None:
    """The source of the methods of a class that no file holds, as in a notebook; None where that is gone as well."""
    try:
        return "".join(inspect.getsource(f) for f in vars(cls).values() if inspect.isfunction(f)).encode()
    except (OSError, TypeError):
        return None


def _reached(starts: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """File name and source of the modules ``starts`` and of those that they import, as far as these are the same
    hand's."""
    roots = {name.partition(".")[0] for name in starts} | {"metasd"}
    folders = {_folder(name) for name in starts} - {None}
    todo, seen = list(starts), set(_WHOLE)
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        source = _source(name)
        if source is None or (name.partition(".")[0] not in roots and _folder(name) not in folders):
            continue
        yield Path(str(sys.modules[name].__file__)).name, source
        todo += _imports(source, str(getattr(sys.modules[name], "__package__", None) or ""))


def _source(name: str) -> bytes | None:
    file: Any = getattr(sys.modules.get(name), "__file__", None)
    return Path(file).read_bytes() if file is not None and file.endswith(".py") and Path(file).is_file() else None


def _folder(name: str) -> Path | None:
    file: Any = getattr(sys.modules.get(name), "__file__", None)
    return None if file is None else Path(file).parent


@lru_cache(maxsize=1024)
def _imports(source: bytes, package: str) -> tuple[str, ...]:
    """Names that may be modules among those that ``source`` imports, inside functions too."""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [a.name for a in node.names]
        elif isinstance(node, ast.ImportFrom):
            dots = "." * node.level + (node.module or "")
            base = importlib.util.resolve_name(dots, package) if node.level else dots
            found += [base, *(f"{base}.{a.name}" for a in node.names)]
    return tuple(found)
