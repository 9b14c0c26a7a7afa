"""Trained heads of a pool, written where our loader and vLLM read them; see ``trained.Maker``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from metasd.distill.answers import Answer
from metasd.distill.begin import begun, config_of, layers_of, write
from metasd.distill.states import used_most
from metasd.distill.train import Training
from metasd.distill.unroll import HeadLearner
from metasd.runtime.heads.choose import open_head
from metasd.runtime.load import Target


class HeadMaker:
    """Heads for ``target`` that can draft the tokens which ``answers`` and their prompts use most."""

    key = "heads"
    layers: Sequence[int]

    def __init__(self, target: Target, answers: Mapping[str, Sequence[Answer]], how: Training) -> None:
        self.target, self.how, self.layers = target, how, layers_of(target)
        self.vocabulary = used_most(answers, how.draft_vocabulary, target.vocab_size)

    def begun(self) -> HeadLearner:
        return HeadLearner(begun(self.target, self.vocabulary, self.how.unroll, self.how.seed))

    def write(self, learner: HeadLearner, place: Path) -> int:
        return write(learner.module, place, config_of(self.target, len(self.vocabulary), self.how.unroll))

    def read(self, place: Path) -> HeadLearner:
        return HeadLearner(open_head(self.target, str(place)).head)
