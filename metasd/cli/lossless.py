"""What a run says of its own truth: whether texts are plain decoding's, and whether a trace speaks of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from metasd.core import shown
from metasd.core.errors import UsageError

if TYPE_CHECKING:
    from metasd.cli.models import Models
    from metasd.runtime.contenders import Contender, Decoding
    from metasd.runtime.parting import Parting
    from metasd.sim.replay.fidelity import Fidelity
    from metasd.sim.replay.forecast import Forecast
    from metasd.sim.replay.run import Replay
    from metasd.traces import Trace


def to_json(found: Sequence[Parting] | None) -> list[dict[str, Any]] | None:
    """For a document: see ``Parting``. None where nothing was compared."""
    return None if found is None else [asdict(parting) for parting in found]


def warn(found: Sequence[Parting] | None, texts: int, dtype: str) -> None:
    """One line on stderr when some of the ``texts`` are not plain decoding's."""
    if not found:
        return
    counts = Counter(parting.policy for parting in found)
    which = ", ".join(f"{policy} {n} of {texts}" for policy, n in counts.items())
    widest = max((p for p in found if p.margin is not None), key=lambda p: p.margin or 0.0, default=found[0])
    close = "" if widest.margin is None else f", where plain decoding's two best logits were {widest.margin:.2g} apart"
    said = (
        f"metasd: texts differ from plain decoding's in {dtype}: {which}; the clearest at token {widest.position} of "
        f"{widest.id!r}{close} (docs/lossless.md)"
    )
    click.echo(shown.line(said), err=True)


def check_same(models: Models, trace: Trace | None, budget: int, lanes: int = 1) -> None:
    """Raises UsageError unless ``trace``, if any, was recorded of the texts to be decoded, ``lanes`` at once."""
    if trace is None:
        return
    from metasd.runtime.identity import identity_of
    from metasd.sim.replay.identity import check_same_texts

    prompts = [(name, tokens) for name, _, tokens in models.texts]
    check_same_texts(trace, identity_of(models.target), prompts, budget)
    remembering = [d.info.name for d in models.open_drafters()[0] if d.remembers] if lanes > 1 else []
    if remembering:
        raise UsageError(
            f"drafter {remembering[0]} remembers the texts before, which were recorded one after the other; check with "
            "--lanes 1, or leave it out"
        )


def checks(
    models: Models,
    entrants: Sequence[Contender],
    rows: Sequence[Mapping[str, Any]],
    trace: Trace | None,
    *,
    draft_length: int | None,
    how: Decoding,
    prior: Mapping[str, Any] | None,
) -> tuple[Fidelity, list[Forecast]] | None:
    """The last of ``entrants`` against its replay, and what replays promised of everyone's speed; None without a trace.

    rows: of the run, which hold the speeds reached.
    """
    if trace is None:
        return None
    from metasd.core.results import ALL
    from metasd.sim.replay.forecast import forecast

    speeds = {row["policy"]: row["tokens_per_second"] for row in rows if row["domain"] == ALL}
    replays = [replay_of(models, e, trace, draft_length=draft_length, how=how, prior=prior) for e in entrants]
    made = [forecast(replayed, speeds[replayed.policy]) for replayed in replays]
    return check_replayed(entrants[-1], replays[-1], how), made


def checks_to_json(found: tuple[Fidelity, list[Forecast]] | None) -> dict[str, Any]:
    """For a document; None where the run was not checked."""
    if found is None:
        return {"fidelity": None, "forecasts": None}
    return {"fidelity": found[0].to_json(), "forecasts": [f.to_json() for f in found[1]]}


def check_run(
    models: Models,
    entrant: Contender,
    trace: Trace,
    *,
    draft_length: int | None,
    how: Decoding,
    prior: Mapping[str, Any] | None = None,
) -> Fidelity:
    """The finished run of ``entrant`` against its replay, its texts against the recorded ones."""
    replayed = replay_of(models, entrant, trace, draft_length=draft_length, how=how, prior=prior)
    return check_replayed(entrant, replayed, how)


def replay_of(
    models: Models,
    entrant: Contender,
    trace: Trace,
    *,
    draft_length: int | None,
    how: Decoding,
    prior: Mapping[str, Any] | None = None,
) -> Replay:
    """The replay of what ``entrant`` ran, which knows the costs that it knew."""
    from metasd.sim.replay.fidelity import counterpart

    return counterpart(
        [name for name, _, _ in models.texts],
        trace,
        entrant.spec,
        draft_length=draft_length,
        reset=entrant.policy.reset,
        prior=None if entrant.baseline else prior,
        budget=how.max_new_tokens,
        costs=how.costs,
        lanes=how.lanes,
    )


def check_replayed(entrant: Contender, replayed: Replay, how: Decoding) -> Fidelity:
    """The finished run of ``entrant`` against ``replay_of`` it."""
    from metasd.sim.replay.fidelity import against

    texts = entrant.session.texts
    return against(entrant.rounds, replayed, budget=how.max_new_tokens, texts=texts, arms=entrant.pool.names)
