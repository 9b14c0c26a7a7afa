"""Joining a head to a target: widths and vocabularies must be the target's, and its layers the target's layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from metasd.core.errors import UsageError
from metasd.runtime.engine.features import FINAL
from metasd.runtime.heads.describe import HF, OUTPUTS, HeadConfig, describe
from metasd.runtime.heads.files import Checkpoint
from metasd.runtime.heads.module import Head
from metasd.runtime.heads.tensors import check_tensors, token_ids


@dataclass(frozen=True, slots=True)
class Layers:
    """Which states a head reads: ``hidden_states`` indices of the target, in the head's order, and who said so."""

    indices: tuple[int, ...]
    source: str


def build(checkpoint: Checkpoint, model: Any) -> Head:
    """The head beside the target ``model``, on its device and in its dtype. Raises UsageError where it does not fit."""
    config = describe(checkpoint)
    check_tensors(config)
    text = model.config.get_text_config()
    for what, own, its in (
        ("reads states of width", config.target_hidden, int(text.hidden_size)),
        ("is for a vocabulary of", config.vocabulary, int(text.vocab_size)),
    ):
        if own != its:
            raise UsageError(
                f"head {config.spec!r} {what} {own}, but the target's is {its}; use a head for this target"
            )
    ids = token_ids(config, checkpoint.tensors)
    head = Head(config, checkpoint.tensors, ids, model.get_input_embeddings(), model.get_output_embeddings())
    return head.to(device=model.device, dtype=model.dtype).eval().requires_grad_(False)


def candidates(config: HeadConfig, total: int, layers: str | None, convention: str | None) -> list[Layers]:
    """The readings of a head's layer ids on a target of ``total`` layers: one, or one a convention that may be meant.

    Args:
        layers: ``2+15+27`` from the user, in place of the configuration's. convention: HF or OUTPUTS, said by the user.

    Raises UsageError for ids that cannot be the head's.
    """
    if config.final:
        if layers is not None or convention is not None:
            raise UsageError(f"head {config.spec!r} reads the target's last state; leave layers= and ids= out")
        return [Layers((FINAL,), "last state")]
    if convention not in (None, HF, OUTPUTS):
        raise UsageError(f"ids={convention} is unknown; use {HF} or {OUTPUTS}")
    named, said = (_parsed(layers, config), "yours") if layers is not None else (config.ids, "config")
    if named is None:
        if config.features != 3:
            raise UsageError(
                f"head {config.spec!r} names no layers for its {config.features} states; give layers=A+B+.."
            )
        return _inside(config, total, [Layers((2, total // 2, total - 3), "default")])
    conventions = [convention or (HF if layers is not None else config.convention)]
    tried = [HF, OUTPUTS] if conventions == [None] else conventions
    made = [Layers(tuple(i + (c == OUTPUTS) for i in named), f"{said}, ids={c}") for c in tried]
    return _inside(config, total, made)


def _inside(config: HeadConfig, total: int, made: list[Layers]) -> list[Layers]:
    fits = [m for m in made if all(0 <= i <= total for i in m.indices)]
    if not fits:
        said = "+".join(map(str, made[0].indices))
        raise UsageError(f"head {config.spec!r} reads layers {said}, but the target has {total}; give layers=A+B+..")
    return fits


def _parsed(layers: str, config: HeadConfig) -> tuple[int, ...]:
    parts = layers.split("+")
    if not all(p.isdecimal() for p in parts) or len(parts) != config.features:
        raise UsageError(
            f"layers={layers} are not {config.features} numbers like 2+15+27, which head {config.spec!r} reads"
        )
    return tuple(map(int, parts))
