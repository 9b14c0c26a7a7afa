"""Drafters that are models: another causal LM of the target's family, or the target without some of its layers.

They know their own cache and the text; they read tokens only when
they draft, so what they must catch up with is the price of switching to them.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from metasd.core import noise
from metasd.core.cache_rule import behind
from metasd.core.errors import TooLongError, UsageError
from metasd.core.pool import DrafterInfo
from metasd.core.records import Ints
from metasd.drafters.base import Causal, Draft, Drafter, Look
from metasd.runtime.engine.cache import CachedModel
from metasd.runtime.engine.support import crossing, rotary_switch, stated_limit
from metasd.runtime.engine.trial import check
from metasd.runtime.engine.vocabulary import Fit
from metasd.runtime.load import Target
from metasd.runtime.sampling import Sampling, pick

_STRIDE = 1 << 16
"""Noise counters between two starts: more than any draft is long, so no two drafts of a text share a uniform."""

WARM = 33
"""Tokens up to which a pass that catches up is made ready before a text."""

_PLACES = ("layer_idx", "layer_id")
"""What modules call the number of their layer."""


class ModelDrafter(Drafter):
    """A causal LM that shares the target's tokenizer, drafting one token at a time.

    Greedy at temperature 0, else sampling from its own distribution under the same ``sampling`` as the target's;
    ``Draft.probs`` is that very distribution. A draft never ends by itself: it has exactly the length asked for.

    Args:
        model: any causal LM of transformers whose cache can be cropped; its weights may be shared.
        vocab_size: columns of the target's logits; the model's are cut or padded to that.
        seed: with the drafter's name and the prompt, fixes all it samples, unless ``begin`` is given a key.
    """

    def __init__(
        self, info: DrafterInfo, model: Any, *, vocab_size: int, sampling: Sampling | None = None, seed: int = 0
    ) -> None:
        self.info = info
        self.cached = CachedModel(model)
        self.sampling = sampling or Sampling()
        self._seed = seed
        self._fit = Fit(model, vocab_size)
        self._causal = Causal(model, self._fit, stated_limit(model.config), rotary_switch(model.config))
        self.begin(())

    def check_fits(self, prompt_id: str, prompt: int, budget: int) -> None:
        limit, switch = self._causal.limit, self._causal.switch
        if limit is not None and prompt + budget > limit:
            raise TooLongError(
                f"prompt {prompt_id!r} with its budget has {prompt + budget} tokens, but the context of drafter "
                f"{self.info.name!r} ends at {limit}; shorten it or leave that drafter out"
            )
        if crossing(switch, prompt, budget):
            raise TooLongError(
                f"prompt {prompt_id!r} with its budget has {prompt + budget} tokens, but the rotary factors of drafter "
                f"{self.info.name!r} change at {switch}, inside the text; shorten it or leave that drafter out"
            )

    def warm(self, room: int) -> None:
        self.cached.warm(room + WARM, range(1, WARM + 1))

    def rest(self) -> None:
        self.cached.reset()

    @property
    def text(self) -> Ints:
        """Prompt and committed tokens, as the model reads them."""
        return self._text[: self._length]

    @property
    def causal(self) -> Causal:
        return self._causal

    @property
    def seconds(self) -> float:
        return self.cached.seconds

    @property
    def lag(self) -> int:
        return int(behind(self._length, self.cached.shared(self.text[:-1])))

    def begin(self, prompt: Sequence[int], key: np.uint64 | None = None) -> None:
        self.cached.reset()
        self._drafted: tuple[int, Any] = (0, None)  # tokens before the last draft, and its logits
        self._text = np.zeros(len(prompt) + 1024, np.int64)
        self._length = 0
        self.extend(prompt)
        self._key = np.array([noise.key(self._seed, self.info.name, *prompt) if key is None else key])

    def extend(self, tokens: Sequence[int]) -> None:
        end = self._length + len(tokens)
        if end > len(self._text):
            self._text = np.concatenate([self._text, np.zeros(end, np.int64)])
        self._text[self._length : end] = self._fit.tokens(tokens)
        self._length = end

    def look(self) -> Look:
        return Look(available=self._length > 0)

    @torch.inference_mode()
    def draft(self, length: int) -> Draft:
        """Exactly ``length`` >= 1 tokens. ``confidence`` is q of each; greedily, of its softmax at temperature 1."""
        text = self.text
        watch = self.cached.watch
        start = watch.mark()
        caught = self.cached.read(text[:-1])
        read = watch.mark()
        rows, chosen, probs = self._chain(text[-1:], length)
        logits, drafted = torch.stack(rows), torch.stack(chosen)
        q = torch.stack(probs) if probs else None
        of_q = self._confidence(logits, drafted) if q is None else q.gather(1, drafted[:, None])[:, 0]
        values = torch.cat([drafted.double(), of_q.double()]).tolist()  # the draft's one read of the device
        tokens = [int(v) for v in values[:length]]
        caught_up = watch.between(start, read)
        self.cached.label([int(text[-1]), *tokens[:-1]])
        self._drafted = (len(text), logits)
        return Draft(tokens, values[length:], q, logits, caught, caught_up if caught else 0.0)

    @torch.inference_mode()
    def judged(self, count: int) -> torch.Tensor:
        """See ``Drafter.judged``; reads ``lag`` tokens, since what its own draft got right it has judged already."""
        text = self.text[:-1]
        before, logits = self._drafted
        own = 0  # rows that the draft of this round has: those behind what it got right
        if logits is not None and before == len(self.text) - count:
            own = min(self.cached.shared(text) + 1 - before, len(logits), count)
        if own == count:
            return logits[:count]
        read = self._fit(self.cached.forward(text, count - own))
        return torch.cat([logits[:own], read]) if own else read

    def _chain(self, last: Ints, length: int) -> tuple[list[torch.Tensor], list[torch.Tensor], list[torch.Tensor]]:
        """Logits, tokens and (when sampling) distributions of a draft; nothing leaves the device."""
        counters = np.uint64(self._length * _STRIDE) + np.arange(length, dtype=np.uint64)
        device = self.cached.device
        uniforms = None
        if not self.sampling.greedy:
            uniforms = torch.from_numpy(noise.uniform_at(self._key, counters)).to(device)
        ids = torch.from_numpy(last.copy()).to(device)
        rows, chosen, probs = [], [], []
        for i in range(length):
            row = self._fit(self.cached.feed(ids, 1))[0]
            if uniforms is None:
                token = row.argmax()
            else:
                probs.append(self.sampling.probs(row))
                token = pick(probs[-1][None], uniforms[i : i + 1])[0]
            rows.append(row)
            chosen.append(token)
            ids = token[None]
        return rows, chosen, probs

    def _confidence(self, logits: torch.Tensor, drafted: torch.Tensor) -> torch.Tensor:
        wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return (wide.gather(1, drafted[:, None])[:, 0] - wide.logsumexp(-1)).exp()


class SkipDrafter(ModelDrafter):
    """The target's own layers without a block in the middle; no second copy of the weights.

    layers: the block left out: ``8-20`` for layers 8 to 20, both included and counted from 0, or how many to leave
        out of the middle. Expect a weak arm on small targets. Raises UsageError for a block that does not fit.
    """

    def __init__(
        self, target: Target, layers: str, *, name: str = "skip", sampling: Sampling | None = None, seed: int = 0
    ) -> None:
        total = int(target.model.config.get_text_config().num_hidden_layers)
        first, last = parse_layers(layers, total)
        settings = {"layers": f"{first}-{last}", "of": total}
        info = DrafterInfo(name, "skip", free=False, deterministic=False, settings=settings)
        model = without_layers(target.model, first, last)
        super().__init__(info, model, vocab_size=target.vocab_size, sampling=sampling, seed=seed)


def parse_layers(spec: str, total: int) -> tuple[int, int]:
    """First and last layer left out. Raises UsageError unless some of ``total`` layers are left out, some kept."""
    first, dash, last = spec.partition("-")
    problem = f"skip:layers={spec!r} does not fit a target of {total} layers; write FIRST-LAST or a count"
    if not (first.isdigit() and (last.isdigit() if dash else not last)):
        raise UsageError(problem)
    if dash:
        begin, end = int(first), int(last)
    else:
        begin = (total - int(first)) // 2
        end = begin + int(first) - 1
    if not 0 <= begin <= end < total or end - begin + 1 == total:
        raise UsageError(problem)
    return begin, end


def without_layers(model: Any, first: int, last: int) -> Any:
    """A view of ``model`` without layers ``first``..``last``: new module shells around the same parameters.

    ``model`` itself is not touched. Raises UsageError when its layers cannot be found or left out.
    """
    name = type(model).__name__
    try:
        view = _cut(model, first, last)
        check(view)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # models differ in how their layers hang together; the reason is the error's
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(f"skip cannot leave layers out of a {name} ({reason}); use another drafter") from error
    return view


def _cut(model: Any, first: int, last: int) -> Any:
    base = model.base_model
    total = model.config.num_hidden_layers if model.config.get_text_config() is model.config else -1
    lists = [n for n, m in base.named_children() if isinstance(m, nn.ModuleList) and len(m) == total]
    if len(lists) != 1 or base is model:
        raise ValueError("its layers are not found")
    kept = [i for i in range(total) if not first <= i <= last]
    layers = [_reindexed(base.get_submodule(lists[0])[i], at) for at, i in enumerate(kept)]
    config = copy.deepcopy(model.config)
    for key in ("layer_types", "attention_layers", "kv_sharing_modes"):
        if isinstance(of_layers := getattr(config, key, None), list) and len(of_layers) == total:
            setattr(config, key, [of_layers[i] for i in kept])
    setattr(config, config.attribute_map.get("num_hidden_layers", "num_hidden_layers"), len(kept))
    inner, outer = _shell(base), _shell(model)
    inner._modules[lists[0]] = nn.ModuleList(layers)
    outer._modules[model.base_model_prefix] = inner
    inner.config = outer.config = config
    return outer


def _shell(module: Any) -> Any:
    """The same module object with attributes and children of its own; parameters and buffers are shared."""
    shell = copy.copy(module)
    shell._modules = dict(module._modules)
    return shell


def _reindexed(module: Any, index: int) -> Any:
    """A shell of ``module`` in which everything that addresses the cache by layer says ``index``."""
    shell = _shell(module)
    for name in _PLACES:
        if hasattr(shell, name):
            setattr(shell, name, index)
    for name, child in module._modules.items():
        if child is not None and any(hasattr(m, place) for m in child.modules() for place in _PLACES):
            shell._modules[name] = _reindexed(child, index)
    return shell
