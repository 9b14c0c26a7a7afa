"""The prompts that ship: how a command names them, which of them are kept for evaluation, and which are reworded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from metasd.core.errors import UsageError
from metasd.core.prompts import BUNDLED, STDIN, Prompt, bundled, load_prompts

SETS = {
    "train": "what drafters are trained on, in six domains",
    "untrained": "two further domains, in the manner of train, that no drafter is trained on",
    "eval": "what drafters are measured on: the eight domains of train and untrained",
    "reworded": "the tasks of eval in the domains of train, in other words and other formats",
    "two-task": "prompts whose second half is another task; a domain is named FIRST-then-SECOND",
    "demo": "a few prompts of every domain, for metasd demo",
    "distill": "what the shipped tables were counted from, made of templates",
    "reference": "what the shipped reference trace was recorded on",
    "reference-2": "what the larger reference trace, reference-2, was recorded on",
}
"""Name of each set, and what it is for."""

KEPT = ("eval", "reworded", "two-task")
"""Sets that nothing may be trained on."""


def is_builtin(path: Path | str) -> bool:
    """Whether ``path`` is no file but SET or SET/DOMAIN+DOMAIN."""
    path = Path(path)
    if str(path) == STDIN or path.exists() or path.suffix:
        return False
    parts = path.parts
    return len(parts) == 1 or (len(parts) == 2 and (BUNDLED / f"{parts[0]}.jsonl").is_file())


def load(name: Path | str) -> list[Prompt]:
    """The prompts of ``SET`` or of some of its domains: ``SET/DOMAIN+DOMAIN``, in the order of the file.

    Raises UsageError for an unknown set or domain.
    """
    base, _, chosen = Path(name).as_posix().partition("/")
    prompts = load_prompts(bundled(base))
    if not chosen:
        return prompts
    known = list(dict.fromkeys(p.domain for p in prompts))
    wanted = chosen.split("+")
    for domain in wanted:
        if domain not in known:
            raise UsageError(f"prompts {base!r} have no domain {domain!r}; there are {', '.join(known)}")
    return [p for p in prompts if p.domain in wanted]


def rows(prompts: Sequence[Prompt]) -> list[dict[str, str]]:
    """What ``load_prompts`` reads, a line each: id, domain and first turn."""
    return [{"id": p.id, "domain": p.domain, "prompt": p.text} for p in prompts]


def shown_name(path: Path | None) -> str | None:
    """What a result document calls the prompts of ``path``: the built-in name, or the file's without its folder."""
    return None if path is None else path.as_posix() if is_builtin(path) else path.name


def original(prompt: str) -> str | None:
    """Id of the evaluation prompt that the reworded one called ``prompt`` comes from; None where it is none of them."""
    kind, _, rest = prompt.partition("-")
    return f"eval-{rest}" if kind == "reworded" and rest else None


def refuse_evaluation(prompts: Sequence[Prompt]) -> None:
    """Raises UsageError where one of ``prompts`` says what a prompt kept for evaluation says, whatever its id."""
    kept = {_plain(p.text): p.id for name in KEPT for p in load(name)}
    found = [(p.id, kept[_plain(turn)]) for p in prompts for turn in p.turns if _plain(turn) in kept]
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise UsageError(
            f"prompt {found[0][0]!r} is {found[0][1]!r}{more}, kept for evaluation; train on other prompts (train)"
        )


def _plain(text: str) -> str:
    """``text`` without the differences that make no other prompt: case, and how words are spaced."""
    return " ".join(text.casefold().split())
