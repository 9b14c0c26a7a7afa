"""Recording: the target's own texts and, at every position, what every drafter of a pool would have done.

Per prompt: the target decodes its answer plainly, timed, which is what everything else is measured by; the
text drafters walk through the answer; a few wide passes (``chains``) say the rest. Prompts are recorded in file
order, since a growing table remembers the texts before; several processes share them (``share``). Knows the recorder
and the trace's writers; no policies.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from metasd.core import progress
from metasd.core.errors import UsageError
from metasd.core.pool import Pool
from metasd.drafters.base import Drafter
from metasd.record.manifest import manifest_of
from metasd.record.recorder import Recorder
from metasd.record.share import Share, told
from metasd.runtime.conversation import EncodedPrompt
from metasd.runtime.group import Group
from metasd.runtime.load import Target
from metasd.runtime.sampling import Sampling
from metasd.runtime.stops import Stops
from metasd.runtime.timing import measure_costs
from metasd.traces import Trace, TraceWriter, open_trace
from metasd.traces import texts as spelling
from metasd.traces.commits import ShardWriter
from metasd.traces.parts import PartWriter
from metasd.traces.writer import join

FLUSH_SECONDS = 60.0
"""A shard is committed at least this often, so that a kill loses about a minute."""
EXACT = (torch.float32, torch.float64)
"""dtypes in which plain decoding and a wide pass should never differ."""


def record(
    target: Target,
    drafters: Sequence[Drafter],
    pool: Pool,
    texts: Sequence[EncodedPrompt],
    out: str | Path,
    *,
    max_new_tokens: int = 128,
    sampling: Sampling | None = None,
    seed: int = 0,
    raw: bool = False,
    resume: bool = False,
    stops: Stops | None = None,
    group: Group | None = None,
) -> dict[str, Any]:
    """Record ``texts`` (id, domain, prompt tokens) into the trace folder ``out``; returns a summary (see ``_summary``).

    Above temperature 0 the text is sampled; acceptance is then min(1, q/p) of the text's token, and a model drafter's
    chain is the one a rejection at its first token leads to (manifest: ``chains`` "rejected"): a round of it from t
    that accepts k tokens shows overlap[t + j, 0] at depths j <= k and overlap[t + k, j - k] behind.

    Args:
        sampling: how the target decodes; greedily by default.
        raw: no chat template.
        stops: stop strings by prompt id.
        resume: go on beside the prompts committed so far; another configuration is refused.
        group: the processes that record together, each its share; all call this alike, and the first writes the
            manifest when all are done. The arrays are those of one process. None: this process is alone.

    An interrupt commits what is recorded and is raised again. Raises UsageError for what the user can mend, RankError
    when another process of the group fails or is lost.
    """
    out = Path(out)
    _check(drafters, pool, texts, max_new_tokens)
    sampling = sampling or Sampling()
    started = time.perf_counter()
    recorder = Recorder(target, drafters, pool, sampling, budget=max_new_tokens, seed=seed, stops=stops)
    for name, _, tokens in texts:
        recorder.check(name, tokens)
    manifest = manifest_of(
        target, pool, texts, sampling, max_new_tokens=max_new_tokens, seed=seed, raw=raw, stops=stops
    )
    writer, known = _writer(out, manifest, [name for name, _, _ in texts], resume, group)
    with writer:
        share = Share(recorder, texts, out, known, group)
        with told(share.left, group) as advance:
            _record(recorder, share, writer, advance)
            others = 0.0
            if group is not None and isinstance(writer, TraceWriter):
                others = _gather(recorder, writer, group, advance)
    if group is not None and group.rank:
        group.tell(f"written/{group.rank}", json.dumps(recorder.told() | {"work": time.perf_counter() - started}))
        group.hear("complete")
    else:
        if group is not None:
            group.tell("complete", "")
        _add_costs_and_texts(recorder, pool, out, anew=len(known) < len(texts))
    return _summary(recorder, open_trace(out), len(known), time.perf_counter() - started, others)


def _check(drafters: Sequence[Drafter], pool: Pool, texts: Sequence[EncodedPrompt], max_new_tokens: int) -> None:
    """Raises UsageError for the first thing that cannot be recorded."""
    if max_new_tokens < 1:
        raise UsageError(f"max_new_tokens {max_new_tokens} is too small; use 1 or more")
    if not texts:
        raise UsageError("no prompts to record; give at least one")
    if not drafters:
        raise UsageError(
            "the pool drafts nothing, so there is nothing to record; use a drafter and a draft length of 1 or more"
        )
    if [d.info for d in drafters] != list(pool.drafters):
        raise UsageError("the drafters are not those of the pool; build both together")


def _writer(
    out: Path, manifest: Mapping[str, Any], order: Sequence[str], resume: bool, group: Group | None
) -> tuple[TraceWriter | PartWriter, list[str]]:
    """The writer of this process, and what was done before all began: the first one prepares the folder and says it.

    When another one comes, more may be committed already; counting that as done would share the prompts otherwise.
    """
    if group is not None and group.rank:
        known: list[str] = json.loads(group.hear("prepared"))
        return join(out, manifest, group.rank, order=order), known
    writer = TraceWriter(out, manifest, resume=resume, order=order)
    known = writer.done
    if group is not None:
        group.tell("prepared", json.dumps(known))
    return writer, known


def _record(recorder: Recorder, share: Share, writer: ShardWriter, advance: progress.Advance) -> None:
    committed = time.perf_counter()
    for slow in (name for name, packed in recorder.packed.items() if not packed):
        advance.say(f"{slow} attends to what it likes, not as told: reading it position by position, which is slow")
    for made in share.records():
        with recorder.stage("write"):
            writer.add(made)
            if time.perf_counter() - committed > FLUSH_SECONDS:
                writer.flush()
                committed = time.perf_counter()
        wrong = recorder.mismatches.get(made.id, 0)
        if wrong and recorder.target.model.dtype in EXACT:
            advance.say(
                f"prompt {made.id!r}: {wrong} of {len(made.tokens)} tokens differ between narrow and wide passes"
            )
        advance()


def _gather(recorder: Recorder, writer: TraceWriter, group: Group, advance: progress.Advance) -> float:
    """Wait for the other processes and take in what they committed; the seconds that they worked."""
    writer.flush()
    work = 0.0
    for other in range(1, group.size):
        told = json.loads(group.hear(f"written/{other}", meanwhile=lambda: advance(0)))
        recorder.take(told)
        work += told["work"]
    writer.gather()
    return work


def _add_costs_and_texts(recorder: Recorder, pool: Pool, out: Path, *, anew: bool) -> None:
    """What lies beside the arrays; where none of them is new, what is there already stays."""
    trace, target = open_trace(out), recorder.target
    if anew or trace.costs is None:
        with recorder.stage("costs"):
            measure_costs(target, recorder.drafters, pool, _first_text(trace)).save(out / "costs.json")
    if anew or not spelling.kept(trace):
        with recorder.stage("texts"):
            spelling.write(trace, _decode(target), {"name": target.name, "hash": target.tokenizer_hash})


def _first_text(trace: Trace) -> list[int]:
    """Prompt and answer of the first prompt."""
    assert trace.prompt_tokens is not None  # the recorder keeps them
    parts = trace.prompt_tokens[: trace.prompt_lengths[0]], trace.tokens[: trace.lengths[0]]
    return [int(token) for part in parts for token in part]


def _decode(target: Target) -> spelling.Decode:
    """Token ids to text, end-of-text marks included: they are tokens of a round like others."""
    return lambda tokens: str(target.tokenizer.decode(list(tokens)))


def _summary(recorder: Recorder, trace: Trace, done: int, seconds: float, others: float) -> dict[str, Any]:
    """What ``metasd record --json`` reports.

    ``prompts``, ``rows`` and ``bytes`` are of the whole trace; the rest is of this run alone, which found ``resumed``
    prompts there. ``ratio`` is seconds / plain_seconds: what recording everything costs against decoding the same
    text plainly, plain decoding and the timing of costs included; None when nothing was left to record. ``others``:
    seconds of work of the other processes, in the ratio; ``plain_seconds`` and ``stages`` are sums over all.
    """
    assert trace.path is not None
    plain = recorder.seconds.get("plain")
    return {
        "prompts": len(trace),
        "resumed": done,
        "rows": int(trace.offsets[-1]),
        "bytes": sum(file.stat().st_size for file in trace.path.rglob("*") if file.is_file()),
        "tokens": recorder.tokens,
        "plain_seconds": plain,
        "seconds": seconds,
        "ratio": (seconds + others) / plain if plain else None,
        "stages": dict(recorder.seconds),
        "mismatches": sum(recorder.mismatches.values()),
        "mismatched_prompts": dict(recorder.mismatches),
        "packed": dict(recorder.packed),
        "costs_error": trace.costs.error if trace.costs else None,
    }
