"""Prompt files: JSON lines of prompts with a domain and an id, ours or in Spec-Bench's question format, or plain text.

Knows nothing of tokenizers; chat templates are the runtime's business.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from metasd.core import lines
from metasd.core.errors import UsageError

DEFAULT_DOMAIN = "default"
TOTAL = "all"
"""Name of the row over all domains in every table, so no domain may be called that."""

STDIN = "-"
"""What stands for standard input where a prompt file, or a prompt, is named."""

TABLES = (".csv", ".tsv")
"""Endings of the names of files that are tables."""

KEYS = ("id", "domain", "prompt", "messages", "system", "stop", "question_id", "category", "turns", "reference")
"""Keys of a line. ``reference`` is Spec-Bench's: an answer to compare with, which is not read."""

ROLES = ("system", "user", "assistant")

Message = Mapping[str, str]
"""``{"role": one of ROLES, "content": text}``."""

BUNDLED = Path(__file__).parents[1] / "data" / "prompts"


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt: what the user says, in one turn or several.

    before: (role, text) of what was said before the first turn: a system text, an earlier conversation.
    stop: texts that end an answer where they are complete.
    where: the file and line it was read from.
    """

    id: str
    domain: str
    turns: tuple[str, ...]
    before: tuple[tuple[str, str], ...] = ()
    stop: tuple[str, ...] = ()
    where: str = field(default="", compare=False)

    @property
    def text(self) -> str:
        """The first turn."""
        return self.turns[0]

    @property
    def text_ids(self) -> list[str]:
        """Ids of the texts that the turns become: the prompt's own, then ``id#2``, ``id#3``, ..."""
        return [self.id, *(f"{self.id}#{i}" for i in range(2, len(self.turns) + 1))]

    def messages(self, answers: Sequence[str] = ()) -> list[Message]:
        """The conversation up to the turn behind ``answers``, those given to the turns before it."""
        asked = [("user", turn) for turn in self.turns[: len(answers) + 1]]
        given = [("assistant", answer) for answer in answers]
        said = [m for pair in zip(asked, given, strict=False) for m in pair]
        return [{"role": role, "content": text} for role, text in [*self.before, *said, *asked[len(answers) :]]]


def bundled(name: str) -> Path:
    """Path of a prompt file in the package (``metasd.core.builtin.SETS``). Raises UsageError for another name."""
    path = BUNDLED / f"{name}.jsonl"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in BUNDLED.glob("*.jsonl")))
        raise UsageError(f"no bundled prompts are called {name!r}; there are {known}")
    return path


def load_prompts(path: Path | str, turns: Literal["first", "all"] = "first") -> list[Prompt]:
    """Read a prompt file: JSON lines with one of

    - ``prompt``: what the user says;
    - ``messages``: a conversation, ``[{"role": "system" | "user" | "assistant", "content": text}, ...]``; the user
      speaks last, and is answered;
    - ``question_id``, ``category``, ``turns``: Spec-Bench's questions.

    Each may have ``id``, ``domain``, ``system`` (a text before the conversation) and ``stop`` (a text or several that
    end the answer). A file called ``*.csv`` or ``*.tsv`` has the same keys as its first line, and a prompt a row. A
    file called ``*.txt`` is one prompt, the whole of it without its last line break, with its name as id. ``-`` reads
    JSON lines from standard input.

    ``turns``: keep only the first turn of a question, or all of them. A missing domain is ``default``, a missing id
    ``line-N``. Blank lines are skipped. Raises UsageError, naming the line, for anything else, an unknown key
    included, for two prompts with one id, and for a file without prompts.
    """
    if turns not in ("first", "all"):
        raise UsageError(f"turns {turns!r} is unknown; use first or all")
    name = lines.STDIN_NAME if str(path) == STDIN else str(path)
    text = lines.standard_input() if str(path) == STDIN else lines.read(path)
    if Path(path).suffix == ".txt":
        if not text.strip():
            raise UsageError(f"{name} holds no prompt; write some text into it")
        return [Prompt(Path(path).stem, DEFAULT_DOMAIN, (text.removesuffix("\n"),))]
    prompts: dict[str, Prompt] = {}
    read = lines.table if Path(path).suffix.lower() in TABLES else lines.rows
    for row in read(text, name):
        prompt = _parse(row.value, row.number, row.where, turns)
        if prompt.id in prompts:
            raise UsageError(f"{row.where}: id {prompt.id!r} was used before; ids must differ")
        prompts[prompt.id] = prompt
    if not prompts:
        raise UsageError(f"{name} holds no prompts; write one JSON object a line, with a key prompt")
    return list(prompts.values())


