"""The target's judgement of a draft: how many tokens stand, and the token that follows them.

One pass of the target and one read of its device a round, however many texts are judged in it. Knows distributions and
uniforms; knows nothing of arms, budgets or ends of text (``metasd.core.records.settle`` does).

Greedy: a draft token stands while it is the target's argmax. Sampled: token x drawn from q stands with probability
min(1, p(x)/q(x)), and the first that falls is replaced by a draw from (p - q)+, normalised (Leviathan, Kalman,
Matias 2023, arXiv 2211.17192, Alg. 1). A deterministic drafter's q is one-hot: min(1, p/q) is then p(x).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from metasd.core.plans import ROOT, Tree
from metasd.core.records import Floats
from metasd.core.signals import rounded
from metasd.drafters.base import Draft
from metasd.runtime.engine.cache import CachedModel, Tokens, forward_together
from metasd.runtime.engine.tree import TreePass
from metasd.runtime.processors import RowProcessors
from metasd.runtime.sampling import Sampling, likelihood, pick


@dataclass(slots=True)
class Verdict:
    """What the target says of m drafted tokens.

    agreed: leading tokens that stand. next_token: the target's own token behind them.
    overlap: [m] 1 - TV(p, q) along the drafter's own chain, as float16 holds it; None unless asked for.
    logits: [m + 1, V] of the target's pass, on its device, as its settings leave them.
    """

    agreed: int
    next_token: int
    overlap: Floats | None
    logits: torch.Tensor


@dataclass(slots=True)
class Question:
    """A draft to be judged as a continuation of ``text``.

    uniforms: [2, m + 1], needed when sampling: row 0 decides whether each draft token stands, row 1 draws the token
        behind i standing ones.
    process: what the target's generation settings do to its logits on this text.
    """

    text: Tokens
    draft: Draft
    uniforms: Floats | None = None
    process: RowProcessors | None = None


class Verifier:
    """Judges drafts with ``target``. ``overlap``: also measure it, which costs a softmax over the vocabulary."""

    def __init__(self, target: CachedModel, sampling: Sampling, *, overlap: bool) -> None:
        self.target, self.sampling, self.overlap = target, sampling, overlap

    def verify(
        self, text: Tokens, draft: Draft, uniforms: Floats | None = None, process: RowProcessors | None = None
    ) -> Verdict:
        """Judge ``draft`` as a continuation of ``text``; see ``Question``."""
        return self.together([self.target], [Question(text, draft, uniforms, process)])[0]

    @torch.inference_mode()
    def together(self, targets: Sequence[CachedModel], asked: Sequence[Question]) -> list[Verdict]:
        """What each of ``targets``, rows of one engine, says to what it is ``asked``: in one pass, and one read."""
        given = [np.concatenate([np.asarray(q.text, np.int64), np.asarray(q.draft.tokens, np.int64)]) for q in asked]
        logits = forward_together(targets, given, [len(q.draft.tokens) + 1 for q in asked])
        processed = [
            rows if q.process is None else q.process.rows(tokens, rows)
            for q, tokens, rows in zip(asked, given, logits, strict=True)
        ]
        said = [self._said(q, rows) for q, rows in zip(asked, processed, strict=True)]
        values = torch.cat([part.double() for parts in said for part in parts]).tolist()  # the round's one read
        verdicts, at = [], 0
        for q, parts, rows in zip(asked, said, processed, strict=True):
            first, end = at + len(parts[0]), at + sum(map(len, parts))
            shown = rounded(np.array(values[first:end], np.float64)) if self.overlap else None
            head = [int(v) for v in values[at:first]]
            agreed, token = judge_greedy(head, q.draft.tokens) if self.sampling.greedy else (head[0], head[1])
            verdicts.append(Verdict(agreed, token, shown, rows))
            at = end
        return verdicts

    def _said(self, asked: Question, logits: torch.Tensor) -> list[torch.Tensor]:
        """On the device: the target's own tokens [m + 1], or (agreed, next token); the overlap [m] where it counts."""
        m, draft = len(asked.draft.tokens), asked.draft
        drafted = torch.tensor(draft.tokens, dtype=torch.int64, device=logits.device)
        if self.sampling.greedy:
            said = [logits.argmax(dim=-1)]
            if self.overlap and m:
                said.append(_greedy_overlap(logits[:-1], drafted, draft, self.sampling))
            return said
        assert asked.uniforms is not None, "sampling needs uniforms"
        p = self.sampling.probs(logits)
        said = [torch.stack(judge(p, drafted, draft.probs, torch.from_numpy(asked.uniforms).to(p.device)))]
        if self.overlap and m:
            said.append(_overlap(p[:-1], drafted, draft.probs))
        return said


@dataclass(slots=True)
class TreeVerdict:
    """What the target says of a tree: the nodes that stand, from the root down, and its own token behind them."""

    path: list[int]
    next_token: int


