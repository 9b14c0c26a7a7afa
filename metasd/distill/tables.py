"""Making specialists without training: the target's own answers, counted into one n-gram table per domain.

Knows the answers, the table file and the folder it writes; knows nothing of pools or policies.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from metasd import __version__
from metasd.core import files, jsontext, progress
from metasd.core.errors import UsageError
from metasd.core.prompts import TOTAL, Prompt, prompts_hash
from metasd.distill.answers import Answer, Said, greedy_answers
from metasd.drafters.ngrams import ORDER, NgramTable
from metasd.runtime.conversation import encode_all
from metasd.runtime.load import Target

MANIFEST = "manifest.json"
_NAME = 40  # characters of a domain in a file's name: 255 bytes are the limit
_RESERVED = {"con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(1, 10))}  # Windows


def distill(
    target: Target,
    prompts: Sequence[Prompt],
    out: Path | str,
    *,
    tokens_per_domain: int = 20_000,
    max_new_tokens: int = 192,
    batch: int = 32,
    raw: bool = False,
    left_out: list[str] | None = None,
) -> list[dict[str, Any]]:
    """Answer ``prompts`` with ``target`` and write OUT/<domain>.safetensors, OUT/all.safetensors, OUT/manifest.json.

    Args:
        tokens_per_domain: answer tokens after which a domain has enough; fewer if its prompts give fewer.
        max_new_tokens: longest answer.
        batch: answers decoded at once.
        raw: leave the chat template out.
        left_out: gets the ids of prompts that do not fit; None: such a prompt is an error.

    Progress with the time left goes to stderr. Each table is written as soon as its domain is done, so an
    interrupted run keeps what it has. Returns one row a table, as the manifest has them: domain, file, bytes,
    entries (runs known), answers and their tokens, and how many of the answers ended, hit the limit or looped.
    Raises UsageError for settings below 1, a prompt that does not fit, and a folder with another configuration.
    """
    for key, value in (("tokens_per_domain", tokens_per_domain), ("max_new_tokens", max_new_tokens), ("batch", batch)):
        if value < 1:
            raise UsageError(f"{key} {value} is too small; need at least 1")
    _by_domain(prompts)
    first = [replace(p, turns=p.turns[:1]) for p in prompts]
    texts = encode_all(target, first, raw=raw, max_new_tokens=max_new_tokens, left_out=left_out)
    encoded = {name: tokens for name, _, tokens in texts}
    prompts = [p for p in prompts if p.id in encoded]
    domains = _by_domain(prompts)
    settings = {"tokens_per_domain": tokens_per_domain, "max_new_tokens": max_new_tokens, "batch": batch, "raw": raw}
    folder, manifest = _open(Path(out), target, prompts, domains, settings)
    started = time.perf_counter()
    everything: list[Answer] = []
    shares = {domain: min(tokens_per_domain, len(members) * max_new_tokens) for domain, members in domains.items()}
    with progress.bar(sum(shares.values()), "distill (tokens)") as advance:
        for domain, members in domains.items():
            meter = _Meter(advance, shares[domain])
            asked = [(encoded[p.id], p.stop) for p in members]
            answers = _enough(target, asked, tokens_per_domain, max_new_tokens, batch, meter)
            meter.finish()
            _write(folder, domain, answers, target, manifest)
            everything += answers
    _write(folder, TOTAL, everything, target, manifest)
    manifest |= {"complete": True, "seconds": round(time.perf_counter() - started, 1)}
    _save(folder, manifest)
    tables: list[dict[str, Any]] = manifest["tables"]
    return tables


class _Meter:
    """Tells the progress bar of one domain's tokens, never more than the domain's share of it."""

    def __init__(self, advance: Said, share: int) -> None:
        self._advance, self._left = advance, share

    def __call__(self, tokens: int) -> None:
        step = min(tokens, self._left)
        self._left -= step
        self._advance(step)

    def finish(self) -> None:
        self._advance(self._left)


# -- answers ------------------------------------------------------------------------------------------------------


Asked = tuple[list[int], tuple[str, ...]]
"""A prompt's tokens and its stop strings."""


