"""Whether two tokenizers speak the same language, whatever special tokens somebody added to one of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

ADDED = 64
"""Added tokens that are left out one after another, from the last id down."""


def alike(one: Any, other: Any) -> bool:
    """Whether both map the same strings to the same ids.

    Added tokens (padding, roles, ...) may differ: they name ids that nobody emits, or that the other lacks.
    """
    return _plain(one) == _plain(other)


def hashes(tokenizer: Any) -> list[str]:
    """Hashes of the vocabulary, special tokens included, and of what is left without the last added tokens.

    The first is its identity. The others are those of the tokenizers it was made from by adding tokens.
    """
    vocabulary = dict(tokenizer.get_vocab())
    added = sorted(_added(tokenizer).items(), key=lambda item: -item[1])
    found = [_hash(vocabulary)]
    for token, number in added[:ADDED]:
        if number != max(vocabulary.values(), default=-1):
            break
        del vocabulary[token]
        found.append(_hash(vocabulary))
    return found


def _hash(vocabulary: Mapping[str, int]) -> str:
    return hashlib.sha256(json.dumps(sorted(vocabulary.items())).encode()).hexdigest()[:16]


def _added(tokenizer: Any) -> dict[str, int]:
    added: dict[str, int] = tokenizer.get_added_vocab()
    return added


def _plain(tokenizer: Any) -> dict[str, int]:
    """The vocabulary without added tokens; all of it where nothing else is left."""
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    added = _added(tokenizer)
    return {token: number for token, number in vocabulary.items() if token not in added} or vocabulary
