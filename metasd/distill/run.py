"""Making a pool of specialists for a target: its own answers by domain, then what is made of them.

Knows the answers, the makers and the folder; knows nothing of policies.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from metasd import __version__
from metasd.core import poolfolder
from metasd.core.errors import UsageError
from metasd.core.prompts import TOTAL, Prompt, prompts_hash
from metasd.distill import tables
from metasd.distill.answers import Answer
from metasd.distill.asking import Asking
from metasd.distill.heads import HeadMaker
from metasd.distill.models import ModelMaker
from metasd.distill.train import Training
from metasd.distill.trained import Maker, make
from metasd.drafters.ngrams import ORDER
from metasd.runtime.conversation import encode_all
from metasd.runtime.load import Target
from metasd.runtime.sampling import Sampling

KINDS = ("table", "head", "model", "all")


def distill(
    target: Target,
    prompts: Sequence[Prompt],
    out: Path | str,
    *,
    kind: str = "table",
    best: int = 1,
    tokens_per_domain: int = 20_000,
    max_new_tokens: int = 192,
    batch: int = 32,
    raw: bool = False,
    temperature: float = 0.0,
    seed: int = 0,
    left_out: list[str] | None = None,
    training: Training | None = None,
) -> dict[str, list[dict[str, Any]]]:
    """Answer ``prompts`` with ``target`` and make one specialist a domain and one over all of them, in the folder OUT.

    Args:
        kind: table, head, model or all.
        best: continuations that a table keeps of a run.
        tokens_per_domain: answer tokens after which a domain has enough; fewer if its prompts give fewer.
        max_new_tokens: longest answer.
        batch: answers decoded at once.
        raw: leave the chat template out.
        temperature, seed: 0 answers greedily, else tokens are drawn; the same seed draws the same answers.
        left_out: gets the ids of prompts that do not fit; None: such a prompt is an error.
        training: how heads and models are trained.

    Progress with the time left goes to stderr. What is done is kept (answers by wave, specialists one by one, one in
    training by checkpoints), so a run that was killed goes on where it is started again. Returns the rows of the
    manifest by list, ``tables``, ``heads`` and ``models`` (see ``core.poolfolder``). Raises UsageError for settings
    below 1, a prompt that does not fit, a folder with another configuration, a target that heads cannot be made for.
    """
    sizes = {"best": best, "tokens_per_domain": tokens_per_domain, "max_new_tokens": max_new_tokens, "batch": batch}
    for key, value in sizes.items():
        if value < 1:
            raise UsageError(f"{key} {value} is too small; need at least 1")
    if kind not in KINDS:
        raise UsageError(f"unknown kind {kind!r}; use {', '.join(KINDS)}")
    sampling = Sampling(temperature)
    _by_domain(prompts)
    first = [replace(p, turns=p.turns[:1]) for p in prompts]
    texts = encode_all(target, first, raw=raw, max_new_tokens=max_new_tokens, left_out=left_out)
    encoded = {name: tokens for name, _, tokens in texts}
    prompts = [p for p in prompts if p.id in encoded]
    domains = _by_domain(prompts)
    asked = {key: value for key, value in sizes.items() if key != "best"}
    settings = {**asked, "raw": raw, **({} if sampling.greedy else {"temperature": temperature, "seed": seed})}
    folder, how = Path(out), (training or Training()) if kind != "table" else None
    manifest = _open(folder, _config(target, prompts, settings), list(domains), how)
    started = time.perf_counter()
    asking = Asking(target, folder, tokens_per_domain, max_new_tokens, batch, sampling, seed)
    answers, manifest["answers"] = asking.all(domains, encoded)
    poolfolder.save(folder, manifest)
    made = _specialists(kind, target, folder, manifest, answers, best, how)
    poolfolder.save(folder, manifest | {"complete": True, "seconds": round(time.perf_counter() - started, 1)})
    return made


def _specialists(
    kind: str,
    target: Target,
    folder: Path,
    manifest: dict[str, Any],
    answers: dict[str, list[Answer]],
    best: int,
    how: Training | None,
) -> dict[str, list[dict[str, Any]]]:
    """Make what ``kind`` asks for; every one is in the manifest as soon as it is made."""
    made: dict[str, list[dict[str, Any]]] = {}
    if kind in ("table", "all"):
        everything = [answer for own in answers.values() for answer in own]
        for domain, those in (answers | {TOTAL: everything}).items():
            poolfolder.put(manifest, "tables", tables.write(folder, domain, those, target, best))
            poolfolder.save(folder, manifest)
        made["tables"] = manifest["tables"]
    if how is not None:
        makers = _makers(kind, target, answers, how)
        make(target, folder, manifest, answers, makers)
        made |= {maker.key: manifest[maker.key] for maker in makers}
    return made


def _makers(kind: str, target: Target, answers: dict[str, list[Answer]], how: Training) -> list[Maker]:
    heads: list[Maker] = [HeadMaker(target, answers, how)] if kind in ("head", "all") else []
    return heads + ([ModelMaker(target, answers, how)] if kind in ("model", "all") else [])


def _by_domain(prompts: Sequence[Prompt]) -> dict[str, list[Prompt]]:
    """Prompts by domain. Raises UsageError without any, or when two domains would share a file name."""
    if not prompts:
        raise UsageError("there are no prompts to distill from")
    domains: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        domains.setdefault(prompt.domain, []).append(prompt)
    poolfolder.check_names(domains)
    return domains


def _config(target: Target, prompts: Sequence[Prompt], settings: dict[str, Any]) -> dict[str, Any]:
    return {
        "target": target.name,
        "revision": target.revision,
        "tokenizer": target.tokenizer_hash,
        "dtype": target.dtype,
        "prompts": prompts_hash(prompts),
        "order": ORDER,
        "generation": dict(target.settings.applied),
        **settings,
    }


def _open(folder: Path, config: dict[str, Any], domains: list[str], training: Training | None) -> dict[str, Any]:
    """Make the folder, or check that it is ours to go on with; the manifest says so from the start."""
    there = folder / poolfolder.MANIFEST
    found, how = poolfolder.read(folder) or {}, None if training is None else asdict(training)
    known = found.get("training")
    if there.is_file():
        if found.get("config") != config or (how and known and known != how):
            raise UsageError(f"{folder} holds specialists of another configuration; name another folder or remove it")
    elif any((folder / (poolfolder.file_name(d) + tables.SUFFIX)).exists() for d in [*domains, TOTAL]):
        raise UsageError(f"{folder} holds tables without a {poolfolder.MANIFEST}; name another folder")
    manifest: dict[str, Any] = {"tables": [], **found, "schema": 1, "metasd": __version__, "torch": torch.__version__}
    manifest |= {"config": config, "complete": False}
    if how:
        manifest["training"] = how
    poolfolder.save(folder, manifest)
    return manifest
