"""Tokens handed on as they are decoded, one text after the other, also where several texts are decoded at once."""

from __future__ import annotations

from collections.abc import Callable

OnTokens = Callable[[int, list[int], int, int], object]
"""Called after every round with (prompt index, tokens emitted, arm, how many of them were drafted)."""


class InOrder:
    """Tells of each text when those before it are over; until then its rounds are held back."""

    def __init__(self) -> None:
        self._held: dict[int, list[tuple[list[int], int, int]]] = {}
        self._over: set[int] = set()
        self._next = 0

    def tell(self, told: OnTokens, prompt: int, tokens: list[int], arm: int, accepted: int, *, last: bool) -> None:
        """One more round of ``prompt``, ``last``: its last one."""
        self._held.setdefault(prompt, []).append((tokens, arm, accepted))
        if last:
            self._over.add(prompt)
        while self._next in self._held:
            at, over = self._next, self._next in self._over
            self._next += over
            for said in self._held.pop(at):
                told(at, *said)
            if not over:
                return
