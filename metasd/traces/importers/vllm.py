"""vLLM's responses with per-request speculation records: lengths at visited positions only.

A line is a response of ``vllm serve --per-request-spec-decode-metrics detailed``: ``metrics.speculative_decoding`` has
``per_step_drafted`` and ``per_step_accepted``, one entry a step that checked a draft, and ``usage.completion_tokens``
says how long the answer is. With ``return_token_ids`` the choice has ``token_ids`` and the trace the text.

The text begins behind its first token, which is made while the prompt is read. Steps without a draft are not in the
records, so where the steps do not add up to the answer it is not known where they began: such an answer is left out.
A start inside a step gets what that step had left, as in ``specbench``; ``exact`` is false.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metasd.core.errors import UsageError
from metasd.core.limits import LONGEST_DRAFT
from metasd.core.pool import DrafterInfo, Pool
from metasd.core.records import Ints
from metasd.traces.importers.lines import integers, named, parse, sources, value
from metasd.traces.importers.specbench import what_was_left
from metasd.traces.trace import Trace

APPROXIMATION = "visited positions only: a start inside a logged step takes what that step had left"


@dataclass(frozen=True, slots=True)
class _Answer:
    """One response behind its first token. ``tokens`` are -1 where they are not in it."""

    id: str
    model: str
    limit: int
    prompt: int
    tokens: Ints
    drafted: Ints
    accepted: Ints

    @property
    def known(self) -> bool:
        """Whether the steps make up the answer, of which the last may be cut."""
        ends = np.cumsum(self.accepted + 1)
        return len(ends) > 0 and int(ends[-1]) >= len(self.tokens) > int(ends[-1] - self.accepted[-1] - 1)


def read(path: Path) -> tuple[Trace, list[str]]:
    """The trace of the responses at ``path`` and warnings.

    Raises UsageError naming file and line for a broken one, and where no response is left.
    """
    files = sources(path)
    answers = [answer for file in files for answer in parse(file, _answer)]
    kept = [a for a in answers if a.known]
    if not kept:
        raise UsageError(f"{path}: in none of {len(answers)} responses do the steps add up to the answer; give others")
    warnings = [f"approximate: {APPROXIMATION}"]
    if len(kept) < len(answers):
        lost = f"{len(answers) - len(kept)} of {len(answers)} responses left out"
        warnings.append(f"{lost}: steps without a draft are not in the records, so positions are unknown")
    for what, found in (("models", {a.model for a in kept}), ("numbers of tokens", {a.limit for a in kept})):
        if len(found) > 1:
            raise UsageError(
                f"{path}: {what} differ ({', '.join(map(str, sorted(found)))}); give one server's responses"
            )
    return _trace(kept, named(files)), warnings


def _answer(data: dict[str, Any]) -> _Answer:
    """One line. Raises ValueError saying what is wrong with it."""
    told = value(data, "metrics", "speculative_decoding")
    limit = value(told, "num_spec_tokens")
    if type(limit) is not int or not 1 <= limit <= LONGEST_DRAFT:
        raise ValueError(f"num_spec_tokens is {limit!r}, not within 1..{LONGEST_DRAFT}")
    if "per_step_drafted" not in told:
        raise ValueError("it has no per_step_drafted; serve with --per-request-spec-decode-metrics detailed")
    drafted = integers(told["per_step_drafted"], "per_step_drafted", 0, limit)
    accepted = integers(value(told, "per_step_accepted"), "per_step_accepted", 0, limit)
    if len(drafted) != len(accepted) or (accepted > drafted).any():
        raise ValueError("per_step_accepted and per_step_drafted do not fit together")
    count = value(data, "usage", "completion_tokens")
    if type(count) is not int or count < 1:
        raise ValueError(f"usage.completion_tokens is {count!r}")
    ids = value(data, "choices", 0).get("token_ids")
    tokens = np.full(count, -1) if ids is None else integers(ids, "token_ids", 0)
    if len(tokens) != count:
        raise ValueError(f"there are {len(tokens)} token_ids, but completion_tokens says {count}")
    prompt = int(value(data, "usage", "prompt_tokens")) + 1
    return _Answer(
        str(value(data, "id")), str(data.get("model", "unknown")), limit, prompt, tokens[1:], drafted, accepted
    )


def _trace(answers: list[_Answer], files: list[dict[str, str]]) -> Trace:
    limit = answers[0].limit
    lengths = np.array([len(a.tokens) for a in answers], np.int64)
    accepted = [what_was_left(a.accepted + 1, len(a.tokens)) for a in answers]
    proposed = [_proposed(a) for a in answers]
    drafter = DrafterInfo("vllm", "log", False, False)
    pool = Pool((drafter,), [(0, limit)])
    config = {
        "target": answers[0].model,
        "format": "vllm",
        "files": files,
        "drafters": pool.to_json()["drafters"],
        "acceptance": "exact-match",
        "temperature": 0.0,
        "visited": int(sum(len(a.accepted) for a in answers)),
    }
    return Trace(
        drafters=(drafter,),
        draft_lengths=np.array([limit], np.int64),
        ids=[a.id for a in answers],
        domains=["served"] * len(answers),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        ended=np.ones(len(answers), bool),
        prompt_lengths=np.array([a.prompt for a in answers], np.int64),
        tokens=np.concatenate([a.tokens for a in answers]).astype(np.int32),
        proposed=np.concatenate(proposed).astype(np.uint8)[:, None],
        accepted=np.concatenate(accepted).astype(np.uint8)[:, None],
        manifest={"config": config, "pool": pool.to_json(), "exact": False, "approximation": APPROXIMATION},
    )


def _proposed(answer: _Answer) -> Ints:
    """[n] draft tokens left of the step around every start."""
    size = answer.accepted + 1
    inside = np.arange(int(size.sum())) - np.repeat(np.cumsum(size) - size, size)
    left: Ints = (np.repeat(answer.drafted, size) - inside)[: len(answer.tokens)]
    return left
