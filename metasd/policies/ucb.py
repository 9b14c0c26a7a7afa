"""Upper confidence bounds with the paper's index."""

from __future__ import annotations

import numpy as np

from metasd.core import Context, Floats
from metasd.policies.base import IndexPolicy


class MetaSDUCB(IndexPolicy):
    """MetaSD-UCB: mean + beta sqrt(2 ln t / n), t the trials so far (Kim, Jung, Yun, arXiv 2604.05417, Alg. 2).

    beta: width of the confidence bound. At 1 the choice is close to random over a few hundred rounds.
    """

    def __init__(self, beta: float = 0.05, reward: str = "auto", mask: bool = True) -> None:
        super().__init__(reward, mask)
        self.beta = beta

    def index(self, context: Context) -> Floats:
        t = self.n.sum(axis=1, keepdims=True)
        return self.mean + self.beta * np.sqrt(2 * np.log(np.maximum(t, 1)) / self.n)
