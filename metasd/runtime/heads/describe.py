"""What a head is, whatever format it came in: one description, decided from its tensors' shapes and its configuration.

Formats: the original repository's (SafeAILab/EAGLE; also SpecForge's and others', which share its keys) and that of
``speculators``. Where neither says, the readers of the original format are followed (EAGLE's own code, vLLM).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from metasd.core.errors import UsageError
from metasd.runtime.heads.files import Checkpoint
from metasd.runtime.heads.refuse import check_kind

EAGLE1, EAGLE3 = "eagle", "eagle3"
SPECULATORS, ORIGINAL = "speculators", "original"
HF, OUTPUTS = "hf", "outputs"
"""Conventions of layer ids: index of ``hidden_states`` in transformers (the input of that layer), or the output."""
IDS = "eagle_aux_hidden_state_layer_ids"
_ROPE_DEFAULT = 10000.0

Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class HeadConfig:
    """One description of every variant. Widths are of the head unless said.

    kind: EAGLE1 reads (embedding, last state) through ``fc`` into an ordinary layer without input norm; EAGLE3 reads
        both side by side into a layer of two-fold width, the states of several layers fused by ``fc``.
    features: target states that are read at a position; ``final``: it is one, behind the target's last norm.
    ids, convention: layers as the configuration names them, and how; None where it does not say.
    windows: of each layer, None for full attention.
    """

    spec: str
    name: str
    revision: str
    format: str
    kind: str
    hidden: int
    target_hidden: int
    features: int
    final: bool
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocabulary: int
    draft_vocabulary: int
    eps: float
    activation: str
    rope: Settings
    max_positions: int
    norm_before_residual: bool = False
    norm_output: bool = False
    fc_norm: bool = False
    norm_before_fc: bool = False
    qk_norm: bool = False
    qkv_bias: bool = False
    logit_scale: float = 1.0
    tied: bool = False
    windows: tuple[int | None, ...] = ()
    ids: tuple[int, ...] | None = None
    convention: str | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def describe(checkpoint: Checkpoint) -> HeadConfig:
    """What the checkpoint holds. Raises UsageError for a kind that is not supported and for contradictions."""
    check_kind(checkpoint)
    return _Reading(checkpoint).described()


class _Reading:
    """One checkpoint being described."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self.checkpoint, self.top = checkpoint, checkpoint.config
        self.speculators = "speculators_model_type" in self.top
        inner = self.top.get("transformer_layer_config") if self.speculators else self.top
        if not isinstance(inner, Mapping):
            raise self.wrong("its config.json has no transformer_layer_config")
        self.layer: Settings = inner
        nested = self.top.get("eagle_config")
        self.nested: Settings = nested if isinstance(nested, Mapping) else {}
        self.shapes = {name: tuple(t.shape) for name, t in checkpoint.tensors.items()}

    def wrong(self, problem: str, mend: str = "get the checkpoint whole, or another one") -> UsageError:
        return UsageError(f"head {self.checkpoint.spec!r}: {problem}; {mend}")

    def number(self, key: str, settings: Settings | None = None) -> int:
        value = (self.layer if settings is None else settings).get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise self.wrong(f"{key} is {value!r} in its config.json, not a positive number")
        return value

    def optional(self, key: str, default: int) -> int:
        return default if self.layer.get(key) is None else self.number(key)

    def flag(self, key: str, default: bool) -> bool:
        """A switch that may stand at the top or inside ``eagle_config``."""
        value = next((s[key] for s in (self.nested, self.top) if s.get(key) is not None), default)
        if not isinstance(value, bool):
            raise self.wrong(f"{key} is {value!r} in its config.json, neither true nor false")
        return value

    def columns(self, name: str) -> int:
        """Inputs of a weight. Raises UsageError where it is missing."""
        shape = self.shapes.get(name)
        if shape is None or len(shape) != 2:
            raise self.wrong(f"it lacks {name}" if shape is None else f"{name} has shape {list(shape)}")
        return shape[1]

    def described(self) -> HeadConfig:
        hidden, heads = self.number("hidden_size"), self.number("num_attention_heads")
        kind = self._kind(hidden)
        stated = self.top.get("target_hidden_size")
        target = hidden if stated is None else self.number("target_hidden_size", self.top)
        final = kind == EAGLE1 or not self.flag("use_aux_hidden_state", True)
        features = 1 if final else self._features(target)
        vocabulary = self.number("vocab_size")
        ids, convention = (None, None) if final else self._ids(features)
        layers = self._layers()
        return HeadConfig(
            spec=self.checkpoint.spec,
            name=self.checkpoint.name,
            revision=self.checkpoint.revision,
            format=SPECULATORS if self.speculators else ORIGINAL,
            kind=kind,
            hidden=hidden,
            target_hidden=target,
            features=features,
            final=final,
            layers=layers,
            heads=heads,
            kv_heads=self.optional("num_key_value_heads", heads),
            head_dim=self._head_dim(hidden, heads),
            intermediate=self.number("intermediate_size"),
            vocabulary=vocabulary,
            draft_vocabulary=self._draft_vocabulary(vocabulary),
            eps=float(self.layer.get("rms_norm_eps") or 1e-6),
            activation=str(self.layer.get("hidden_act") or "silu"),
            rope=self._rope(),
            max_positions=self.optional("max_position_embeddings", 2048),
            norm_before_residual=kind == EAGLE3 and self.flag("norm_before_residual", self.speculators),
            norm_output=kind == EAGLE3 and self.flag("norm_output", False),
            fc_norm=self._fusing("fc_norm", "fc_norm.0.weight"),
            norm_before_fc=self._fusing("norm_before_fc", "input_norm.weight"),
            qk_norm=self._qk_norm(),
            qkv_bias=bool(self.layer.get("attention_bias") or False),
            logit_scale=float(self.layer.get("logit_scale") or self.top.get("logit_scale") or 1.0),
            tied=bool(self.layer.get("tie_word_embeddings") or False),
            windows=self._windows(layers),
            ids=ids,
            convention=convention,
            shapes=self.shapes,
        )

    def _kind(self, hidden: int) -> str:
        """From the width that the first layer reads, checked against what the configuration calls it."""
        read = self.columns("layers.0.self_attn.q_proj.weight")
        if read == 2 * hidden:
            return EAGLE3
        if read != hidden:
            raise self.wrong(f"its first layer reads {read} inputs, which is neither hidden_size {hidden} nor twice it")
        if self.speculators or self.top.get("draft_vocab_size") is not None:
            raise self.wrong(f"it is called an EAGLE-3 head, but its first layer reads {read} inputs, not {2 * hidden}")
        if self.columns("fc.weight") != 2 * hidden:
            raise self.wrong(
                f"fc reads {self.columns('fc.weight')} inputs, which no EAGLE head of hidden_size {hidden} does"
            )
        return EAGLE1

    def _features(self, target: int) -> int:
        read = self.columns("fc.weight")
        if read % target:
            raise self.wrong(f"fc reads {read} inputs, which is no multiple of the target's width {target}")
        count = read // target
        for key in ("num_aux_hidden_states", "num_aux_layers"):
            said = self.nested.get(key, self.top.get(key))
            if said is not None and said != count:
                raise self.wrong(f"{key} is {said!r}, but fc reads the states of {count} layers")
        return count

    def _ids(self, features: int) -> tuple[tuple[int, ...] | None, str | None]:
        """Layer ids as written, and their convention: stated by the speculators format alone."""
        top, nested = self.top.get(IDS), self.nested.get(IDS)
        if top is not None and nested is not None and top != nested:
            raise self.wrong(f"{IDS} is {top} at the top and {nested} inside eagle_config", "say which: layers=A+B+C")
        said = nested if top is None else top
        if said is None:
            return None, None
        if not isinstance(said, list) or not all(isinstance(i, int) and i >= 0 for i in said) or len(said) != features:
            raise self.wrong(f"{IDS} is {said!r}, but fc reads the states of {features} layers")
        return tuple(said), HF if self.speculators else None

    def _head_dim(self, hidden: int, heads: int) -> int:
        rows = self.shapes["layers.0.self_attn.q_proj.weight"][0]
        said = self.layer.get("head_dim")
        if (said is not None and self.number("head_dim") * heads != rows) or rows % heads:
            raise self.wrong(f"q_proj has {rows} rows, which is not {heads} heads of {said or hidden // heads}")
        return rows // heads

    def _draft_vocabulary(self, vocabulary: int) -> int:
        said = self.top.get("draft_vocab_size")
        rows = self.shapes.get("lm_head.weight", (said or vocabulary,))[0]
        if said is not None and said != rows:
            raise self.wrong(f"draft_vocab_size is {said!r}, but lm_head has {rows} rows")
        return int(rows)

    def _layers(self) -> int:
        found = {int(m[1]) for name in self.shapes if (m := re.match(r"layers\.(\d+)\.", name))}
        said = self.optional("num_hidden_layers", len(found))
        if found != set(range(said)):
            raise self.wrong(f"num_hidden_layers is {said}, but it has tensors of layers {sorted(found)}")
        return said

    def _fusing(self, key: str, tensor: str) -> bool:
        """A norm in front of fc: by its weights; a configuration that says the opposite is a contradiction."""
        there, said = tensor in self.shapes, self.flag(key, tensor in self.shapes)
        if there != said:
            raise self.wrong(f"{key} is {said} in its config.json, but {tensor} is {'there' if there else 'missing'}")
        return there

    def _qk_norm(self) -> bool:
        """Norms of queries and keys are the qwen3 layer's; it says so by type or, in plain files, by architecture."""
        named = " ".join(map(str, self.top.get("architectures") or []))
        said = self.layer.get("model_type") == "qwen3" if self.speculators else "Qwen3ForCausalLM" in named
        there = "layers.0.self_attn.q_norm.weight" in self.shapes
        if there != said:
            raise self.wrong(f"q_norm is {'there' if there else 'missing'}, but its config.json says otherwise")
        return there

    def _rope(self) -> dict[str, Any]:
        """Rotary settings in the form of transformers 5, the base the head's own (10,000 where it says none)."""
        said = self.layer.get("rope_parameters") or self.layer.get("rope_scaling") or {}
        if said and all(isinstance(v, Mapping) for v in said.values()):  # one a kind of layer
            said = said.get("sliding_attention") or next(iter(said.values()))
        made = dict(said)
        base = made.get("rope_theta", self.layer.get("rope_theta"))
        kind = made.pop("type", None)
        kind = made.get("rope_type", kind) or "default"
        partial = made.get("partial_rotary_factor", self.layer.get("partial_rotary_factor"))
        if partial not in (None, 1, 1.0):
            raise self.wrong(f"partial_rotary_factor {partial} is not supported", "use another head")
        if kind == "mrope":  # three equal positions on text
            kind = "default"
        if kind not in ("default", "linear", "dynamic", "llama3", "yarn"):
            raise self.wrong(f"rope_type {kind!r} is not supported", "use another head")
        return made | {"rope_type": kind, "rope_theta": float(_ROPE_DEFAULT if base is None else base)}

    def _windows(self, layers: int) -> tuple[int | None, ...]:
        """By ``layer_types`` alone: ``use_sliding_window`` and ``sliding_window`` by themselves switch nothing on."""
        types = self.layer.get("layer_types")
        if types is None:
            return (None,) * layers
        known = ("full_attention", "sliding_attention")
        if not isinstance(types, list) or len(types) != layers or not {*types} <= {*known}:
            raise self.wrong(f"layer_types is {types!r} for {layers} layers of {' or '.join(known)}")
        return tuple(self.number("sliding_window") if kind == known[1] else None for kind in types)
