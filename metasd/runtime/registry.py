"""The kinds of drafter a SPEC can name, and from specs to drafters and their pool.

``DRAFTERS`` is the whole registry. Importing this module loads no torch, so kinds can be listed without it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metasd.core import poolfolder, specs
from metasd.core.cache_rule import COMMITTED
from metasd.core.errors import UsageError
from metasd.core.limits import LONGEST_DRAFT
from metasd.core.pool import DRAFT_LENGTH, DRAFT_LENGTHS, PLAIN, DrafterInfo, Pool
from metasd.drafters import LookupDrafter, SuffixDrafter, TableDrafter
from metasd.drafters.table import SHIPPED_FOR, tables_of

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


@dataclass(frozen=True, slots=True)
class Opener:
    """A drafter that needs the target: what is known of it without one, and how it is opened for one."""

    info: DrafterInfo
    open: Callable[[Opening], Drafter]


@dataclass(frozen=True, slots=True)
class Wanted:
    """A SPEC taken apart: the kind, its settings, and the draft lengths of its arms (0: plain decoding)."""

    name: str
    settings: dict[str, str]
    lengths: list[int]


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


def model(path: str, name: str | None = None, revision: str | None = None) -> Opener:
    """See ``metasd.runtime.models.ModelDrafter``. ``revision``: branch, tag or commit of a Hugging Face id."""

    def open_(opening: Opening) -> Drafter:
        from metasd.runtime.load import same_tokenizer
        from metasd.runtime.models import ModelDrafter

        target = opening.target
        loaded = _loaded(path, str(target.device), target.dtype, revision)
        same_tokenizer(target, path, loaded.tokenizer)
        settings = {"path": loaded.name, "revision": loaded.revision} | poolfolder.made_for(path)
        info = DrafterInfo(name or loaded.name, "model", free=False, deterministic=False, settings=settings)
        return ModelDrafter(
            info, loaded.model, vocab_size=target.vocab_size, sampling=opening.sampling, seed=opening.seed
        )

    return Opener(DrafterInfo(name or model_name(path), "model", free=False, deterministic=False), open_)


def skip(layers: str, name: str = "skip") -> Opener:
    """See ``metasd.runtime.models.SkipDrafter``."""

    def open_(opening: Opening) -> Drafter:
        from metasd.runtime.models import SkipDrafter

        return SkipDrafter(opening.target, layers, name=name, sampling=opening.sampling, seed=opening.seed)

    return Opener(DrafterInfo(name, "skip", free=False, deterministic=False), open_)


def head(
    path: str, layers: str | None = None, ids: str | None = None, name: str | None = None, revision: str | None = None
) -> Opener:
    """See ``metasd.runtime.heads``. ``layers``: A+B+C, the states it reads; ``ids``: hf or outputs."""

    def open_(opening: Opening) -> Drafter:
        from metasd.runtime.heads.choose import open_head

        how = {"name": name, "layers": layers, "ids": ids, "revision": revision}
        return open_head(opening.target, path, sampling=opening.sampling, seed=opening.seed, **how)

    info = DrafterInfo(name or model_name(path), "head", free=False, deterministic=False, cache_rule=COMMITTED)
    return Opener(info, open_)


def plain() -> None:
    """Drafts nothing."""


DRAFTERS: dict[str, Kind] = {
    "lookup": Kind("Prompt lookup: copies what followed the last occurrence of the text's end.", LookupDrafter),
    "suffix": Kind(
        "Longest earlier end of the text, here or in earlier outputs; drafts what mostly followed.", SuffixDrafter
    ),
    "table": Kind("Longest n-gram wins, from the text or a table (path=); without a path, one grows.", TableDrafter),
    "model": Kind("A causal LM with the target's tokenizer: Hugging Face id, folder or .gguf file.", model),
    "skip": Kind("The target without a block of its layers: layers=FIRST-LAST or a count.", skip),
    "head": Kind("A trained head (EAGLE-1/2/3) for this target: Hugging Face id or folder.", head),
    PLAIN: Kind("No draft: plain decoding as an arm.", plain),
}


def build_drafters(
    wanted: Sequence[str],
    target: Target,
    *,
    draft_length: int | None = None,
    sampling: Sampling | None = None,
    seed: int = 0,
) -> tuple[list[Drafter], Pool]:
    """Fresh drafters for ``target`` and the pool of their arms, in the order of ``wanted`` (empty: the default pool).

    A SPEC is ``name:key=value,...`` with a name of ``DRAFTERS``. ``draft_length=1+3+8`` gives a drafter three arms; the
    default is one arm of ``draft_length``, and where that is None as ``parsed`` says. Length 0 is the plain arm, once
    however often it is named; a pool that does not name it has it behind all others.

    Raises UsageError for an unknown name, key or value, and for a drafter that does not fit the target.
    """
    from metasd.runtime.sampling import Sampling

    for spec in wanted:
        if _is_pool(spec):
            poolfolder.check_target(spec, target.name, target.revision, target.tokenizer_hashes)
    opening = Opening(target, sampling or Sampling(), seed)
    chosen = parsed(wanted, draft_length, smollm2=target.smollm2)
    drafters = [_open(w, opening) for w in chosen if any(w.lengths)]
    return drafters, _pool([d.info for d in drafters], chosen)


def preview(wanted: Sequence[str], target: str, *, draft_length: int | None = None) -> Pool:
    """The pool that ``build_drafters`` will make for the model called ``target``, before any model is loaded.

    Names and arms are the same; settings that need a model are left out. Raises UsageError for a SPEC that no target
    could use.
    """
    chosen = parsed(wanted, draft_length, smollm2=SHIPPED_FOR in model_name(target).lower())
    return _pool([_made(w).info for w in chosen if any(w.lengths)], chosen)


def parsed(wanted: Sequence[str], draft_length: int | None, *, smollm2: bool) -> list[Wanted]:
    """Every SPEC taken apart; a folder that ``metasd distill`` wrote stands for its specialists. Raises UsageError.

    draft_length: of drafters whose SPEC names none. None: ``DRAFT_LENGTHS`` in the default pool, else ``DRAFT_LENGTH``.
    """
    usual = (DRAFT_LENGTH,) if wanted else DRAFT_LENGTHS
    lengths = usual if draft_length is None else (draft_length,)
    return [w for spec in wanted or default_pool(smollm2=smollm2) for w in _parsed(spec, lengths)]


def default_pool(*, smollm2: bool) -> Sequence[str]:
    """Lookup and the shipped tables for SmolLM2; lookup and a growing table for any other target."""
    return SMOLLM2_POOL if smollm2 else DEFAULT_POOL


def _parsed(spec: str, usual: Sequence[int]) -> list[Wanted]:
    if _is_pool(spec):
        return _members(spec, list(usual))
    name, settings = specs.parse(spec)
    if name not in DRAFTERS:
        raise UsageError(
            f"unknown drafter {name!r}; choose one of {', '.join(DRAFTERS)}, or a folder of metasd distill"
        )
    if name == PLAIN:
        specs.build(plain, name, settings, "drafter")
        return [Wanted(name, {}, [0])]
    if not settings.get("name", name):
        raise UsageError(f"{spec!r} has an empty name; write name=... with something behind it, or leave it out")
    lengths = _lengths(settings.pop("draft_length", "+".join(map(str, usual))), spec)
    if name == "table" and Path(settings.get("path", "")).is_dir() and "path" in settings:
        if "name" in settings:
            raise UsageError(f"{spec!r} names a folder of several tables; leave name= out")
        return [Wanted(name, settings | {"path": path}, lengths) for path in tables_of(settings["path"])]
    return [Wanted(name, settings, lengths)]


def _is_pool(spec: str) -> bool:
    return bool(spec) and spec not in DRAFTERS and Path(spec).is_dir()


def _members(folder: str, lengths: list[int]) -> list[Wanted]:
    """The specialists of a pool, trained ones named by domain. Raises UsageError for a folder that is none."""
    found = poolfolder.members(folder)
    trained = [m for m in found if m.kind != "table"]
    tables = tables_of(folder) if len(trained) < len(found) or not found else []
    made = [Wanted("table", {"path": path}, lengths) for path in tables]
    return made + [Wanted(m.kind, {"path": m.path, "name": f"{m.kind}-{m.domain}"}, lengths) for m in trained]


def _pool(infos: Sequence[DrafterInfo], chosen: Sequence[Wanted]) -> Pool:
    """The pool of the arms; plain decoding is one arm, last where it is not named."""
    arms: list[tuple[int, int]] = []
    drafter = -1
    for w in chosen:
        drafter += any(w.lengths)
        arms += [(drafter, n) if n else (-1, 0) for n in w.lengths]
    return Pool(infos, [arm for i, arm in enumerate(arms) if arm[0] >= 0 or arm not in arms[:i]]).with_plain()


def model_name(spec: str) -> str:
    """What a model is called that is loaded from ``spec``; known without loading, or converting, it."""
    path = Path(spec).expanduser()
    if spec.endswith(".gguf"):
        return path.stem
    return path.resolve().name if spec and path.is_dir() else spec


def heavier(target: Target, drafters: Sequence[Drafter]) -> list[str]:
    """A line for every drafter that has more parameters than the target: it can hardly save time."""
    own = target.model.num_parameters()
    models = [(d.info.name, d.causal.model.num_parameters()) for d in drafters if d.causal is not None]
    return [
        f"drafter {name} has {n:,} parameters, more than the {own:,} of target {target.name}: "
        f"its drafts cost more than they save; use a smaller one"
        for name, n in models
        if n > own
    ]


def _made(wanted: Wanted) -> Any:
    """A drafter, or its Opener. Raises UsageError for an unknown key or value."""
    kind, settings = DRAFTERS[wanted.name], wanted.settings
    if "draft_length" in kind.settings:
        settings = settings | {"draft_length": str(max(wanted.lengths))}
    return specs.build(kind.factory, wanted.name, settings, "drafter")


def _open(wanted: Wanted, opening: Opening) -> Drafter:
    made = _made(wanted)
    drafter: Drafter = made.open(opening) if isinstance(made, Opener) else made
    if isinstance(drafter, TableDrafter):
        drafter.require(opening.target.tokenizer_hashes, opening.target.vocab_size)
    return drafter


def _lengths(value: str, spec: str) -> list[int]:
    """``1+3+8`` as numbers. Raises UsageError for anything else."""
    parts = value.split("+")
    if not all(p.strip().isdecimal() and int(p) <= LONGEST_DRAFT for p in parts):
        raise UsageError(
            f"draft_length {value!r} of drafter {spec!r} is not a number from 0 to {LONGEST_DRAFT}"
            " or several like 1+3+8"
        )
    return [int(p) for p in parts]


@lru_cache(maxsize=4)
def _loaded(path: str, device: str, dtype: str, revision: str | None) -> Target:
    """Contenders that decode side by side share a drafter's weights, each with a cache of its own."""
    from metasd.runtime.load import load_target

    return load_target(path, device, dtype, revision=revision)
