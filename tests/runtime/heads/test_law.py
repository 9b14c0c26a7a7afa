"""A head that draws: the law of a round by enumeration, draft vocabulary smaller than the target's.

Every decision of a round is a step function of one uniform. All cells of all of them are visited, just inside both of
their edges, through the real draft and the real verification; their measures add up to the law of the text.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import torch

from metasd.runtime.heads.choose import open_head
from metasd.runtime.lane import Lane
from metasd.runtime.load import as_target
from metasd.runtime.sampling import Sampling

from ..conftest import tiny_model, tiny_tokenizer
from .published import SPECFORGE, weights, write

V, VD, PROMPT, INSIDE = 5, 3, [2, 4, 3], 1e-9
WARM, TOP_P = Sampling(0.9), Sampling(1.2, top_p=0.85)


def cells(weight: torch.Tensor) -> list[tuple[int, float, float, float]]:
    """(token, measure, low, high) of every token that ``weight`` [V] can give."""
    share = (weight.double() / weight.double().sum()).tolist()
    edges = np.concatenate([[0.0], np.cumsum(share)])
    return [(x, s, edges[x] + INSIDE, edges[x + 1] - INSIDE) for x, s in enumerate(share) if s > 0]


def completed(
    measure: Counter[tuple[int, ...]], law: Callable[[tuple[int, ...]], torch.Tensor]
) -> Counter[tuple[int, ...]]:
    """The measure of three tokens, what is missing of them being the target's own."""
    joint: Counter[tuple[int, ...]] = Counter()
    for text, weight in measure.items():
        for rest in itertools.product(range(V), repeat=3 - len(text)):
            whole, chance = text, weight
            for token in rest:
                chance *= float(law(whole)[token])
                whole = (*whole, token)
            joint[whole] += chance
    return joint


@pytest.mark.parametrize("sampling", [WARM, TOP_P], ids=["warm", "top-p"])
def test_the_law_of_a_round_is_the_targets(sampling: Sampling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SPECFORGE | {"vocab_size": V, "draft_vocab_size": VD, "rms_norm_eps": 1e-5}
    target = as_target(tiny_model(3, layers=6, vocab=V), tiny_tokenizer(V), "tiny")
    head = open_head(target, str(write(tmp_path, config, weights(config, seed=4))), sampling=sampling)
    inside = head.head.token_ids
    assert inside is not None
    lane = Lane(target, [head], sampling, overlap=False, revealer=None, catch_all=False)
    lane.open(PROMPT, 4, 0, "p")
    lane.begin(0, "p")
    given: dict[str, Any] = {}
    monkeypatch.setattr(head, "_uniforms", lambda n: torch.tensor(given["draft"], dtype=torch.float64))
    monkeypatch.setattr(lane, "_uniforms", lambda n: np.array(given["judge"]))

    def law(text: tuple[int, ...]) -> torch.Tensor:
        return sampling.probs(target.model(torch.tensor([[*PROMPT, *text]])).logits[0, -1])

    def played(edge: int, path: list[tuple[int, float, float, float]], accept: list[float], own: float) -> list[int]:
        given["draft"] = [cell[2 + edge] for cell in path]
        given["judge"] = [[*accept, *[0.5] * (3 - len(accept))], [own] * 3]
        draft = lane.draft(0, 2)
        assert draft.tokens == [cell[0] for cell in path]
        [verdict] = lane.verifier.together([lane.cached], [lane.question(draft)])
        return [*draft.tokens[: verdict.agreed], verdict.next_token]

    given["draft"] = [0.5, 0.5]
    first = lane.draft(0, 2).probs[0]
    measure: Counter[tuple[int, ...]] = Counter()
    for a in cells(first):
        given["draft"] = [a[2], 0.5]
        second = lane.draft(0, 2).probs[1]
        assert {*second.nonzero()[:, 0].tolist()} <= {*inside.tolist()}
        for b in cells(second):
            ratios = [float(law(())[a[0]] / first[a[0]]), float(law((a[0],))[b[0]] / second[b[0]])]
            for stands in range(3):
                weight, edges = a[1] * b[1], list[tuple[float, float]]()
                for i in range(min(stands + 1, 2)):
                    chance = min(ratios[i], 1.0)
                    falls = i == stands
                    weight *= 1 - chance if falls else chance
                    edges.append((chance + INSIDE, 1 - INSIDE) if falls else (INSIDE, chance - INSIDE))
                if weight < 1e-12:
                    continue
                before = (a[0], b[0])[:stands]
                q = (first, second, torch.zeros(V))[stands]
                for own in cells((law(before) - q).clamp(min=0)):
                    for edge in (0, 1):
                        text = played(edge, [a, b], [e[edge] for e in edges], own[2 + edge])
                        assert text == [*before, own[0]]
                    measure[(*before, own[0])] += weight * own[1]
    assert sum(measure.values()) == pytest.approx(1, abs=1e-9)
    assert any(text[0] not in inside.tolist() for text in measure), "tokens outside the draft vocabulary are emitted"
    joint = completed(measure, law)
    for whole in itertools.product(range(V), repeat=3):
        wanted = 1.0
        for i, token in enumerate(whole):
            wanted *= float(law(whole[:i])[token])
        assert joint[whole] == pytest.approx(wanted, abs=1e-7)