class TreeVerifier:
    """Judges trees with ``target`` in one pass each.

    Greedy: the target's argmax is followed while the tree has it. Sampled: the target draws its own token at every
    position, from the uniform of that position, and the child that holds it is followed. So the text is the one
    that plain decoding draws, whatever the tree, and a tree of any width is accepted as often as it can be.
    """

    def __init__(self, target: CachedModel, sampling: Sampling) -> None:
        self.target, self.sampling = target, sampling
        self._pass = TreePass(target)

    @torch.inference_mode()
    def verify(
        self, text: Tokens, tree: Tree, uniforms: Floats | None = None, process: RowProcessors | None = None
    ) -> TreeVerdict:
        """Judge ``tree`` behind ``text``; the cache then holds the text and the path that stands.

        uniforms: [depth + 1] of the target's own draws, needed when sampling.
        process: what the target's generation settings do to its logits on this text.
        """
        logits = self._pass.step(text, tree.tokens, tree.parents)
        if process is not None:
            given = [int(t) for t in text]
            logits = process.each([given, *(given + way for way in _ways(tree))], logits)
        if self.sampling.greedy:
            own = logits.argmax(dim=-1).tolist()
        else:
            assert uniforms is not None, "sampling needs uniforms"
            drawn = torch.from_numpy(uniforms[[0, *tree.depths]])
            own = pick(self.sampling.probs(logits), drawn.to(logits.device)).tolist()
        path, token = _followed(tree, own)
        self._pass.keep(path)
        return TreeVerdict(path, token)


def _ways(tree: Tree) -> list[list[int]]:
    """The tokens from the root to each node."""
    found: list[list[int]] = []
    for token, parent in zip(tree.tokens, tree.parents, strict=True):
        found.append([*(found[parent] if parent >= 0 else ()), token])
    return found


def _followed(tree: Tree, own: Sequence[int]) -> tuple[list[int], int]:
    """The path that the target's ``own`` [n + 1] tokens (root first) follow, and the one that leaves the tree."""
    child = {(p, t): n for n, (p, t) in enumerate(zip(tree.parents, tree.tokens, strict=True))}
    path, at = list[int](), ROOT
    while (at, own[at + 1]) in child:
        at = child[at, own[at + 1]]
        path.append(at)
    return path, own[at + 1]


def judge_greedy(own: list[int], drafted: list[int]) -> tuple[int, int]:
    """(agreed, next token) where ``own`` [m + 1] are the target's argmaxes along the draft [m]."""
    agreed = next((i for i, token in enumerate(drafted) if token != own[i]), len(drafted))
    return agreed, own[agreed]


def judge(
    p: torch.Tensor, drafted: torch.Tensor, q: torch.Tensor | None, uniforms: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """(agreed, next token) under the ratio rule, as scalars on the device.

    Args: p [m + 1, V], drafted [m], q [m, V] or None for one-hot, uniforms [2, m + 1].
    """
    chance = acceptance(p, drafted, q)
    agreed = (uniforms[0, :-1] < chance).long().cumprod(0).sum()
    return agreed, pick(remainder(p, drafted, q, agreed)[None], _at(uniforms[1], agreed)[None])[0]


def _at(rows: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    """``rows[index]`` for a scalar ``index``, which Python's brackets would read off the device."""
    return rows.index_select(0, index[None])[0]


def acceptance(p: torch.Tensor, drafted: torch.Tensor, q: torch.Tensor | None) -> torch.Tensor:
    """[m] min(1, p/q) at the drafted tokens."""
    of_p = p[:-1].gather(1, drafted[:, None])[:, 0]
    if q is None:
        return of_p
    return (of_p / q.gather(1, drafted[:, None])[:, 0]).clamp(max=1)


def remainder(p: torch.Tensor, drafted: torch.Tensor, q: torch.Tensor | None, agreed: torch.Tensor) -> torch.Tensor:
    """[V] weights of the token behind ``agreed`` standing ones: (p - q)+ after a rejection, p after none."""
    m = len(drafted)
    row = _at(p, agreed)
    if m == 0:
        return row
    at = agreed.clamp(max=m - 1)
    rest = row.index_fill(0, _at(drafted, at), 0.0) if q is None else (row - _at(q, at)).clamp(min=0)
    # p and q equal up to rounding may reject with nothing left over: p itself is then right up to rounding
    return rest.where((agreed < m) & (rest.sum() > 0), row)


def _greedy_overlap(logits: torch.Tensor, drafted: torch.Tensor, draft: Draft, sampling: Sampling) -> torch.Tensor:
    """[m] 1 - TV of both sides at OVERLAP_TEMPERATURE; logits [m, V]."""
    if draft.logits is None and draft.probs is None:
        return likelihood(logits, drafted)
    q = draft.probs if draft.logits is None else sampling.probs(draft.logits)
    return _overlap(sampling.probs(logits), drafted, q)


def _overlap(p: torch.Tensor, drafted: torch.Tensor, q: torch.Tensor | None) -> torch.Tensor:
    """[m] sum of min(p, q): 1 - TV, for p and q [m, V]; a one-hot q (None) leaves p(token)."""
    return p.gather(1, drafted[:, None])[:, 0] if q is None else torch.minimum(p, q).sum(-1)
