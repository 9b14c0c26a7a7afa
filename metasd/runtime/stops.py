"""Where an answer ends: at an end-of-text token, or where a stop string of its prompt is complete.

The tokens of an answer with stop strings are those of ``model.generate(stop_strings=...)``: up to and including the
token that completes the first of them. Its text is cut before the stop string.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from metasd.core.pieces import cut
from metasd.core.records import NO_END
from metasd.runtime.load import Target

Stops = Mapping[str, Sequence[str]]
"""Stop strings by the id of the text; a text without any may be left out."""


def ends_in(target: Target, answer: Sequence[int], tokens: Sequence[int], stops: Sequence[str] = ()) -> int:
    """How many of ``tokens``, which follow ``answer``, there are until the text ends; NO_END if it goes on."""
    end = next((i + 1 for i, token in enumerate(tokens) if token in target.eos_ids), int(NO_END))
    if not stops or not _holds(target, [*answer, *tokens], stops):
        return end
    at = next(i for i in range(1, len(tokens) + 1) if _holds(target, [*answer, *tokens[:i]], stops))
    return min(end, at)


def shown(target: Target, tokens: Sequence[int], stops: Sequence[str] = ()) -> str:
    """The text of an answer, cut before the first stop string."""
    return cut(target.decode(tokens), stops)


def _holds(target: Target, tokens: Sequence[int], stops: Sequence[str]) -> bool:
    """Whether a stop string is in the text; marks such as ``<|im_end|>`` may be one."""
    text = str(target.tokenizer.decode(list(tokens), skip_special_tokens=False))
    return any(stop in text for stop in stops)