def prompts_hash(prompts: Sequence[Prompt]) -> str:
    """SHA-256 over all that prompts say, in order: what a trace or table was made from."""
    rows = [[p.id, p.domain, list(p.turns), *([[p.before, p.stop]] if p.before or p.stop else [])] for p in prompts]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=True).encode()).hexdigest()


def _parse(row: Any, number: int, where: str, turns: str) -> Prompt:
    if not isinstance(row, dict):
        raise UsageError(f"{where}: {type(row).__name__} instead of an object with a key prompt")
    for key in row:
        if key not in KEYS:
            close = difflib.get_close_matches(str(key), KEYS, 1)
            mend = f"did you mean {close[0]}?" if close else f"use {', '.join(KEYS)}"
            raise UsageError(f"{where}: unknown key {key!r}; {mend}")
    before, said = _said(row, where)
    identity = row.get("id", row.get("question_id"))
    domain = row.get("domain", row.get("category"))
    name = f"line-{number}" if identity is None else _name(identity, "id", where)
    kind = DEFAULT_DOMAIN if domain is None else _name(domain, "domain", where)
    if kind == TOTAL:
        raise UsageError(f"{where}: domain {TOTAL!r} is the name of the total; call it something else")
    return Prompt(name, kind, said if turns == "all" else said[:1], before, _stop(row, where), where)


def _said(row: Mapping[str, Any], where: str) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
    """(what was said before, the user's turns)."""
    forms = [key for key in ("prompt", "messages", "turns") if key in row]
    if len(forms) != 1:
        raise UsageError(f"{where}: needs a key prompt, or messages, or question_id, category and turns, and only one")
    before = (("system", _text(row["system"], "system", where)),) if row.get("system") is not None else ()
    if forms == ["messages"]:
        said = parse_messages(row["messages"], where)
        if before and said[0][0] == "system":
            raise UsageError(f"{where}: system is given twice, as a key and as a message; give it once")
        return before + said[:-1], (said[-1][1],)
    turns = [row["prompt"]] if "prompt" in row else row["turns"]
    if not isinstance(turns, list) or not turns or not all(isinstance(t, str) and t.strip() for t in turns):
        raise UsageError(f"{where}: {forms[0]} must be text that is not empty")
    return before, tuple(turns)


def parse_messages(messages: Any, where: str) -> tuple[tuple[str, str], ...]:
    """(role, text) of each message. A content may be a list of text parts, as in OpenAI's format.

    Raises UsageError unless the user's and the assistant's messages follow each other in turn, the user's first and
    last, with at most a system text before them.
    """
    if not isinstance(messages, (list, tuple)) or not messages:
        raise UsageError(f"{where}: messages must be a list of objects with role and content")
    said: list[tuple[str, str]] = []
    for i, message in enumerate(messages, start=1):
        if not isinstance(message, Mapping) or set(message) != {"role", "content"}:
            raise UsageError(f"{where}: message {i} must be an object with role and content, and nothing else")
        role = message["role"]
        turns = len([r for r, _ in said if r != "system"])
        allowed = [("user", "assistant")[turns % 2]] + (["system"] if not said else [])
        if role not in allowed:
            raise UsageError(f"{where}: message {i} has role {role!r}; here it must be {' or '.join(allowed)}")
        said.append((role, _text(_joined(message["content"]), f"content of message {i}", where)))
    if said[-1][0] != "user":
        raise UsageError(f"{where}: the last message must be the user's, which is then answered")
    return tuple(said)


def _joined(content: Any) -> Any:
    """The text of a list of text parts; anything else as it is."""
    if not isinstance(content, list):
        return content
    texts = [p.get("text") for p in content if isinstance(p, Mapping) and p.get("type") == "text"]
    whole = len(texts) == len(content) and all(isinstance(t, str) for t in texts)
    return "".join(str(t) for t in texts) if whole else content


def _stop(row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    given = row.get("stop")
    listed = [] if given is None else [given] if isinstance(given, str) else given
    if not isinstance(listed, list) or not all(isinstance(t, str) and t for t in listed):
        raise UsageError(f"{where}: stop {given!r} must be text, or a list of texts, that are not empty")
    return tuple(listed)


def _text(value: Any, what: str, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{where}: {what} must be text that is not empty")
    return value


def _name(value: Any, what: str, where: str) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
        raise UsageError(f"{where}: {what} {value!r} must be text or a whole number")
    return str(value)
