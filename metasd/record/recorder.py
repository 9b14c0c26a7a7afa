"""One prompt's record after the other. Knows models, drafters and arrays; nothing of files."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from metasd.core import noise
from metasd.core.errors import UsageError
from metasd.core.pool import Pool
from metasd.core.signals import F
from metasd.drafters.base import Causal, Drafter, TextDrafter
from metasd.record.chains import Chains
from metasd.record.columns import Column, draw, walk
from metasd.record.processed import ProcessedReader
from metasd.record.reader import PackedReader, Reader, reader_for
from metasd.record.starts import Starts
from metasd.record.trie import RecordedText
from metasd.runtime.conversation import EncodedPrompt
from metasd.runtime.engine.cache import CachedModel
from metasd.runtime.engine.features import wanted
from metasd.runtime.load import Target, check_fits, context_limit
from metasd.runtime.processors import RowProcessors
from metasd.runtime.sampling import Sampling
from metasd.runtime.stops import Stops, ends_in
from metasd.traces import PromptRecord


class Recorder:
    """Records prompts one by one, in order: a drafter may remember the texts before.

    Attributes:
        seconds: by kind of work: ``plain`` decoding, ``text_drafters``, ``passes``, and what callers
            time with ``stage``.
        tokens: answer tokens recorded. mismatches: by prompt, positions where plain decoding and the wide pass differ.
        packed: by model, whether it is read in wide passes.

    Raises UsageError for a drafter of a kind that cannot be recorded, and for settings of the target that cannot be
    honoured.
    """

    def __init__(
        self,
        target: Target,
        drafters: Sequence[Drafter],
        pool: Pool,
        sampling: Sampling,
        *,
        budget: int,
        seed: int,
        stops: Stops | None = None,
    ) -> None:
        self._stops: Stops = stops or {}
        self.target, self.drafters, self.sampling, self.budget, self.seed = target, drafters, sampling, budget, seed
        self.lengths = pool.longest
        self.models = {d: x for d, x in enumerate(drafters) if x.causal is not None}
        self.heads = {d: x for d, x in enumerate(drafters) if x.info.needs}
        self.writers: dict[int, TextDrafter] = {
            d: cast(TextDrafter, x) for d, x in enumerate(drafters) if d not in {*self.models, *self.heads}
        }
        for drafter in self.writers.values():
            if not (drafter.info.free and drafter.info.deterministic):
                raise UsageError(
                    f"drafter {drafter.info.name!r} of kind {drafter.info.kind!r} cannot be recorded: it is neither "
                    "free and deterministic nor says what causal model it drafts from; leave it out"
                )
        self.limit = context_limit(target, drafters)
        self.seconds: dict[str, float] = {}
        self.tokens = 0
        self.mismatches: dict[str, int] = {}
        features = wanted([d.info.needs for d in drafters])
        self._cached = CachedModel(target.model, features)
        for head in self.heads.values():
            head.watch(features)
        self._processors = target.processors()
        reader: Reader = reader_for(target.model)
        causals = {d: cast(Causal, x.causal) for d, x in self.models.items()}
        readers = {d: (reader_for(m.model, m.fit), int(self.lengths[d])) for d, m in causals.items()}
        self.packed = {"target": isinstance(reader, PackedReader)}
        self.packed |= {drafters[d].info.name: isinstance(r, PackedReader) for d, (r, _) in readers.items()}
        if self._processors is not None:
            reader = self._processed = ProcessedReader(reader)
        self._comparison = Chains(reader, readers, sampling, target.vocab_size)

    def check(self, name: str, prompt: Sequence[int]) -> None:
        """Raises UsageError unless the prompt with its whole budget fits every model."""
        check_fits(self.target, name, len(prompt), self.budget)
        for drafter in self.drafters:
            drafter.check_fits(name, len(prompt), self.budget)

    def follow(self, prompt: Sequence[int], answer: Sequence[int]) -> None:
        """Let the text drafters read a text that is recorded already, as if they had just recorded it."""
        for drafter in self.writers.values():
            drafter.begin(prompt)
            drafter.extend(answer)

    @torch.inference_mode()
    def answer(self, entry: EncodedPrompt) -> list[int]:
        """The target's own answer to one prompt, decoded plainly."""
        name, _, prompt = entry
        process = None if self._processors is None else self._processors.text(prompt, self.budget)
        with self.stage("plain"):
            return self._decode(name, prompt, process)

    @torch.inference_mode()
    def record(self, entry: EncodedPrompt, answer: list[int] | None = None) -> PromptRecord:
        """The record of one prompt. ``answer``: what ``answer`` gave, where it was asked before."""
        name, domain, prompt = entry
        answer = self.answer(entry) if answer is None else answer
        if self._processors is not None:
            self._processed.process = self._processors.text(prompt, self.budget)
        with self.stage("text_drafters"):
            written = {d: walk(x, prompt, answer, int(self.lengths[d])) for d, x in self.writers.items()}
        text = RecordedText(prompt, answer, self._readable(prompt), int(noise.key(self.seed, name, "draft")))
        with self.stage("passes"):
            facts, modelled = self._comparison.run(text, written, self._spread(text))
        if facts.mismatches:
            self.mismatches[name] = facts.mismatches
        self.tokens += len(answer)
        return PromptRecord(
            id=name,
            domain=domain,
            prompt_tokens=prompt,
            tokens=answer,
            ended=self._ends(name, answer),
            margin=facts.margin,
            **cast(dict[str, Any], self._stack(written | modelled, len(answer))),
        )

    def told(self) -> dict[str, Any]:
        """What was done, for ``take`` of another process."""
        return {"seconds": self.seconds, "tokens": self.tokens, "mismatches": self.mismatches}

    def take(self, told: Mapping[str, Any]) -> None:
        """Count what another process has done as well."""
        for kind, seconds in told["seconds"].items():
            self.seconds[kind] = self.seconds.get(kind, 0.0) + seconds
        self.tokens += told["tokens"]
        self.mismatches |= told["mismatches"]

    def _spread(self, text: RecordedText) -> dict[int, Starts]:
        """What the heads draft at every start, read from the states that plain decoding left."""
        made: dict[int, Starts] = {}
        for d, head in self.heads.items():
            length = int(self.lengths[d])
            drafts = head.everywhere(text.prompt, text.answer, length)
            made[d] = Starts(drafts, text.answer, length, self.sampling, text.key_of(d))
        return made

    def _readable(self, prompt: Sequence[int]) -> int:
        """Tokens up to which a text and drafts behind its end can be read: no draft may cross a rotary switch."""
        switches = [self.target.switch, *(x.causal.switch for x in self.models.values() if x.causal is not None)]
        return min([self.limit, *(s for s in switches if s is not None and len(prompt) + self.budget <= s)])

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Adds the time spent inside to ``seconds[name]``."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started

    def _decode(self, name: str, prompt: Sequence[int], process: RowProcessors | None) -> list[int]:
        """Plain decoding: the answer, its end-of-text token included, at most ``budget`` tokens."""
        key, answer = np.array([noise.key(self.seed, name, "text")]), list[int]()
        self._cached.reset()
        logits = self._cached.forward(prompt, 1)
        while True:
            if process is not None:
                logits = process.rows([*prompt, *answer], logits)
            if self.sampling.greedy:
                token = logits.argmax(-1)
            else:
                token = draw(logits, self.sampling.probs(logits), noise.uniform_at(key, np.array([len(answer)])))
            answer.append(int(token))
            if self._ends(name, answer) or len(answer) >= self.budget:
                return answer
            logits = self._cached.feed(token, 1)
            self._cached.label(answer[-1:])

    def _ends(self, name: str, answer: list[int]) -> bool:
        return ends_in(self.target, answer[:-1], answer[-1:], self._stops.get(name, ())) == 1

    def _stack(self, columns: dict[int, Column], T: int) -> dict[str, NDArray[Any]]:
        """The record's arrays, [T, D] and [T, D, G], of the drafters' columns."""
        D, G = len(columns), max(self.lengths, default=0)
        made: dict[str, NDArray[Any]] = {name: np.zeros((T, D), np.int64) for name in ("proposed", "accepted")}
        made |= {name: np.full((T, D, G), np.nan) for name in ("overlap", "confidence")}
        made["draft_tokens"] = np.zeros((T, D, G), np.int64)
        made["signals"] = np.full((T, D, F), np.nan, np.float32)
        if not self.sampling.greedy:
            made["accept"] = np.zeros((T, D, G))
        for d, column in columns.items():
            m = column.tokens.shape[1]
            made["proposed"][:, d], made["accepted"][:, d] = column.proposed, column.accepted
            made["overlap"][:, d, :m], made["confidence"][:, d, :m] = column.overlap, column.confidence
            made["draft_tokens"][:, d, :m] = column.tokens
            if column.signals is not None:
                made["signals"][:, d] = column.signals
            if "accept" in made:
                # a one-hot proposal stands exactly where it is the text's token
                stands = np.arange(m) < column.accepted[:, None]
                made["accept"][:, d, :m] = stands if column.accept is None else column.accept
        return made
