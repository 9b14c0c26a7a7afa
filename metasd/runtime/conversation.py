"""From prompts to texts: token ids of what a target answers, turn by turn.

A later turn is asked after the target's own greedy answers to the turns before it, decoded plainly here. At
temperature 0 that is what any policy's output is, so every contender meets the same conversation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from metasd.core.errors import TooLongError, UsageError
from metasd.core.ledger import Ledger
from metasd.core.loop import decode
from metasd.core.pool import Pool
from metasd.core.prompts import Prompt
from metasd.drafters.base import Drafter
from metasd.policies import make
from metasd.runtime.load import Target, check_fits
from metasd.runtime.session import LiveSession
from metasd.runtime.stops import Stops, shown

EncodedPrompt = tuple[str, str, list[int]]
"""Id, domain and prompt tokens."""


def encode_all(
    target: Target,
    prompts: Sequence[Prompt],
    *,
    raw: bool,
    max_new_tokens: int,
    drafters: Sequence[Drafter] = (),
    left_out: list[str] | None = None,
) -> list[EncodedPrompt]:
    """One text for every turn of every prompt; ids of later turns end in ``#2``, ``#3``, ...

    Args:
        drafters: must be able to read the texts as well.
        left_out: gets the ids of prompts with a turn that does not fit, which is then left out with those behind it;
            None: such a prompt is an error.

    Raises TooLongError for a text that does not fit with its budget, UsageError when none does, and for several turns
    where there is no chat template to put them in.
    """
    texts: list[EncodedPrompt] = []
    for prompt in prompts:
        try:
            for text in _turns(target, prompt, raw, max_new_tokens):
                for drafter in drafters:
                    drafter.check_fits(text[0], len(text[2]), max_new_tokens)
                texts.append(text)
        except TooLongError as error:
            if left_out is None:
                where = f"{prompt.where}: " if prompt.where else ""
                raise TooLongError(f"{where}{error}, or leave such prompts out (--skip-too-long)") from None
            left_out.append(prompt.id)
    if prompts and not texts:
        raise UsageError(f"none of {len(prompts)} prompts fits with {max_new_tokens} new tokens; use shorter ones")
    return texts


def stops_of(prompts: Sequence[Prompt]) -> Stops:
    """The stop strings of every text of ``prompts`` that has some."""
    return {name: p.stop for p in prompts if p.stop for name in p.text_ids}


def _turns(target: Target, prompt: Prompt, raw: bool, max_new_tokens: int) -> Iterator[EncodedPrompt]:
    if len(prompt.turns) > 1 and (raw or not target.tokenizer.chat_template):
        raise UsageError(
            f"prompt {prompt.id!r} has {len(prompt.turns)} turns, which need a chat template; use --turns first"
        )
    answers: list[str] = []
    for i, name in enumerate(prompt.text_ids):
        tokens = target.encode(prompt.messages(answers), raw=raw)
        check_fits(target, name, len(tokens), max_new_tokens)
        yield name, prompt.domain, tokens
        if i + 1 < len(prompt.turns):
            answer = _answer(target, name, tokens, max_new_tokens, {name: prompt.stop})
            answers.append(shown(target, answer, prompt.stop))


def _answer(target: Target, name: str, tokens: list[int], max_new_tokens: int, stops: Stops) -> list[int]:
    """The target's own greedy answer, decoded plainly."""
    pool = Pool([], [(-1, 0)])
    session = LiveSession(target, [], pool, [(name, tokens)], max_new_tokens=max_new_tokens, stops=stops)
    policy = make("fixed:arm=plain")
    policy.bind(pool, 1)
    decode(session, policy, Ledger(pool, 1))
    return session.texts[0]
