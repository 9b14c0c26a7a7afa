"""Getting a target or drafter model and its tokenizer into memory, and refusing what cannot work.

Knows where models come from and how text becomes token ids; knows nothing of drafting or verification. Every failure
a user can cause is a one-line ``UsageError`` that names the value and the mend.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from metasd.core.errors import TooLongError, UsageError
from metasd.core.prompts import Message
from metasd.runtime import template

try:
    import torch
    import transformers
except ImportError as error:
    raise UsageError(f"live decoding needs {error.name}, which is not installed; pip install 'metasd[live]'") from error

from metasd.runtime import weights
from metasd.runtime.engine import graphs, packed, paths, slim, support
from metasd.runtime.engine.paths import AS_GIVEN, EnginePath
from metasd.runtime.engine.support import crossing, rotary_switch, stated_limit
from metasd.runtime.engine.trial import check
from metasd.runtime.locate import SMOLLM2, locate
from metasd.runtime.processors import NO_SETTINGS, GenerationSettings, Processors, ignored, shipped
from metasd.runtime.tokenizers import alike, hashes

if TYPE_CHECKING:
    from metasd.drafters.base import Drafter
    from metasd.runtime.sharded import Sharding

AUTO = "auto"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
NO_LIMIT = 1 << 30
"""``Target.max_length`` of a model that states no limit: more tokens than any text has."""


@dataclass(frozen=True, slots=True)
class Target:
    """A causal language model in evaluation mode with all that the rest of the runtime must know of it.

    eos_ids are those of the model's generation config, so that texts end where ``model.generate`` ends them.
    max_length is the model's context in tokens, prompt and answer together, NO_LIMIT where it states none. Texts may
    not cross ``switch`` tokens, where rotary factors change (see ``engine.support.rotary_switch``). settings are what
    it ships for generation beyond that. engine is how its passes are run.
    """

    model: Any
    tokenizer: Any
    name: str
    revision: str
    tokenizer_hash: str
    eos_ids: frozenset[int]
    max_length: int
    switch: int | None = None
    settings: GenerationSettings = field(default=NO_SETTINGS, hash=False)
    engine: EnginePath = AS_GIVEN

    @property
    def vocab_size(self) -> int:
        """V: columns of the logits."""
        return int(self.model.config.get_text_config().vocab_size)

    @property
    def device(self) -> torch.device:
        return torch.device(self.model.device)

    @property
    def dtype(self) -> str:
        return str(self.model.dtype).removeprefix("torch.")

    @property
    def tokenizer_hashes(self) -> list[str]:
        """Hashes of vocabularies that say the same of every token they have: its own first, then without added ones."""
        return list(dict.fromkeys([self.tokenizer_hash, *hashes(self.tokenizer)]))

    @property
    def arithmetic(self) -> dict[str, str]:
        """What decides the last bits of its logits, besides dtype and device: attention and linear layers."""
        linear = "packed" if packed.installed(self.model) else "torch"
        linear += "+slim" if slim.installed(self.model) else ""
        linear += "+graphs" if graphs.installed(self.model) is not None else ""
        if (ranks := support.spread_over(self.model)) > 1:
            linear = f"sharded over {ranks}"
        return {"attention": support.attention(self.model), "linear": linear}

    @property
    def smollm2(self) -> bool:
        """Whether the shipped tables, counted on SmolLM2's answers, speak its language."""
        return SMOLLM2 in self.name.lower()

    def processors(self) -> Processors | None:
        """What the target's settings do to its logits; None where they ask for nothing, which then costs nothing.

        Raises UsageError for settings that cannot be honoured.
        """
        settings = self.settings
        if not (settings.applied or settings.refused):
            return None
        return Processors(self.model, settings, self.eos_ids, self.name)

    def without_settings(self) -> Target:
        """The same target decoding as if it shipped no generation settings; its end-of-text tokens still count."""
        return replace(self, settings=ignored(self.settings))

    def encode(self, prompt: str | Sequence[Message], raw: bool = False) -> list[int]:
        """Token ids of a prompt or a conversation, inside the chat template unless there is none or ``raw`` is on.

        Raises UsageError for a conversation without a chat template, or one that the template does not take, and for a
        token that the model has no row for.
        """
        said: Sequence[Message] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        tokens = template.encode(self.tokenizer, said, self.name, raw=raw)
        beyond = next((t for t in tokens if t >= self.vocab_size), None)
        if beyond is not None:
            token = self.tokenizer.convert_ids_to_tokens(beyond)
            raise UsageError(
                f"the tokenizer of {self.name} makes token {beyond} ({token!r}) of a prompt, but the model knows "
                f"{self.vocab_size} tokens; use the tokenizer that belongs to it"
            )
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of answer tokens, end-of-text marks left out."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))


