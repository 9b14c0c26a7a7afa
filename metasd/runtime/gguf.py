"""Converting a GGUF file once into a folder that loads in a tenth of a second, kept in the user's cache.

Reading a GGUF file takes half a minute each time (dequantising, rebuilding the tokenizer), so the result is stored
under ``$XDG_CACHE_HOME/metasd`` (``~/.cache/metasd`` by default) as float32 safetensors.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import os
import shutil
import tempfile
from contextlib import redirect_stderr
from functools import lru_cache
from pathlib import Path
from typing import Any

from metasd.core import shown
from metasd.core.errors import UsageError

log = logging.getLogger("metasd")


def cache_folder() -> Path:
    """Where converted models are kept."""
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "metasd" / "models"


@lru_cache
def sha256(path: Path) -> str:
    """The file's SHA-256, read once per process."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def converted(path: Path) -> Path:
    """The folder that ``path`` was converted into, converting it now if this content was never seen.

    The folder appears by rename, so a process killed half-way leaves nothing that another would load. Raises
    UsageError when the file is not a GGUF model, or a package that reading it needs is missing.
    """
    import transformers

    folder = cache_folder() / f"{path.stem}-{sha256(path)[:16]}-transformers-{transformers.__version__}"
    if folder.is_dir():
        return folder
    for package in ("gguf", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise UsageError(f"reading {path.name} needs the package {package}; pip install 'metasd[live]'")
    log.info("converting %s once (about half a minute)", path.name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".converting-") as scratch:
        _convert(path, Path(scratch) / "model")
        _publish(Path(scratch) / "model", folder)
    return folder


def _convert(path: Path, out: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    source: dict[str, Any] = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    try:
        with Path(os.devnull).open("w") as null, redirect_stderr(null):  # its progress bar heeds no setting
            tokenizer = AutoTokenizer.from_pretrained(**source)
            loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)
    except Exception as error:
        raise UsageError(f"cannot read {path.name} as a GGUF model: {shown.reason(error)}") from error
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    # a model that came from a GGUF file refuses save_pretrained, a fresh one with its weights does not
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)


def _publish(made: Path, folder: Path) -> None:
    """Rename into place; when another process was faster, its folder holds the same and ours is dropped."""
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(made)
