"""How the default policy's prior is learned: policy iteration by regression on full counterfactuals.

Numpy only, no traces: ``Counterfactuals`` holds the arrays. Let l_m(t) be the tokens that model m (a drafter at a
draft length) emits from start t, pi a policy, V(t) = 1 + V(t + l_pi(t)) its rounds to the end of the text. Arm m is
then worth

    y_m(t) = E l_r(t) + g (V(t + l_r(t)) - V(t + l_m(t))),  and y_r(t) = l_r(t)

tokens, r being a reference drafter: what r is expected to emit, plus the rounds that m saves against r at pi's g tokens
a round. Regressing y_m on the clipped features and acting greedily gives the next pi. No policy is ever shown V; it
looks into the future only here, on training texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metasd.core.pool import DrafterInfo
from metasd.core.records import Bools, Floats, Ints
from metasd.policies.frontier.features import NAMES, W, features
from metasd.policies.frontier.prior import SCHEMA, pack
from metasd.policies.frontier.tokens import TokenTable, fit_tables, speaker_proposal, token_keys

TEXT_WEIGHT = 100.0  # most that one text counts
OFF_PATH = 0.15  # weight of a start that the policy does not visit
RIDGE = 1.0
STEADY = 0.02  # added to the moments' diagonal, so that no feature's coefficient is frozen online


@dataclass(frozen=True, slots=True)
class Counterfactuals:
    """What every drafter would have done at every start of P texts, N starts in all, texts concatenated.

    Args:
        offsets: [P + 1] first start of each text.
        proposed, accepted: [N, D] tokens offered, and leading ones that the text agrees with.
        signals: [N, D, F]; tail: [N, 2] last tokens before the start; proposal: [N, D] first token of free drafters.
        draft_lengths: for each drafter the ascending draft lengths to fit, the last being its longest recorded.
    """

    drafters: Sequence[DrafterInfo]
    draft_lengths: Sequence[Sequence[int]]
    offsets: Ints
    proposed: Ints
    accepted: Ints
    signals: Floats
    tail: Ints
    proposal: Ints

    @property
    def free(self) -> Bools:
        return np.array([d.free for d in self.drafters], bool)

    def text(self) -> Ints:
        """[N] index of the text of each start."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def left(self) -> Ints:
        """[N] tokens from each start to the end of its text."""
        return np.repeat(self.offsets[1:], np.diff(self.offsets)) - np.arange(self.offsets[-1])

    def emitted(self, drafter: int, draft_length: int) -> Ints:
        """[N] tokens that a round from each start emits."""
        return np.minimum(np.minimum(self.accepted[:, drafter], draft_length) + 1, self.left())


@dataclass(frozen=True, slots=True)
class Trajectory:
    """What a policy does on the training texts, and what it makes of every start."""

    ahead: Floats  # [N + P] rounds to go; each text has one more row, for its end
    at: Ints  # [N] row of ``ahead`` of each start
    beside: Ints  # [N] row of ``ahead`` that the reference drafter leads to
    visited: Bools  # [N]

    @property
    def speed(self) -> float:
        """The policy's tokens per round."""
        return len(self.visited) / float(self.visited.sum())

    def worth(self, emitted: Ints, hoped: Floats) -> Floats:
        """[N, M] y_m of the module's docstring, from tokens emitted [N, M] and E l_r [N]."""
        saved = self.ahead[self.beside][:, None] - self.ahead[self.at[:, None] + emitted]
        return hoped[:, None] + self.speed * saved


def fit(data: Counterfactuals, iterations: int = 3, tables: bool = True) -> dict[str, Any]:
    """The prior, as JSON-serialisable data for ``metasd.policies.frontier.prior.lay_out``."""
    emitted = np.stack([data.emitted(d, lengths[-1]) for d, lengths in enumerate(data.draft_lengths)], axis=1)
    x = features(np.asarray(data.signals, np.float64), data.free)
    offers = data.proposed > 0
    weight = text_weights(data, np.ones(len(x), bool))
    level = np.array([np.average(emitted[o, d], weights=weight[o]) for d, o in enumerate(offers.T)])
    learner = Learner(data, offers, tables)
    reference = reference_of(data, offers, level)
    rows, at_reference = np.arange(len(x)), reference[:, None] == np.arange(len(level))
    expected, _ = learner(x, emitted.astype(np.float64), weight)
    for _ in range(iterations):
        chosen = np.argmax(np.where(offers, expected, -np.inf), axis=1)
        walk = follow(data, chosen, reference, emitted)
        weight = text_weights(data, walk.visited)
        hoped = learner(x, emitted.astype(np.float64), weight)[0][rows, reference]
        worth = np.where(at_reference, emitted, walk.worth(emitted, hoped))
        expected, found = learner(x, worth, weight)
    entries = [_entry(data, d, x[:, d], weight, walk, hoped, worth[:, d]) for d in range(len(level))]
    return {
        "schema": SCHEMA,
        "policy": "frontier",
        "features": list(NAMES),
        "texts": len(data.offsets) - 1,
        "starts": len(x),
        "drafters": entries,
        "tables": {n: {"keys": t.keys.tolist(), "values": np.round(t.values, 3).tolist()} for n, t in found.items()},
    }