def load_target(
    spec: str = SMOLLM2,
    device: str = "cpu",
    dtype: str = "auto",
    *,
    attention: str | None = None,
    device_map: str | None = None,
    revision: str | None = None,
    engine: str = paths.AUTO,
    sharding: Sharding | None = None,
) -> Target:
    """Load ``smollm2``, a ``.gguf`` file, a folder or a Hugging Face id. Raises UsageError when it cannot.

    Args:
        dtype: a name of DTYPES, or auto: float32 on a CPU, elsewhere the checkpoint's own.
        attention: sdpa, eager, flash_attention_2, ...; None: what transformers chooses.
        device_map: spreads layers over devices instead of using ``device``, as accelerate takes it (auto, ...).
        revision: branch, tag or commit of a Hugging Face id.
        engine: how passes are run: auto, eager, packed or graphs (see ``engine.paths``).
        sharding: the processes over which weights are spread; the others must ``follow`` it. None: they are whole.
    """
    paths.check_path(engine)
    where, kind = check_device(device), check_dtype(dtype)
    quiet()
    if kind is None and where.type == "cpu" and device_map is None:
        kind = torch.float32
    path, name, known = locate(spec, kind, revision)
    if sharding is not None:
        sharding.announce(path, spec, str(kind or "auto").removeprefix("torch."), attention, revision)
    how: dict[str, Any] = {"attention": attention, "device_map": device_map, "revision": revision}
    model, tokenizer = weights.read(path, spec, dtype=kind or "auto", sharded=sharding is not None, **how)
    if sharding is not None:
        sharding.lead(model)
    elif device_map is None:
        model = model.to(where)
    known = known or getattr(model.config, "_commit_hash", None) or revision or "unknown"
    return replace(as_target(model, tokenizer, name, known), engine=paths.install(model, engine))


def as_target(model: Any, tokenizer: Any, name: str, revision: str = "unknown") -> Target:
    """A Target from a model and tokenizer already in memory; puts the model in evaluation mode.

    Raises UsageError for a model that cannot be decoded speculatively.
    """
    model = model.eval().requires_grad_(False)
    check(model)
    return Target(
        model=model,
        tokenizer=tokenizer,
        name=name,
        revision=revision,
        tokenizer_hash=hashes(tokenizer)[0],
        eos_ids=_eos_ids(model, tokenizer),
        max_length=stated_limit(model.config) or min(int(tokenizer.model_max_length), NO_LIMIT),
        switch=rotary_switch(model.config),
        settings=shipped(model),
    )


def load_tokenizer(spec: str) -> tuple[Any, str]:
    """The tokenizer of a model spec, without the model, and its name. Raises UsageError when it cannot be loaded."""
    if spec.endswith(".gguf"):
        raise UsageError(
            f"tokenizer {spec!r} is inside a .gguf file; give the folder or id of the model it was made of"
        )
    path, name, _ = locate(spec)
    try:
        return transformers.AutoTokenizer.from_pretrained(path, trust_remote_code=False), name
    except Exception as error:  # the loaders raise many kinds
        raise UsageError(f"cannot load tokenizer {spec!r}: {weights.reason(error)}") from error


def check_fits(target: Target, prompt_id: str, prompt_tokens: int, max_new_tokens: int = 1) -> None:
    """Raises UsageError for a prompt without tokens, TooLongError unless it fits with its whole budget."""
    if prompt_tokens < 1:
        raise UsageError(f"prompt {prompt_id!r} has no tokens; give it some text")
    room = target.max_length - prompt_tokens
    if room < max_new_tokens:
        mend = "shorten it" if room < 1 else f"shorten it or allow at most {room} new tokens"
        raise TooLongError(
            f"prompt {prompt_id!r} has {prompt_tokens} tokens and a budget of {max_new_tokens}, but the context of "
            f"{target.name} ends at {target.max_length}; {mend}"
        )
    if target.switch is not None and crossing(target.switch, prompt_tokens, max_new_tokens):
        raise TooLongError(
            f"prompt {prompt_id!r} has {prompt_tokens} tokens and a budget of {max_new_tokens}, but the rotary factors "
            f"of {target.name} change at {target.switch}, inside the text; keep both together to {target.switch} "
            f"tokens or give a prompt of {target.switch + 2} or more"
        )


def context_limit(target: Target, drafters: Sequence[Drafter]) -> int:
    """Tokens of text that the target and every drafter's model can read."""
    limits = (d.causal.limit for d in drafters if d.causal is not None)
    return min([target.max_length, *(limit for limit in limits if limit is not None)])


def same_tokenizer(target: Target, drafter: str, tokenizer: Any) -> None:
    """Raises UsageError unless ``tokenizer`` maps the same strings to the same ids as the target's."""
    if not alike(tokenizer, target.tokenizer):
        raise UsageError(
            f"drafter {drafter!r} has another tokenizer than target {target.name}; use a model of the same family"
        )


def check_device(name: str) -> torch.device:
    """The torch device called ``name``. Raises UsageError unless it is cpu or a CUDA device that is there."""
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise UsageError(f"unknown device {name!r}; use cpu or cuda")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {name!r} is not there ({torch.cuda.device_count()} CUDA devices found); use cpu")
    return torch.device(name)


def check_dtype(name: str) -> torch.dtype | None:
    """The dtype called ``name``, None for auto. Raises UsageError for one that is not supported."""
    if name == AUTO:
        return None
    if name not in DTYPES:
        raise UsageError(f"unknown dtype {name!r}; use {AUTO}, {', '.join(DTYPES)}")
    return DTYPES[name]


def quiet() -> None:
    """Keep transformers' own warnings and progress bars off the terminal."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def _eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    generation = getattr(model, "generation_config", None)
    ids = getattr(generation, "eos_token_id", None)
    if ids is None:
        ids = tokenizer.eos_token_id
    if ids is None:
        return frozenset()
    return frozenset(int(i) for i in ids) if isinstance(ids, (list, tuple)) else frozenset((int(ids),))
