"""Ids of the texts that prompts become: one a turn, all different, known before any work."""

from __future__ import annotations

from collections.abc import Sequence

from metasd.core.errors import UsageError
from metasd.core.prompts import Prompt


def check_ids(prompts: Sequence[Prompt]) -> None:
    """Raises UsageError when two texts would have one id, naming both prompts."""
    of: dict[str, Prompt] = {}
    for prompt in prompts:
        for name in prompt.text_ids:
            other = of.setdefault(name, prompt)
            if other is not prompt:
                later = other if len(other.turns) > 1 else prompt
                said = f"id {name!r} is a prompt's and that of a later turn of {later.id!r}"
                raise UsageError(f"{said}; rename one, or use --turns first")
