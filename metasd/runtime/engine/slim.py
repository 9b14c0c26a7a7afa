"""The small steps between a model's products, made in fewer calls: its norms, its rotary factors, its attention.

On a CPU a pass of a small model spends a quarter of its time there. An architecture's code stays in charge; what it
calls on the way is exchanged for what gave the same numbers on random input:

- an RMS norm, weight * x / sqrt(mean(x^2) + eps), whatever its class is called, becomes PyTorch's own;
- ``apply_rotary_pos_emb`` of an attention's file turns halves by a roll instead of slicing, negating and joining;
- attention by sdpa neither copies keys and values for the heads that share them, nor converts a mask in every layer;
- a layer whose code is Llama's is run as one piece (``straight``).

A module keeps its weights and its place. It gets a class derived from its own in which ``forward`` differs, so copies
of it, its hooks and whoever asks for its type find what they know.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from metasd.runtime.engine.attend import ROTARY, SDPA, Rotary, Shared, turns_halves
from metasd.runtime.engine.engine import Engine
from metasd.runtime.engine.norms import eps_name, norm_of, rms_forward
from metasd.runtime.engine.straight import bare, parts_of, straight
from metasd.runtime.engine.support import apart, attention

TABLE = "ALL_ATTENTION_FUNCTIONS"
WIDTHS = (6, 1, 3)
"""Tokens of the passes that the trial compares."""
EXACT = 1e-4
"""Of the logits' deviation: what the trial lets them differ by. Other orders of the same sums differ by 1e-6."""


def install(model: Any) -> bool:
    """``exchange`` what can be, unless a trial then says otherwise than before; whether something was exchanged."""
    before = _trial(model)
    undo = exchange(model)
    if apart(_trial(model), before, model.dtype, EXACT):
        undo()
    return installed(model)


def installed(model: nn.Module) -> bool:
    """Whether parts of ``model`` are exchanged."""
    return any(isinstance(module, Slim) for module in model.modules())


class Slim:
    """What all derived classes have in common."""


@torch.inference_mode()
def _trial(model: Any) -> Tensor:
    vocabulary, engine = int(model.config.get_text_config().vocab_size), Engine(model)
    text = torch.tensor([[(7 * i + 3) % vocabulary for i in range(sum(WIDTHS))]], device=engine.device)
    return torch.cat([engine.step(ids, ids.shape[1])[0] for ids in torch.split(text, list(WIDTHS), dim=1)])


def exchange(model: nn.Module) -> Callable[[], None]:
    """Exchange what can be, in place; returns what undoes it."""
    rotary, shared = Rotary(), Shared()
    masked = attention(model) == SDPA and ALL_ATTENTION_FUNCTIONS[SDPA] is sdpa_attention_forward
    before: list[tuple[nn.Module, type]] = []
    norms: dict[type, type] = {}
    bound: dict[type, type | None] = {}
    for module in [m for m in model.modules() if not isinstance(m, Slim)]:
        kind, parts = type(module), parts_of(module, norm_of) if masked else None
        if parts is not None and turns_halves(_scope(module.self_attn).get(ROTARY)):
            module._parts = parts  # type: ignore[assignment]
            derived: type | None = _derived(kind, straight(kind, shared.attend, rotary.factors))
        elif norm_of(module) is not None:
            derived = norms.setdefault(kind, _derived(kind, rms_forward(eps_name(module))))
        else:
            if kind not in bound:
                bound[kind] = _rebound(kind, rotary, shared if masked else None)
            derived = bound[kind]
        if derived is not None:
            before.append((module, kind))
            module.__class__ = derived

    def undo() -> None:
        for module, kind in before:
            module.__class__ = kind
            vars(module).pop("_parts", None)

    return undo


def _rebound(kind: type, rotary: Rotary, shared: Shared | None) -> type | None:
    """``kind`` with a ``forward`` that finds other functions under the names it calls; None where it calls none."""
    method = bare(kind)
    if method is None or not (found := {*method.__code__.co_names} & {*method.__globals__}):
        return None
    changed: dict[str, Any] = {}
    own: Any = method.__globals__.get(ROTARY)
    if ROTARY in found and turns_halves(own):
        changed[ROTARY] = rotary.of(own)
    if shared is not None and TABLE in found and method.__globals__[TABLE] is ALL_ATTENTION_FUNCTIONS:
        changed[TABLE] = shared
    if not changed:
        return None
    scope = {**method.__globals__, **changed}
    forward = FunctionType(method.__code__, scope, method.__name__, method.__defaults__, method.__closure__)
    forward.__kwdefaults__ = method.__kwdefaults__
    return _derived(kind, functools.wraps(method)(forward))


def _scope(module: Any) -> dict[str, Any]:
    """The names that ``forward`` of ``module`` finds."""
    method = bare(type(module))
    return {} if method is None else method.__globals__


def _derived(kind: type, forward: Callable[..., Any]) -> type:
    made: Any = type(kind.__name__, (Slim, kind), {"__module__": kind.__module__, "__doc__": kind.__doc__})
    made.forward = forward  # not before: classes of layers wrap what they are born with
    derived: type = made
    return derived