def _enough(
    target: Target,
    asked: list[Asked],
    wanted: int,
    max_new_tokens: int,
    batch: int,
    said: Said,
) -> list[Answer]:
    """Answers of one domain, in waves that each spread over the whole list, until there are ``wanted`` tokens."""
    waves = -(-len(asked) // batch)
    answers: list[Answer] = []
    for wave in range(waves):
        if sum(len(a.tokens) for a in answers) >= wanted:
            break
        for together in _one_side(target, asked[wave::waves]):
            prompts, ends = zip(*together, strict=True)
            answers += list(greedy_answers(target, list(prompts), max_new_tokens, said, ends))
    return answers


def _one_side(target: Target, asked: list[Asked]) -> list[list[Asked]]:
    """Prompts that may be read together: on one side of the target's rotary switch, which goes by the longest."""
    if target.switch is None:
        return [asked]
    sides = [a for a in asked if len(a[0]) <= target.switch], [a for a in asked if len(a[0]) > target.switch]
    return [side for side in sides if side]


# -- the folder ---------------------------------------------------------------------------------------------------


def _by_domain(prompts: Sequence[Prompt]) -> dict[str, list[Prompt]]:
    """Prompts by domain. Raises UsageError without any, or when two domains would share a file name."""
    if not prompts:
        raise UsageError("there are no prompts to distill from")
    domains: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        domains.setdefault(prompt.domain, []).append(prompt)
    names = [_file(d) for d in [*domains, TOTAL]]
    if len(set(names)) < len(names):
        raise UsageError(f"domains {list(domains)} do not give different file names; rename one")
    return domains


def _file(domain: str) -> str:
    """A file name that every system takes, case folded; a domain that gives none, or a long one, goes by its hash."""
    name = re.sub(r"[^\w.-]+", "-", domain).strip(".-").lower()
    if not name or len(name) > _NAME or name.partition(".")[0] in _RESERVED:
        name = f"{name[:_NAME]}-{hashlib.sha256(domain.encode('utf-8', 'backslashreplace')).hexdigest()[:12]}".strip(
            "-"
        )
    return name + ".safetensors"


def _open(
    folder: Path, target: Target, prompts: Sequence[Prompt], domains: dict[str, list[Prompt]], settings: dict[str, Any]
) -> tuple[Path, dict[str, Any]]:
    """Make the folder, or check that it is ours to write; the manifest says so from the start."""
    config = {
        "target": target.name,
        "revision": target.revision,
        "tokenizer": target.tokenizer_hash,
        "dtype": target.dtype,
        "prompts": prompts_hash(prompts),
        "order": ORDER,
        "generation": dict(target.settings.applied),
        **settings,
    }
    there = folder / MANIFEST
    if there.is_file():
        try:
            same = jsontext.loads(there.read_bytes())["config"] == config
        except (ValueError, KeyError, TypeError):
            same = False
        if not same:
            raise UsageError(f"{folder} holds tables of another configuration; name another folder or remove it")
    elif any((folder / _file(d)).exists() for d in [*domains, TOTAL]):
        raise UsageError(f"{folder} holds tables without a {MANIFEST}; name another folder")
    manifest = {
        "schema": 1,
        "metasd": __version__,
        "torch": torch.__version__,
        "config": config,
        "complete": False,
        "tables": [],
    }
    _save(folder, manifest)
    return folder, manifest


def _write(folder: Path, domain: str, answers: list[Answer], target: Target, manifest: dict[str, Any]) -> None:
    table = NgramTable.build(
        [a.before + a.tokens for a in answers],
        tokenizer=target.tokenizer_hash,
        vocabulary=target.vocab_size,
        domain=domain,
        target=target.name,
    )
    path = folder / _file(domain)
    table.save(path)
    stops = {stop: sum(a.stop == stop for a in answers) for stop in ("ended", "limit", "looped")}
    row = {"domain": domain, "file": path.name, "bytes": path.stat().st_size, "entries": len(table)}
    row |= {"answers": len(answers), "tokens": sum(len(a.tokens) for a in answers), **stops}
    manifest["tables"].append(row)
    _save(folder, manifest)


def _save(folder: Path, manifest: dict[str, Any]) -> None:
    files.write_text(folder / MANIFEST, jsontext.dumps(manifest, indent=1) + "\n")