def _entry(
    data: Counterfactuals, d: int, x: Floats, weight: Floats, walk: Trajectory, hoped: Floats, longest: Floats
) -> dict[str, Any]:
    """What the prior says of drafter ``d``; ``x`` [N, W] its features, ``longest`` [N] its worth at its longest."""
    rows = data.proposed[:, d] > 0
    x, w = x[rows], weight[rows]
    models = []
    for length in data.draft_lengths[d]:
        shorter = length < data.draft_lengths[d][-1]
        worth = walk.worth(data.emitted(d, length)[:, None], hoped)[:, 0] if shorter else longest
        theta = regress(x, worth[rows], w)
        accepted = float(np.average(np.minimum(data.accepted[rows, d], length), weights=w))
        models.append(
            {
                "draft_length": int(length),
                "accepted": round(accepted, 5),
                "theta": np.round(theta, 5).tolist(),
            }
        )
    moments = (w[:, None] * x).T @ x / w.sum() + STEADY * np.eye(W)
    info = data.drafters[d]
    return {
        "name": info.name,
        "kind": info.kind,
        "settings": dict(info.settings),
        "moments": pack(moments),
        "models": models,
    }


def text_weights(data: Counterfactuals, visited: Bools) -> Floats:
    """[N] weight of each start: visited ones count 1, others ``OFF_PATH``, one text ``TEXT_WEIGHT`` at most."""
    weight = np.where(visited, 1.0, OFF_PATH)
    text = data.text()
    total = np.bincount(text, weight, minlength=len(data.offsets) - 1)
    return np.asarray(weight * np.minimum(1.0, TEXT_WEIGHT / np.maximum(total, 1e-9))[text])


def regress(x: Floats, y: Floats, weight: Floats) -> Floats:
    """[W] weighted ridge regression of y [n] on x [n, W]."""
    wx = weight[:, None] * x
    return np.linalg.solve(wx.T @ x + RIDGE * np.eye(W), wx.T @ y)


@dataclass(frozen=True, slots=True)
class Learner:
    """Fits linear indices and token tables to a target, for each drafter where it has a proposal."""

    data: Counterfactuals
    offers: Bools  # [N, D]
    tables: bool

    def __call__(self, x: Floats, y: Floats, weight: Floats) -> tuple[Floats, dict[str, TokenTable]]:
        """([N, D] fitted values, tables). Args: x [N, D, W], y [N, D], weight [N]."""
        columns = [x[:, d] @ regress(x[o, d], y[o, d], weight[o]) for d, o in enumerate(self.offers.T)]
        fitted = np.stack(columns, axis=1)
        if not self.tables:
            return fitted, {}
        keys = token_keys(self.data.tail, speaker_proposal(self.data.signals, self.data.proposal, self.data.free))
        residual = np.where(self.offers, y - fitted, 0.0)
        found = fit_tables(keys, self.data.text(), residual, weight[:, None] * self.offers)
        return fitted + sum((table(keys[name]) for name, table in found.items()), np.zeros(1)), found


def reference_of(data: Counterfactuals, offers: Bools, level: Floats) -> Ints:
    """[N] the drafter others are measured against: of those with a proposal, models before free ones, then by level."""
    rank = level + np.where(data.free, 0.0, level.max() + 1.0)
    return np.argmax(np.where(offers, rank, -1.0), axis=1)


def follow(data: Counterfactuals, chosen: Ints, reference: Ints, emitted: Ints) -> Trajectory:
    """Walk all texts with drafter ``chosen`` [N] at each start; ``reference`` [N]; ``emitted`` [N, D]."""
    rows = np.arange(len(chosen))
    at = rows + data.text()
    steps = emitted[rows, chosen].tolist()
    ahead = np.zeros(len(rows) + len(data.offsets) - 1)
    visited = np.zeros(len(rows), bool)
    for p, (begin, end) in enumerate(zip(data.offsets[:-1].tolist(), data.offsets[1:].tolist(), strict=True)):
        to_go = [0.0] * (end - begin + 1)
        for t in range(end - begin - 1, -1, -1):
            to_go[t] = 1.0 + to_go[t + steps[begin + t]]
        ahead[begin + p : end + p + 1] = to_go
        t = begin
        while t < end:
            visited[t] = True
            t += steps[t]
    return Trajectory(ahead, at, at + emitted[rows, reference], visited)
