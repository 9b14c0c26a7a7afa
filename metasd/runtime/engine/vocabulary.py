"""Between a drafter's vocabulary and its target's: one tokenizer, but models of one family pad it differently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn


class Fit:
    """Maps tokens into a drafter and its logits out of it.

    A token that the drafter has no row for is read as its last one, so a text that holds such a token costs a worse
    draft and nothing else; a token that the target has no column for is never drafted.

    Args:
        model: the drafter's. target: columns of the target's logits.
    """

    def __init__(self, model: Any, target: int) -> None:
        self.rows = int(model.config.get_text_config().vocab_size)
        self.target = target

    def tokens(self, tokens: Sequence[int] | NDArray[Any]) -> NDArray[np.int64]:
        """Token ids as the drafter reads them."""
        return np.minimum(np.asarray(tokens, np.int64), self.rows - 1)

    def __call__(self, logits: Tensor) -> Tensor:
        """[n, own columns] -> [n, target's columns]."""
        extra = self.target - logits.shape[-1]
        return logits[:, : self.target] if extra <= 0 else nn.functional.pad(logits, (0, extra), value=-float("inf"))
