"""What a text takes before its first round."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Start:
    """The beginning of a text: seconds the target read the prompt, seconds the drafters took it in, both by wall time.

    first_token_seconds: from the prompt to the first tokens; None before them.
    """

    tokens: int
    prefill_seconds: float
    begin_seconds: float
    first_token_seconds: float | None = None
