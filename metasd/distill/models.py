"""A small independent causal model with the target's tokenizer, trained on the target's opinion of its own answers.

Two layers of width 256, its embeddings begun as the leading directions of the target's. A weak drafter by design: what
it can learn from some ten thousand tokens is little, and its acceptance on held-out answers says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers import LlamaConfig, LlamaForCausalLM

from metasd.core.records import Ints
from metasd.distill.answers import Answer
from metasd.distill.states import Sample, used_most
from metasd.distill.train import Training
from metasd.runtime.load import Target

WIDTH, HEADS, LAYERS, INNER = 256, 4, 2, 768
OTHERS = 2048
"""Tokens outside the vocabulary of training that a batch is judged against."""
PROMPTS = 0.2
"""Weight of the loss on the prompts' tokens, which nobody's opinion is known of."""


class ModelLearner:
    """A causal model being trained; see ``train.Learner``. Its drafts depend on tokens alone: steps change nothing.

    The softmax of training is over ``vocabulary`` [Vd], what texts use, and ``OTHERS`` of the other tokens, drawn for
    every batch and weighed as if they were all of them (sampled softmax): the whole vocabulary of a target takes four
    times as long. Without it the loss is over everything.
    """

    def __init__(self, model: Any, vocabulary: Tensor | None = None) -> None:
        self.module = model
        total = int(model.config.vocab_size)
        self._used = torch.arange(total) if vocabulary is None else vocabulary.cpu()
        self._places = torch.full((total,), -1)
        self._places[self._used] = torch.arange(len(self._used))
        self._rest = torch.nonzero(self._places < 0).flatten()

    def loss(self, samples: Sequence[Sample], steps: int) -> Tensor:
        tokens = _padded(samples, self.module.device)
        hidden: Tensor = self.module.base_model(input_ids=tokens, use_cache=False).last_hidden_state
        rows, weigh = self._rows(samples)
        own, read = list[Tensor](), list[Tensor]()
        for state, sample in zip(hidden, samples, strict=True):
            ids, shares = sample.ids.to(state.device), sample.shares.to(state.device).float()
            logits = (state[: len(sample.tokens) - 1] @ rows.T).float() + weigh
            said = logits.log_softmax(-1)
            own.append(-(shares * said[sample.first - 1 :].gather(1, ids)).sum(-1))
            known = self._places[sample.tokens[1 : sample.first]].to(state.device)
            if (known >= 0).any():
                read.append(functional.nll_loss(said[: sample.first - 1], known, ignore_index=-1))
        loss = torch.cat(own).mean()
        return loss if not read else loss + PROMPTS * torch.stack(read).mean()

    def _rows(self, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
        """Rows of the output matrix that a batch is judged by, [Vd + m, W], and what is added to their logits."""
        drawn = min(OTHERS, len(self._rest))
        generator = torch.Generator().manual_seed(sum(int(s.tokens.sum()) for s in samples))  # the same when resumed
        others = self._rest[torch.randint(len(self._rest), (drawn,), generator=generator)] if drawn else self._rest
        weigh = torch.zeros(len(self._used) + drawn)
        weigh[len(self._used) :] = log(len(self._rest) / drawn) if drawn else 0.0
        matrix: Tensor = self.module.get_output_embeddings().weight
        return matrix[torch.cat([self._used, others]).to(matrix.device)], weigh.to(matrix.device)

    def accepted(self, samples: Sequence[Sample], steps: int) -> tuple[float, list[Ints]]:
        tokens = _padded(samples, self.module.device)
        logits = self.module(input_ids=tokens, use_cache=False).logits
        found: list[Ints] = []
        for row, sample, text in zip(logits, samples, tokens, strict=True):
            said = row[sample.first - 1 : len(sample.tokens) - 1].argmax(-1)
            hits = (said == text[sample.first : len(sample.tokens)]).cpu().numpy()
            run, lengths = 0, np.zeros(len(hits), np.int64)
            for t in range(len(hits) - 1, -1, -1):
                run = run + 1 if hits[t] else 0
                lengths[t] = min(run, steps)
            found.append(lengths)
        return float(self.loss(samples, steps)), found


def _padded(samples: Sequence[Sample], device: torch.device) -> Tensor:
    """[B, n] tokens, padded behind their ends, where nothing is read."""
    return torch.nn.utils.rnn.pad_sequence([s.tokens for s in samples], batch_first=True).to(device)


def begun(target: Target, seed: int) -> Any:
    """A model to be trained, in float32 on the target's device."""
    text = target.model.config.get_text_config()
    width = min(WIDTH, int(text.hidden_size))
    width -= width % (2 * HEADS)
    config = LlamaConfig(
        vocab_size=target.vocab_size,
        hidden_size=width,
        intermediate_size=3 * width,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        max_position_embeddings=int(getattr(text, "max_position_embeddings", None) or 2048),
        tie_word_embeddings=True,
        bos_token_id=text.bos_token_id,
        eos_token_id=sorted(target.eos_ids) or None,
        pad_token_id=None,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model: Any = LlamaForCausalLM(config)
    with torch.no_grad():
        rows = target.model.get_input_embeddings().weight.detach().float().cpu()
        centred = rows - rows.mean(0)
        _, directions = torch.linalg.eigh(centred.T @ centred)  # ascending
        leading = centred @ directions[:, -width:].flip(1)
        model.get_input_embeddings().weight.copy_(leading * (config.initializer_range / leading.std().clamp(min=1e-9)))
    return model.to(target.device).train()


def write(model: Any, target: Target, folder: Path) -> int:
    """Write model and tokenizer into ``folder``, as transformers does; bytes of the weights."""
    model.eval().to(torch.float16 if _fits(model) else torch.float32).save_pretrained(folder)
    target.tokenizer.save_pretrained(folder)
    return sum(f.stat().st_size for f in folder.glob("*.safetensors"))


def _fits(model: Any) -> bool:
    return not any(bool(p.detach().to(torch.float16).isinf().any()) for p in model.parameters())


class ModelMaker:
    """Small models for ``target``, trained towards the tokens that ``answers`` use most; see ``trained.Maker``."""

    key = "models"
    layers: Sequence[int] = ()

    def __init__(self, target: Target, answers: Mapping[str, Sequence[Answer]], how: Training) -> None:
        self.target, self.how = target, how
        self.vocabulary = used_most(answers, how.draft_vocabulary, target.vocab_size)

    def begun(self) -> ModelLearner:
        return ModelLearner(begun(self.target, self.how.seed), self.vocabulary)

    def write(self, learner: ModelLearner, place: Path) -> int:
        return write(learner.module, self.target, place)

    def read(self, place: Path) -> ModelLearner:
        model = LlamaForCausalLM.from_pretrained(place, dtype=torch.float32)
        return ModelLearner(model.to(self.target.device).eval(), self.vocabulary)
