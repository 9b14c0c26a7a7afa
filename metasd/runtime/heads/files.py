"""A head's checkpoint as published: its configuration and its tensors under one naming, whatever wrote it.

Knows files and names; what a tensor is for, ``describe`` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from metasd.core import jsontext, shown
from metasd.core.errors import UsageError
from metasd.runtime.locate import locate

CONFIG = "config.json"
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_WANTED = (CONFIG, "*.safetensors", "*.bin", "*.index.json")
_RENAMED = {"draft_id_to_target_id": "d2t"}
_PREFIXES = (("model.", ""), ("midlayer.", "layers.0."))
_BUFFERS = "rotary_emb.inv_freq"
"""What old files hold beside weights; it follows from the configuration."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What is in the files.

    spec: what the user called it. tensors: by name, without ``model.`` in front, the first layer always ``layers.0.``.
    """

    spec: str
    name: str
    revision: str
    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def read(spec: str, revision: str | None = None) -> Checkpoint:
    """The checkpoint in a folder, or of a Hugging Face id. Raises UsageError for what is not there or unreadable."""
    folder = Path(spec).expanduser()
    if spec and folder.is_dir():
        _, name, files = locate(spec, revision=revision)
        known = str(files)
    elif not spec or spec.startswith((".", "/", "~")) or spec.count("/") != 1:
        raise UsageError(f"no head {spec!r}; give a Hugging Face id or a folder with {CONFIG} and weights")
    else:
        folder, name = _downloaded(spec, revision), spec
        known = folder.name
    return Checkpoint(spec, name, known, _config(folder, spec), _renamed(_tensors(folder, spec), spec))


def _downloaded(spec: str, revision: str | None) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(spec, revision=revision, allow_patterns=list(_WANTED)))
    except Exception as error:  # the client raises many kinds
        raise UsageError(f"cannot load head {spec!r}: {' '.join(str(error).split())[:300]}") from error


def _config(folder: Path, spec: str) -> dict[str, Any]:
    try:
        config = jsontext.loads((folder / CONFIG).read_bytes())
    except OSError as error:
        raise UsageError(f"head {spec!r} has no {CONFIG}; give the folder of a published head") from error
    except ValueError as error:
        raise UsageError(f"head {spec!r}: {CONFIG} is not JSON ({error}); get the checkpoint whole") from error
    if not isinstance(config, dict):
        raise UsageError(f"head {spec!r}: {CONFIG} is no JSON object; get the checkpoint whole")
    return config


def _tensors(folder: Path, spec: str) -> dict[str, Tensor]:
    """All tensors: of the one file, or of the shards that an index names; safetensors before pickles."""
    for whole in _WEIGHTS:
        index = folder / f"{whole}.index.json"
        try:
            if (folder / whole).is_file():
                return _file(folder / whole)
            if index.is_file():
                shards = sorted({*jsontext.loads(index.read_bytes())["weight_map"].values()})
                return {name: tensor for shard in shards for name, tensor in _file(folder / shard).items()}
        except Exception as error:  # damaged files fail in many ways
            why = shown.reason(error)
            raise UsageError(
                f"head {spec!r}: weights cannot be read ({why[:200]}); get the checkpoint whole"
            ) from error
    raise UsageError(f"head {spec!r} has neither {' nor '.join(_WEIGHTS)}; get the checkpoint whole")


def _file(path: Path) -> dict[str, Tensor]:
    if path.suffix == ".bin":
        found = torch.load(path, map_location="cpu", weights_only=True)
        return {str(name): tensor for name, tensor in found.items()}
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping


def _renamed(tensors: Mapping[str, Tensor], spec: str) -> dict[str, Tensor]:
    made: dict[str, Tensor] = {}
    for old, tensor in tensors.items():
        name = old
        for before, after in _PREFIXES:
            name = after + name.removeprefix(before) if name.startswith(before) else name
        name = _RENAMED.get(name, name)
        if name.endswith(_BUFFERS):
            continue
        if name in made:
            raise UsageError(f"head {spec!r} holds {name} twice ({old}); get the checkpoint whole")
        made[name] = tensor
    return made
