"""Prompt files: JSON lines of prompts with a domain and an id, ours or in Spec-Bench's question format.

Knows nothing of tokenizers; chat templates are the runtime's business.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from metasd.core.errors import UsageError

DEFAULT_DOMAIN = "default"
TOTAL = "all"
"""Name of the row over all domains in every table, so no domain may be called that."""

BUNDLED = Path(__file__).parents[1] / "data" / "prompts"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: what the user says, in one turn or several. ``where``: the file and line it was read from."""

    id: str
    domain: str
    turns: tuple[str, ...]
    where: str = field(default="", compare=False)

    @property
    def text(self) -> str:
        """The first turn."""
        return self.turns[0]


def bundled(name: str) -> Path:
    """Path of a prompt file in the package: reference, demo or distill. Raises UsageError for another name."""
    path = BUNDLED / f"{name}.jsonl"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in BUNDLED.glob("*.jsonl")))
        raise UsageError(f"no bundled prompts are called {name!r}; there are {known}")
    return path


def load_prompts(path: Path | str, turns: Literal["first", "all"] = "first") -> list[Prompt]:
    """Read a prompt file: lines ``{"prompt", "domain", "id"}`` or ``{"question_id", "category", "turns"}``.

    ``turns``: keep only the first turn of a question, or all of them. A missing domain is ``default``, a missing id
    ``line-N``. Blank lines are skipped. Raises UsageError, naming the line, for anything else, for two prompts with
    one id, and for a file without prompts.
    """
    if turns not in ("first", "all"):
        raise UsageError(f"turns {turns!r} is unknown; use first or all")
    try:
        lines = Path(path).read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not UTF-8 text; a prompt file is JSON lines") from None
    except OSError as error:
        raise UsageError(f"prompt file {path} cannot be read: {error.strerror}") from None
    prompts: dict[str, Prompt] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            where = f"{path} line {number}"
            prompt = _parse(line, number, where, turns)
            if prompt.id in prompts:
                raise UsageError(f"{where}: id {prompt.id!r} was used before; ids must differ")
            prompts[prompt.id] = prompt
    if not prompts:
        raise UsageError(f"{path} holds no prompts; write one JSON object a line, with a key prompt")
    return list(prompts.values())


def prompts_hash(prompts: Sequence[Prompt]) -> str:
    """SHA-256 over ids, domains and turns in order: what a trace or table was made from."""
    rows = [[p.id, p.domain, list(p.turns)] for p in prompts]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=True).encode()).hexdigest()


def _parse(line: str, number: int, where: str, turns: str) -> Prompt:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise UsageError(f"{where}: not JSON ({error})") from None
    if not isinstance(row, dict):
        raise UsageError(f"{where}: {type(row).__name__} instead of an object with a key prompt")
    said = _turns(row, where)
    identity = row.get("id", row.get("question_id"))
    domain = row.get("domain", row.get("category"))
    name = f"line-{number}" if identity is None else _name(identity, "id", where)
    kind = DEFAULT_DOMAIN if domain is None else _name(domain, "domain", where)
    if kind == TOTAL:
        raise UsageError(f"{where}: domain {TOTAL!r} is the name of the total; call it something else")
    return Prompt(name, kind, said if turns == "all" else said[:1], where=where)


def _turns(row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    if ("prompt" in row) == ("turns" in row):
        raise UsageError(f"{where}: needs a key prompt, or question_id, category and turns")
    said = [row["prompt"]] if "prompt" in row else row["turns"]
    if not isinstance(said, list) or not said or not all(isinstance(t, str) and t.strip() for t in said):
        raise UsageError(f"{where}: {'prompt' if 'prompt' in row else 'turns'} must be text that is not empty")
    return tuple(said)


def _name(value: Any, what: str, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
        raise UsageError(f"{where}: {what} {value!r} must be text or a whole number")
    return str(value)
