"""The generation settings that a target ships, applied to logits as ``model.generate(do_sample=False)`` applies them.

The processors are transformers' own, built by the model's own method, so that their order and what a model adds to
them are generate's. Each row of logits is processed with the prefix that it follows, prompt included. What speculation
cannot honour is refused by name. Knows logits and token ids; nothing of drafts, caches or rounds.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from metasd.core.errors import UsageError

MEND = "--ignore-generation-config decodes without it"

APPLIED: Mapping[str, Any] = {
    "sequence_bias": None,
    "encoder_repetition_penalty": 1.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "bad_words_ids": None,
    "min_length": 0,
    "min_new_tokens": 0,
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "remove_invalid_values": False,
    "exponential_decay_length_penalty": None,
    "suppress_tokens": None,
    "begin_suppress_tokens": None,
    "renormalize_logits": False,
}
"""Settings that become processors, with the value besides None that asks for nothing."""

REFUSED: Mapping[str, Any] = {
    "num_beams": 1,
    "num_beam_groups": 1,
    "num_return_sequences": 1,
    "penalty_alpha": 0,
    "dola_layers": None,
    "guidance_scale": 1.0,
    "watermarking_config": None,
    "constraints": None,
    "force_words_ids": None,
    "stop_strings": None,
    "max_time": None,
    "token_healing": False,
}
"""Settings that change what generate says, or when it stops, in a way that checking drafts cannot follow; as above."""


@dataclass(frozen=True, slots=True)
class GenerationSettings:
    """What a target's generation config asks for beyond plain greedy decoding, as JSON holds it.

    applied: by name, what is made into processors. refused: what cannot be honoured. Both are empty when ``ignored``.
    """

    applied: Mapping[str, Any] = field(default_factory=dict)
    refused: Mapping[str, Any] = field(default_factory=dict)
    ignored: bool = False


NO_SETTINGS = GenerationSettings()


def shipped(model: Any) -> GenerationSettings:
    """The settings in ``model.generation_config``."""
    config = getattr(model, "generation_config", None)
    return GenerationSettings(_asked(config, APPLIED), _asked(config, REFUSED))


class Processors:
    """Makes the processors of one text after the other.

    Args:
        name: of the target, for messages.
        eos_ids: tokens that end a text.

    Raises UsageError for settings that cannot be honoured, or that transformers itself does not take.
    """

    def __init__(self, model: Any, settings: GenerationSettings, eos_ids: frozenset[int], name: str) -> None:
        for key, value in settings.refused.items():
            said = f"{key}={value}" if isinstance(value, (bool, int, float, str)) else key
            raise UsageError(f"target {name} ships {said}, which speculative decoding cannot honour; {MEND}")
        self._model, self._eos_ids = model, eos_ids
        try:  # a prompt of one token with a budget of one: where forced tokens are forced
            vocabulary = int(model.config.get_text_config().vocab_size)
            self.text([0], 1).rows([0], torch.zeros(1, vocabulary, device=model.device))
        except (ValueError, TypeError, RuntimeError, IndexError) as error:
            names = ", ".join(settings.applied)
            raise UsageError(f"the generation settings of {name} ({names}) do not work: {error}; {MEND}") from error

    def text(self, prompt: Sequence[int], budget: int) -> RowProcessors:
        """Those of a text: at most ``budget`` tokens behind ``prompt``, which is all that the model is given first."""
        model = self._model
        config = copy.deepcopy(model.generation_config)
        config.do_sample = False
        config.max_length = len(prompt) + budget
        if config.min_new_tokens is not None:  # generate gives it precedence
            config.min_length = len(prompt) + config.min_new_tokens
        eos = sorted(self._eos_ids)
        config._eos_token_tensor = torch.tensor(eos, device=model.device) if eos else None
        made = model._get_logits_processor(
            generation_config=config,
            input_ids_seq_length=len(prompt),
            encoder_input_ids=torch.tensor([list(prompt)], device=model.device),  # generate: the prompt
            device=model.device,
        )
        return RowProcessors(made)


class RowProcessors:
    """The processors of one text. ``made``: called with ids [1, n] and logits [1, V], as transformers' are."""

    def __init__(self, made: Any) -> None:
        self._made = made

    def rows(self, tokens: Sequence[int] | NDArray[Any], logits: torch.Tensor) -> torch.Tensor:
        """Processed float32 logits [r, V] of ``logits`` [r, V]; row i follows ``tokens[: len(tokens) - r + i + 1]``."""
        ids = torch.tensor(np.asarray(tokens, np.int64), device=logits.device)
        first = len(ids) - len(logits) + 1
        return torch.cat([self._row(ids[: first + i], row) for i, row in enumerate(logits)])

    def each(self, prefixes: Sequence[Sequence[int]], logits: torch.Tensor) -> torch.Tensor:
        """The same where row i follows ``prefixes[i]``."""
        given = [torch.tensor(prefix, dtype=torch.int64, device=logits.device) for prefix in prefixes]
        return torch.cat([self._row(ids, row) for ids, row in zip(given, logits, strict=True)])

    def _row(self, ids: torch.Tensor, row: torch.Tensor) -> torch.Tensor:
        """[1, V]; in float32 whatever the model's dtype, as generate."""
        made: torch.Tensor = self._made(ids[None], row[None].to(torch.float32, copy=True))
        return made


def ignored(settings: GenerationSettings) -> GenerationSettings:
    """Settings of which none counts."""
    return replace(settings, applied={}, refused={}, ignored=True)


def _asked(config: Any, neutral: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of ``neutral`` that ``config`` holds with another value than that and None."""
    found = {name: getattr(config, name, None) for name in neutral}
    return {name: _plain(value) for name, value in found.items() if value is not None and value != neutral[name]}


def _plain(value: Any) -> Any:
    """As JSON holds it; biases keyed by tuples become pairs, as generation_config.json has them."""
    if isinstance(value, Mapping):
        return [[_plain(key), _plain(bias)] for key, bias in value.items()]
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value if isinstance(value, (bool, int, float, str)) else str(value)
