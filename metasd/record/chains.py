"""What every drafter would have drafted from every start of one text, and what the target thinks of it.

All starts are settled together. A draft that agrees with the text lies on it, so one pass over the text says all
about that part; only behind its first disagreement does it need passes of its own. There it is a *branch*: a chain
hanging on the text at the position where it left it. Equal branches of different drafters and starts are one.

Indices: t start (0..T-1), s position of the text (0..T, T being its end), i tokens behind the point where a branch
left the text, d drafter. The answer token y[s] is judged at position s. Knows readers, columns and the rule by
which tokens are drawn; does not know where texts come from or where columns go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from metasd.core import noise
from metasd.record.columns import Branches, Column, draw, rejected
from metasd.record.reader import ROOT, Reader
from metasd.record.starts import Starts
from metasd.record.trie import RecordedText, Trie
from metasd.runtime.sampling import Sampling

ELEMENTS = 1 << 25
"""Logits held at a time, in numbers: what bounds memory (128 MB in float32)."""
NODES = 512
"""Nodes in one pass of the target."""


@dataclass(slots=True)
class TextFacts:
    """What the pass over the text said of the target itself."""

    margin: NDArray[np.float32]  # [T] top-1 minus top-2 logit, NaN where the settings leave one token
    mismatches: int = 0  # positions whose argmax is not the text (above temperature 0: whose probability is 0)


class Chains:
    """One target and its drafters, text after text.

    Args:
        target: reads the target.
        models: by drafter, a reader of its model and its longest draft length.
        sampling: how logits become distributions.
        vocabulary: V.
        elements: bound on the logits held at a time.
    """

    def __init__(
        self,
        target: Reader,
        models: Mapping[int, tuple[Reader, int]],
        sampling: Sampling,
        vocabulary: int,
        elements: int = ELEMENTS,
    ) -> None:
        self.target, self.models, self.sampling = target, models, sampling
        self.vocabulary, self.elements = vocabulary, elements
        self.sampled = not sampling.greedy

    def run(
        self, text: RecordedText, written: Mapping[int, Column], spread: Mapping[int, Starts] | None = None
    ) -> tuple[TextFacts, dict[int, Column]]:
        """Fill the overlap of ``written``, the text drafters' columns, and make the model drafters' columns.

        spread: heads, whose columns are theirs.
        """
        spread = spread or {}
        branches = {d: Branches.empty(len(text.answer), m) for d, (_, m) in self.models.items()}
        facts = self._along(text, written, branches, spread)
        for found in branches.values():
            found.find_starts(text.answer, self.sampled, text.room)
        for starts in spread.values():
            starts.go_on()
        self._beside(text, written, branches, spread)
        columns = {d: found.column(text.answer, self.sampled) for d, found in branches.items()}
        return facts, columns | {d: starts.column for d, starts in spread.items()}

    # -- on the text --------------------------------------------------------------------------------------------

    def _along(
        self,
        text: RecordedText,
        written: Mapping[int, Column],
        branches: Mapping[int, Branches],
        spread: Mapping[int, Starts],
    ) -> TextFacts:
        """The passes over the text: margin, parity, and everything that lies on the text."""
        facts = TextFacts(np.zeros(len(text.answer), np.float32))
        first = len(text.prompt)
        for seen, logits, others in self._read(text.tokens, first):
            rows = np.arange(seen - first, seen - first + len(logits))
            p = self.sampling.probs(logits)
            self._judge_text(text, rows, logits, p, facts)
            for column in written.values():
                t, depth = column.on_text(rows)
                local = torch.as_tensor(t + depth - rows[0], device=p.device)
                drafted = torch.as_tensor(column.tokens[t, depth], device=p.device)
                column.overlap[t, depth] = p[local, drafted].cpu().numpy()
            for starts in spread.values():
                starts.along(rows, p)
            for (d, found), q_logits in zip(branches.items(), others, strict=True):
                self._leave_text(text, d, found, rows, p, q_logits)
        return facts

    def _read(self, tokens: list[int], first: int) -> Iterator[tuple[int, Tensor, list[Tensor]]]:
        """The target's logits and the models', block by block over the same rows."""
        width = self._rows(1 + len(self.models))
        readers = [reader.read(tokens, first, width) for reader, _ in self.models.values()]
        for seen, logits in self.target.read(tokens, first, width):
            yield seen, logits, [next(reader)[1] for reader in readers]
        for reader in readers:
            if next(reader, None) is not None:
                raise RuntimeError("a drafter's reader gave more rows than the target's")

    def _rows(self, models: int) -> int:
        return min(max(self.elements // (self.vocabulary * models), 1), NODES)

    def _judge_text(
        self, text: RecordedText, rows: NDArray[np.int64], logits: Tensor, p: Tensor, facts: TextFacts
    ) -> None:
        rows = rows[rows < len(text.answer)]
        if not len(rows):
            return
        told = torch.as_tensor([text.answer[s] for s in rows], device=logits.device)
        top = logits[: len(rows)].float().topk(2, dim=-1).values
        margin = top[:, 0] - top[:, 1]
        facts.margin[rows] = margin.masked_fill(margin.isinf(), torch.nan).cpu().numpy()
        if self.sampled:
            wrong = p[: len(rows)].gather(1, told[:, None])[:, 0] <= 0
        else:
            wrong = logits[: len(rows)].argmax(-1) != told
        facts.mismatches += int(wrong.sum())

    def _leave_text(
        self, text: RecordedText, d: int, found: Branches, rows: NDArray[np.int64], p: Tensor, q_logits: Tensor
    ) -> None:
        """Where a model drafter's proposal leaves the text, at each of ``rows``: token, confidence, overlap, accept."""
        q = self.sampling.probs(q_logits)
        if self.sampled:
            token = rejected(p, q, self._uniforms(text, d, found, rows, 0))
            judged = rows[rows < len(text.answer)]
            told = torch.as_tensor([text.answer[s] for s in judged], device=p.device, dtype=torch.long)[:, None]
            ratio = q[: len(judged)].gather(1, told) / p[: len(judged)].gather(1, told)
            found.accept[judged] = ratio[:, 0].nan_to_num(0.0).clamp(max=1.0).cpu().numpy()
        else:
            token = q_logits.argmax(-1)
        found.note(rows, 0, token, q, torch.minimum(p, q).sum(-1))

    def _uniforms(
        self, text: RecordedText, d: int, found: Branches, s: NDArray[np.int64], i: int
    ) -> NDArray[np.float64]:
        return noise.uniform_at(text.key_of(d), s * found.depth + i)

    # -- beside the text ----------------------------------------------------------------------------------------

    def _beside(
        self,
        text: RecordedText,
        written: Mapping[int, Column],
        branches: Mapping[int, Branches],
        spread: Mapping[int, Starts],
    ) -> None:
        """Everything behind the first disagreement, a block of positions at a time."""
        written = {**written, **{d: starts.column for d, starts in spread.items()}}
        leaving = {d: column.leaving() for d, column in written.items()}
        asked = np.zeros(len(text.answer) + 1, bool)
        for found in branches.values():
            asked |= found.wanted > 0
        for starts in leaving.values():
            asked[[s for s, _ in starts]] = True
        positions = np.flatnonzero(asked)
        deepest = sum(found.depth - 1 for found in branches.values())
        block = self._rows(max(deepest, 1)) if deepest else NODES
        for at in range(0, len(positions), block):
            inside = positions[at : at + block]
            q = {d: self._grow_drafts(text, d, branches[d], inside) for d in branches}
            for trie in self._tries(text, inside, written, branches, leaving):
                self._judge(trie, written, branches, q, spread)

    def _grow_drafts(
        self, text: RecordedText, d: int, found: Branches, inside: NDArray[np.int64]
    ) -> dict[int, tuple[dict[int, int], Tensor]]:
        """Let drafter d go on from every branch in ``inside``; its distributions by depth, with the row of each s."""
        reader, length = self.models[d]
        parents = {int(s): ROOT for s in inside}
        grown, count = {}, 0
        for i in range(1, length):
            s = inside[found.wanted[inside] >= i]
            if not len(s):
                break
            seen = (len(text.prompt) + s).tolist()
            logits = reader.grow(found.tokens[s, i - 1].tolist(), seen, [parents[int(x)] for x in s])
            parents |= {int(x): count + row for row, x in enumerate(s)}
            count += len(s)
            q = self.sampling.probs(logits)
            token = draw(logits, q, self._uniforms(text, d, found, s, i) if self.sampled else None)
            found.note(s, i, token, q, None)
            grown[i] = ({int(x): row for row, x in enumerate(s)}, q)
        reader.drop()
        return grown

    def _tries(
        self,
        text: RecordedText,
        inside: NDArray[np.int64],
        written: Mapping[int, Column],
        branches: Mapping[int, Branches],
        leaving: Mapping[int, Sequence[tuple[int, int]]],
    ) -> Iterator[Trie]:
        """The branches in ``inside``, merged, in tries of at most about a pass's nodes."""
        by_position: dict[int, list[tuple[int, int]]] = {}
        for d, starts in leaving.items():
            for s, t in starts:
                by_position.setdefault(s, []).append((d, t))
        trie, limit = Trie(), self._rows(2)
        for s in map(int, inside):
            seen = len(text.prompt) + s
            for d, found in branches.items():
                chain = found.tokens[s, : found.wanted[s]].tolist()
                for i, node in enumerate(trie.add(seen, chain)):
                    trie.model.setdefault(d, []).append((node, s, i + 1))
            for d, t in by_position.get(s, ()):
                column = written[d]
                left = s - t
                chain = column.tokens[t, left : column.proposed[t] - 1][: max(text.room - s, 0)].tolist()
                for i, node in enumerate(trie.add(seen, chain)):
                    trie.text.setdefault(d, []).append((node, t, left + 1 + i))
            if len(trie) >= limit:
                yield trie
                trie = Trie()
        if len(trie):
            yield trie

    def _judge(
        self,
        trie: Trie,
        written: Mapping[int, Column],
        branches: Mapping[int, Branches],
        q: Mapping[int, dict[int, tuple[dict[int, int], Tensor]]],
        spread: Mapping[int, Starts],
    ) -> None:
        """One pass of the target over ``trie``; writes the overlaps it was asked for."""
        p = self.sampling.probs(self.target.grow(trie.tokens, trie.seen, trie.parents))
        self.target.drop()
        for d, asked in trie.text.items():
            node, t, depth = (np.array(x) for x in zip(*asked, strict=True))
            if d in spread:
                spread[d].beside(t, depth, p[torch.as_tensor(node, device=p.device)])
                continue
            drafted = torch.as_tensor(written[d].tokens[t, depth], device=p.device)
            written[d].overlap[t, depth] = p[torch.as_tensor(node, device=p.device), drafted].cpu().numpy()
        for d, asked in trie.model.items():
            for i in sorted({i for _, _, i in asked}):
                rows, of_q = q[d][i]
                node_at, s_at = zip(*[(node, s) for node, s, depth in asked if depth == i], strict=True)
                mine = torch.minimum(p[list(node_at)], of_q[[rows[s] for s in s_at]]).sum(-1)
                branches[d].overlap[list(s_at), i] = mine.cpu().numpy()
