"""What a policy has learned, on disk: one lane's arrays, written whole or not at all, checked when read."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from metasd.core import files, jsontext, shown
from metasd.core.errors import UsageError
from metasd.core.pool import Pool
from metasd.policies import Policy

State = dict[str, NDArray[Any]]


def write(path: Path, policy: Policy, spec: str, pool: Pool, lane: int) -> None:
    """Keep what ``lane`` has learned. Raises FileError; the file is then as it was before."""
    rows = {k: np.array(v[lane]) for k, v in policy.state_dict().items() if not k.startswith("noise.")}
    head = json.dumps(_about(spec, pool), sort_keys=True)
    arrays = {"head": np.frombuffer(head.encode(), np.uint8), **{f"state.{k}": v for k, v in rows.items()}}
    files.write_bytes(path, _digest(data := save(arrays)) + data)


def read(path: Path, policy: Policy, spec: str, pool: Pool) -> None:
    """Let every lane of the bound ``policy`` know what the file holds. Raises UsageError for any other file."""
    mend = "remove it, or set metasd.fresh to start anew"
    try:
        data = path.read_bytes()
        if data[:32] != _digest(data[32:]):
            raise UsageError(f"state {path} is damaged; {mend}")
        arrays = load(data[32:])
        head = jsontext.loads(arrays.pop("head").tobytes())
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"state {path} cannot be read ({shown.reason(error)}); {mend}") from error
    if head != _about(spec, pool):
        raise UsageError(f"state {path} is of policy {head.get('policy')!r} or of another pool; {mend}")
    state = policy.state_dict()
    for key, value in arrays.items():
        name = key.removeprefix("state.")
        if name not in state or state[name].shape[1:] != value.shape:
            raise UsageError(f"state {path} was written by another version ({name}); {mend}")
        state[name][:] = value
    policy.load_state_dict(state)


def _about(spec: str, pool: Pool) -> dict[str, Any]:
    about: dict[str, Any] = jsontext.loads(jsontext.dumps({"policy": spec, "pool": pool.to_json()}))
    return about


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
