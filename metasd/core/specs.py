"""``name:key=value,...``: how the command line names policies and drafters."""

from __future__ import annotations

import inspect
import math
import re
import types
import typing
from collections.abc import Callable
from typing import Any

from metasd.core.errors import UsageError

_COMMA = re.compile(r"(?<!\\),")


def parse(spec: str) -> tuple[str, dict[str, str]]:
    """Split ``name:key=value,key=value``. Raises UsageError naming the part without ``=``."""
    name, _, rest = spec.partition(":")
    if not name.strip():
        raise UsageError(f"{spec!r} has no name; write name or name:key=value,...")
    return name.strip(), settings(rest, spec, f"{name}:")


def settings(rest: str, spec: str, lead: str) -> dict[str, str]:
    """``key=value,...`` of ``spec`` by key, written after ``lead``; a comma inside a value is ``\\,``.

    Raises UsageError naming the part without ``=``.
    """
    found: dict[str, str] = {}
    for part in filter(None, (p.strip() for p in _COMMA.split(rest))):
        key, equals, value = part.replace("\\,", ",").partition("=")
        if not equals:
            raise UsageError(f"{part!r} in {spec!r} is not key=value; write {lead}{part}=...")
        if key.strip() in found:
            raise UsageError(f"{key.strip()!r} is given twice in {spec!r}; give it once")
        found[key.strip()] = value.strip()
    return found


def convert(value: str, annotation: Any, where: str) -> Any:
    """``value`` as the annotated type: bool, int, float or str, optional or not."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        options = [a for a in typing.get_args(annotation) if a is not type(None)]
        return None if value == "none" else convert(value, options[0], where)
    try:
        if annotation is bool:
            return {"true": True, "false": False, "1": True, "0": False}[value.lower()]
        if annotation is float and not math.isfinite(float(value)):
            raise ValueError
        return annotation(value) if annotation in (int, float) else value
    except (ValueError, KeyError):
        kind = getattr(annotation, "__name__", str(annotation))
        raise UsageError(f"{where}: {value!r} is not a {kind}") from None


def build(factory: Callable[..., Any], name: str, settings: dict[str, str], what: str) -> Any:
    """Call ``factory`` with ``settings`` converted by its annotations. Raises UsageError for an unknown key."""
    known = parameters(factory)
    for key in settings:
        if key not in known:
            raise UsageError(f"{what} {name!r} has no key {key!r}; its keys are {', '.join(known) or 'none'}")
    typed = {k: convert(v, _kind(known[k]), f"{what} {name}:{k}") for k, v in settings.items()}
    missing = [k for k, p in known.items() if p.default is p.empty and k not in typed]
    if missing:
        raise UsageError(f"{what} {name!r} needs {missing[0]}=...; write {name}:{missing[0]}=VALUE")
    return factory(**typed)


def _kind(parameter: inspect.Parameter) -> Any:
    """The type of a setting: its annotation, without one that of its default."""
    if parameter.annotation is not parameter.empty:
        return parameter.annotation
    plain = parameter.default is None or parameter.default is parameter.empty
    return str if plain else type(parameter.default)


def parameters(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The named settings of ``factory``; those of the classes it inherits from too, as far as it passes **keys on."""
    found: dict[str, inspect.Parameter] = {}
    owners = factory.__mro__ if isinstance(factory, type) else (factory,)
    for owner in owners:
        call = owner.__dict__.get("__init__") if isinstance(factory, type) else owner
        if call is None or not inspect.isfunction(call):
            continue
        own = inspect.signature(call, eval_str=True).parameters
        for name, p in own.items():
            if name != "self" and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
                found.setdefault(name, p)
        if not any(p.kind is p.VAR_KEYWORD for p in own.values()):
            break
    return found
