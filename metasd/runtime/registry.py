"""The kinds of drafter a SPEC can name, and from specs to drafters and their pool.

``DRAFTERS`` is the whole registry. Importing this module loads no torch, so kinds can be listed without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from metasd.core import specs
from metasd.core.errors import UsageError
from metasd.core.pool import PLAIN, DrafterInfo, Pool
from metasd.drafters import LookupDrafter, TableDrafter

if TYPE_CHECKING:
    from metasd.drafters.base import Drafter
    from metasd.runtime.load import Target
    from metasd.runtime.sampling import Sampling

DEFAULT_POOL = ("lookup", "table")
SMOLLM2_POOL = ("lookup", "table:path=code", "table:path=math", "table:path=chat")


@dataclass(frozen=True, slots=True)
class Opening:
    """What a drafter is opened for."""

    target: Target
    sampling: Sampling
    seed: int


Open = Callable[[Opening], "Drafter"]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of drafter. ``factory`` takes the keys of a SPEC; it makes a drafter, or something that opens one."""

    help: str
    factory: Callable[..., Any]

    @property
    def settings(self) -> Mapping[str, Any]:
        """Keys with their defaults, None for a key without one."""
        known = specs.parameters(self.factory).items()
        return {key: None if p.default is p.empty else p.default for key, p in known}


def model(path: str, name: str | None = None, revision: str | None = None) -> Open:
    """See ``metasd.runtime.models.ModelDrafter``. ``revision``: branch, tag or commit of a Hugging Face id."""

    def open_(opening: Opening) -> Drafter:
        from metasd.runtime.load import same_tokenizer
        from metasd.runtime.models import ModelDrafter

        target = opening.target
        loaded = _loaded(path, str(target.device), target.dtype, revision)
        same_tokenizer(target, path, loaded.tokenizer)
        settings = {"path": loaded.name, "revision": loaded.revision}
        info = DrafterInfo(name or loaded.name, "model", free=False, deterministic=False, settings=settings)
        return ModelDrafter(
            info, loaded.model, vocab_size=target.vocab_size, sampling=opening.sampling, seed=opening.seed
        )

    return open_


def skip(layers: str, name: str = "skip") -> Open:
    """See ``metasd.runtime.models.SkipDrafter``."""

    def open_(opening: Opening) -> Drafter:
        from metasd.runtime.models import SkipDrafter

        return SkipDrafter(opening.target, layers, name=name, sampling=opening.sampling, seed=opening.seed)

    return open_


def plain() -> None:
    """Drafts nothing."""


DRAFTERS: dict[str, Kind] = {
    "lookup": Kind("Prompt lookup: copies what followed the last occurrence of the text's end.", LookupDrafter),
    "table": Kind("Longest n-gram wins, from the text or a table (path=); without a path, one grows.", TableDrafter),
    "model": Kind("A causal LM with the target's tokenizer: Hugging Face id, folder or .gguf file.", model),
    "skip": Kind("The target without a block of its layers: layers=FIRST-LAST or a count.", skip),
    PLAIN: Kind("No draft: plain decoding as an arm.", plain),
}


def build_drafters(
    wanted: Sequence[str],
    target: Target,
    *,
    draft_length: int = 8,
    sampling: Sampling | None = None,
    seed: int = 0,
) -> tuple[list[Drafter], Pool]:
    """Fresh drafters for ``target`` and the pool of their arms, in the order of ``wanted`` (empty: the default pool).

    A SPEC is ``name:key=value,...`` with a name of ``DRAFTERS``. ``draft_length=1+3+8`` gives a drafter three arms; the
    default is one arm of ``draft_length``. Length 0 is the plain arm, once however often it is named.

    Raises UsageError for an unknown name, key or value, and for a drafter that does not fit the target.
    """
    from metasd.runtime.sampling import Sampling

    opening = Opening(target, sampling or Sampling(), seed)
    drafters: list[Drafter] = []
    arms: list[tuple[int, int]] = []
    for spec in wanted or default_pool(target):
        name, settings = specs.parse(spec)
        if name not in DRAFTERS:
            raise UsageError(f"unknown drafter {name!r}; choose one of {', '.join(DRAFTERS)}")
        if name == PLAIN:
            specs.build(plain, name, settings, "drafter")
        lengths = [0] if name == PLAIN else _lengths(settings.pop("draft_length", str(draft_length)), spec)
        if any(lengths):
            arms += [(len(drafters), n) if n else (-1, 0) for n in lengths]
            drafters.append(_open(name, settings, max(lengths), opening))
        else:
            arms.append((-1, 0))
    unique = [arm for i, arm in enumerate(arms) if arm[0] >= 0 or arm not in arms[:i]]
    return drafters, Pool([d.info for d in drafters], unique)


def default_pool(target: Target) -> Sequence[str]:
    """Lookup and the shipped tables for SmolLM2; lookup and a growing table for any other target."""
    return SMOLLM2_POOL if target.smollm2 else DEFAULT_POOL


def _open(name: str, settings: dict[str, str], longest: int, opening: Opening) -> Drafter:
    kind = DRAFTERS[name]
    if "draft_length" in kind.settings:
        settings = settings | {"draft_length": str(longest)}
    made = specs.build(kind.factory, name, settings, "drafter")
    drafter: Drafter = made(opening) if callable(made) else made
    if isinstance(drafter, TableDrafter):
        drafter.require(opening.target.tokenizer_hashes, opening.target.vocab_size)
    return drafter


def _lengths(value: str, spec: str) -> list[int]:
    """``1+3+8`` as numbers. Raises UsageError for anything else."""
    parts = value.split("+")
    if not all(p.strip().isdigit() for p in parts):
        raise UsageError(
            f"draft_length {value!r} of drafter {spec!r} is not 0, a positive number or several like 1+3+8"
        )
    return [int(p) for p in parts]


@lru_cache(maxsize=4)
def _loaded(path: str, device: str, dtype: str, revision: str | None) -> Target:
    """Contenders that decode side by side share a drafter's weights, each with a cache of its own."""
    from metasd.runtime.load import load_target

    return load_target(path, device, dtype, revision=revision)
