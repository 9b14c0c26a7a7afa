"""Converting a GGUF file once into a folder that loads in a tenth of a second, kept in the user's cache.

Reading a GGUF file takes half a minute each time (dequantising, rebuilding the tokenizer), so the result is stored
under ``$XDG_CACHE_HOME/metasd/models`` (``~/.cache/metasd/models`` by default) as safetensors of the dtype it is used
in: one copy, and one more where it is used in another dtype. ``metasd cache`` lists and removes them.
"""

from __future__ import annotations

import glob
import hashlib
import importlib.util
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from metasd.core import files, jsontext, progress, shown
from metasd.core.errors import FileError, UsageError
from metasd.runtime import kept

SCRATCH = ".converting-"
"""How the name of a folder begins that is being written, or was when its process was killed."""
HASHES = "hashes.json"
"""By path: size, time of the last change and SHA-256 of files hashed before."""


def cache_folder() -> Path:
    """Where converted models are kept."""
    return kept.folder("models")


@lru_cache
def sha256(path: Path) -> str:
    """The file's SHA-256; of a file that was hashed before and has not changed since, from the cache folder."""
    file, status = cache_folder() / HASHES, path.stat()
    name, now = str(path.resolve()), [status.st_size, status.st_mtime_ns]
    known: dict[str, Any] = {}
    with suppress(OSError, ValueError, TypeError):
        known = dict(jsontext.loads(file.read_bytes()))
    entry = known.get(name)
    if isinstance(entry, list) and len(entry) == 3 and entry[:2] == now:
        return str(entry[2])
    with path.open("rb") as source:
        found = hashlib.file_digest(source, "sha256").hexdigest()
    with suppress(FileError):  # a cache that cannot be written costs the time of hashing, no more
        files.write_text(file, jsontext.dumps(known | {name: [*now, found]}))
    return found


def converted(path: Path, dtype: str) -> Path:
    """The folder that ``path`` was converted into, in ``dtype``; converts it now if this content was never seen.

    A copy that an earlier release of transformers made is taken: what it saved, a later one reads. The folder appears
    by rename, so a process killed half-way leaves nothing that another would load. Raises UsageError when the file is
    not a GGUF model, or a package that reading it needs is missing.
    """
    import transformers

    begins = f"{path.stem}-{sha256(path)[:16]}-{dtype}-transformers-"
    folder = cache_folder() / f"{begins}{transformers.__version__}"
    if (made_before := _newest(begins, transformers.__version__)) is not None:
        return made_before
    for package in ("gguf", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise UsageError(f"reading {path.name} needs the package {package}; pip install 'metasd[live]'")
    files.make_folder(folder.parent)
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=SCRATCH) as scratch:
            made = Path(scratch) / "model"
            model, tokenizer = _read(path, made, dtype)
            _save(made, model, tokenizer)
            _publish(made, folder)
    except OSError as error:
        raise files.unwritable(folder, error) from error
    return folder


def _newest(begins: str, ours: str) -> Path | None:
    """The copy whose name ``begins`` so and ends in the latest release of transformers that is not after ``ours``."""
    from packaging.version import InvalidVersion, Version

    found: dict[Version, Path] = {}
    for folder in cache_folder().glob(f"{glob.escape(begins)}*/"):
        with suppress(InvalidVersion):
            found[Version(folder.name.removeprefix(begins))] = folder
    fit = [version for version in found if version <= Version(ours)]
    return found[max(fit)] if fit else None


def _read(path: Path, out: Path, dtype: str) -> tuple[Any, Any]:
    """Model, in ``dtype``, and tokenizer of a GGUF file. Raises UsageError when it is none."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    kind = getattr(torch, dtype)
    source: dict[str, Any] = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    try:
        with _reporting(path, out, dtype):
            tokenizer = AutoTokenizer.from_pretrained(**source)
            loaded = AutoModelForCausalLM.from_pretrained(**source, dtype=kind)
    except Exception as error:
        raise UsageError(f"cannot read {path.name} as a GGUF model: {shown.reason(error)}") from error
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    # a model that came from a GGUF file refuses save_pretrained, a fresh one with its weights does not
    model = AutoModelForCausalLM.from_config(config, dtype=kind)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    return model, tokenizer


def _save(out: Path, *parts: Any) -> None:
    """Write model and tokenizer. Raises OSError when there is no room or no right to."""
    from safetensors import SafetensorError

    try:
        for part in parts:
            part.save_pretrained(out)
    except SafetensorError as error:
        said = re.search(r"\(os error (\d+)\)", str(error))
        raise OSError(int(said[1]), os.strerror(int(said[1]))) if said else OSError(0, shown.reason(error)) from error


@contextmanager
def _reporting(path: Path, out: Path, dtype: str) -> Iterator[None]:
    """Says on stderr what is converted, into what size and where, and how far it is; in place of the library."""
    from gguf import GGUFReader
    from transformers import modeling_gguf_pytorch_utils as library

    tensors = GGUFReader(path).tensors
    size = 2 if dtype in ("bfloat16", "float16") else 8 if dtype == "float64" else 4
    made = sum(int(tensor.n_elements) for tensor in tensors) * size
    with progress.bar(len(tensors), "converting (tensors)") as advance:
        advance.say(
            f"converting {path.name} ({megabytes(path.stat().st_size)}) once, to {dtype} (about {megabytes(made)}) in "
            f"{out.parent.parent}"
        )

        def counted(read: Sequence[Any], **_: Any) -> Iterator[Any]:
            for tensor in read:
                yield tensor
                advance()

        bar, library.tqdm = library.tqdm, counted  # its own bar heeds no setting
        try:
            yield
        finally:
            library.tqdm = bar


def megabytes(size: int) -> str:
    """``size`` bytes for people."""
    return f"{size / 1e6:,.0f} MB"


def _publish(made: Path, folder: Path) -> None:
    """Rename into place; when another process was faster, its folder holds the same and ours is dropped."""
    try:
        made.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(made)
