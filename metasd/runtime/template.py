"""From a conversation to token ids: the one rule of how a chat template is asked, and what is done without one.

Knows tokenizers; knows nothing of models or prompt files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from metasd.core import shown
from metasd.core.errors import UsageError
from metasd.core.prompts import Message


def encode(tokenizer: Any, messages: Sequence[Message], name: str, *, raw: bool) -> list[int]:
    """Token ids of a conversation that is to be answered; of its one text where ``raw`` or without a chat template.

    A raw text gets what the tokenizer puts before it, never an end-of-text token behind it: nothing follows such a
    one. Raises UsageError for several messages without a template, and for a template that does not take them.
    """
    if tokenizer.chat_template and not raw:
        return _ids(tokenizer(render(tokenizer, messages, name), add_special_tokens=False))
    if len(messages) != 1:
        why = "which raw prompts cannot have; leave --raw out" if raw else f"and {name} has no chat template"
        roles = "a system text" if messages[0]["role"] == "system" else "several turns"
        raise UsageError(f"a prompt has {roles}, {why}")
    text = messages[0]["content"]
    ids = _ids(tokenizer(text))
    if ids[-1:] != [tokenizer.eos_token_id] or _ids(tokenizer(text, add_special_tokens=False))[-1:] == ids[-1:]:
        return ids
    return ids[:-1]


def render(tokenizer: Any, messages: Sequence[Message], name: str) -> str:
    """The conversation as the tokenizer's chat template writes it, ready for the assistant's next words.

    Most templates take a message's content as text; those of vision-language models loop over a list of parts, and
    render nothing for a text. So both forms are tried on words that cannot be missed, and the first that shows all
    of them is used. Raises UsageError where neither does, or where the template itself refuses.
    """
    probes = [{"role": m["role"], "content": f"metasd{i}probe"} for i, m in enumerate(messages)]
    problems = []
    for form in (_as_text, _as_parts):
        try:
            text = _apply(tokenizer, probes, form)
        except Exception as error:  # templates raise what they like
            problems.append(f"refuses them: {shown.reason(error)}")
            continue
        lost = [p["role"] for p in probes if p["content"] not in text]
        if not lost:
            try:
                return _apply(tokenizer, messages, form)
            except Exception as error:
                problems.append(f"refuses them: {shown.reason(error)}")
                break
        problems.append(f"leaves out what the {lost[0]} says")
    roles = ", ".join(m["role"] for m in messages)
    said = f"was given messages ({roles}) and {problems[0]}"
    raise UsageError(f"the chat template of {name} {said}; change them or use --raw")


Form = Callable[[Message], dict[str, Any]]


def _as_text(message: Message) -> dict[str, Any]:
    return dict(message)


def _as_parts(message: Message) -> dict[str, Any]:
    return {"role": message["role"], "content": [{"type": "text", "text": message["content"]}]}


def _apply(tokenizer: Any, messages: Sequence[Message], form: Form) -> str:
    given = [form(m) for m in messages]
    return str(tokenizer.apply_chat_template(given, add_generation_prompt=True, tokenize=False))


def _ids(encoded: Any) -> list[int]:
    return [int(i) for i in encoded.input_ids]
