"""Training one specialist: epochs over its samples, judged on held-out answers, stopped early, resumable after a kill.

Which samples a step sees follows from the seed and the step's number alone, so a run that goes on from a checkpoint
does what the run that was killed would have done.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil, cos, pi
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, nn

from metasd.core import files, jsontext
from metasd.core.errors import UsageError
from metasd.core.records import Ints
from metasd.distill.states import Sample

CHECKPOINT_SECONDS = 60.0
"""A checkpoint is written at least this often, and behind every epoch."""
WARM, LEAST, CLIP, BETAS, DECAYED = 0.05, 0.05, 1.0, (0.9, 0.95), 0.01


@dataclass(frozen=True, slots=True)
class Training:
    """How heads are trained. Raises UsageError for numbers that cannot work.

    draft_vocabulary: tokens a head can draft. unroll: steps on its own features, and the depth that acceptance is
    judged at. epochs: over the samples; the first half read the target's states alone. rate: of AdamW, warmed up, then
    a cosine. patience: epochs without a better held-out loss, behind the first half, until it stops. entries: tokens
    of a step. held_out: every how manyth answer is kept for judging.
    """

    draft_vocabulary: int = 8192
    unroll: int = 3
    epochs: int = 6
    rate: float = 1e-3
    patience: int = 2
    entries: int = 512
    held_out: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        for key in ("draft_vocabulary", "unroll", "epochs", "patience", "entries"):
            if getattr(self, key) < 1:
                raise UsageError(f"{key} {getattr(self, key)} is too small; need at least 1")
        if self.held_out < 2 or not 0 < self.rate < 1:
            raise UsageError(f"held_out {self.held_out} or rate {self.rate} is out of range; use 2 or more, 0 to 1")


@dataclass(frozen=True, slots=True)
class Judged:
    """A head on answers it was not trained on: loss; share of starts whose draft stands as far as each depth; tokens a
    round of the target gives when every round drafts ``unroll`` tokens."""

    loss: float
    stands: list[float]
    tokens_per_round: float

    def to_json(self) -> dict[str, Any]:
        return {
            "loss": round(self.loss, 4),
            "stands": [round(s, 4) for s in self.stands],
            "tokens_per_round": round(self.tokens_per_round, 4),
        }


def split(items: Sequence[Any], every: int) -> tuple[list[Any], list[Any]]:
    """(to train on, held out): every ``every``-th item is held out, of few the last; a single one is trained on."""
    if len(items) < 2:
        return list(items), []
    held = [i for i in range(len(items)) if i % every == every - 1] or [len(items) - 1]
    return [x for i, x in enumerate(items) if i not in held], [items[i] for i in held]


class Learner(Protocol):
    """What is trained: a module on its device, its loss on samples, and how it is judged."""

    @property
    def module(self) -> nn.Module: ...

    def loss(self, samples: Sequence[Sample], steps: int) -> Tensor:
        """Mean loss over the starts of ``samples``, drafting ``steps`` tokens on its own."""
        ...

    def accepted(self, samples: Sequence[Sample], steps: int) -> tuple[float, list[Ints]]:
        """The same loss; of each sample, start by start, the leading tokens of a greedy draft that are the text's."""
        ...


@torch.no_grad()
def judge(learner: Learner, samples: Sequence[Sample], how: Training) -> Judged:
    """``learner`` on ``samples``, which are not none."""
    losses, lengths, rounds = list[tuple[float, int]](), list[Ints](), 0
    for group in _groups(samples, range(len(samples)), how.entries):
        loss, found = learner.accepted([samples[i] for i in group], how.unroll)
        losses.append((loss, sum(map(len, found))))
        lengths += found
        rounds += sum(_rounds(own) for own in found)
    every = np.concatenate(lengths)
    stands = [float((every > depth).mean()) for depth in range(how.unroll)]
    loss = sum(value * n for value, n in losses) / len(every)
    return Judged(loss, stands, len(every) / max(rounds, 1))


def _rounds(lengths: Ints) -> int:
    """Rounds of a text whose drafts are accepted that far, start by start."""
    at, rounds = 0, 0
    while at < len(lengths):
        at, rounds = at + int(lengths[at]) + 1, rounds + 1
    return rounds


def train(
    learner: Learner,
    samples: Sequence[Sample],
    held: Sequence[Sample],
    how: Training,
    work: Path,
    say: Callable[[str], None],
    name: str,
) -> Judged:
    """Train ``learner`` in place, as ``how`` says, and leave it as it was best on ``held``.

    work: checkpoint; where it holds one of the same samples, training goes on from there. ``say`` gets a line an epoch.
    """
    held = held or samples
    run = _Run(learner, samples, how, work)
    run.resume()
    spoke = time.perf_counter()
    while run.step < len(run.plan) and not run.stopped:
        run.forward()
        if run.step in run.ends:
            epoch = run.ends.index(run.step) + 1
            found = judge(learner, held, how)
            run.note(found, epoch)
            stands = " ".join(f"{s:.2f}" for s in found.stands)
            say(
                f"{name}: epoch {epoch}/{how.epochs}, loss {run.mean:.3f}, held out {found.loss:.3f}, stand {stands}, "
                f"{found.tokens_per_round:.2f} tokens a round"
            )
            run.losses = []
        if run.step in run.ends or time.perf_counter() - spoke > CHECKPOINT_SECONDS:
            run.save()
            spoke = time.perf_counter()
    run.restore_best()
    return judge(learner, held, how)


class _Run:
    """The state of one training: parameters, optimiser, the plan of steps and how far it is."""

    def __init__(self, learner: Learner, samples: Sequence[Sample], how: Training, work: Path) -> None:
        self.learner, self.samples, self.how, self.work = learner, samples, how, work
        self.parameters = {n: p for n, p in learner.module.named_parameters() if p.requires_grad}
        self.optimiser = torch.optim.AdamW(
            self.parameters.values(), lr=how.rate, betas=BETAS, weight_decay=DECAYED, foreach=False
        )
        self.plan: list[tuple[list[int], int]] = []
        self.ends: list[int] = []
        for epoch in range(how.epochs):
            order = np.random.default_rng((how.seed, epoch)).permutation(len(samples)).tolist()
            steps = 1 if epoch < ceil(how.epochs / 2) and how.epochs > 1 else how.unroll
            self.plan += [(group, steps) for group in _groups(samples, order, how.entries)]
            self.ends.append(len(self.plan))
        self.step, self.bad, self.stopped = 0, 0, False
        self.best, self.losses = float("inf"), list[float]()
        self.kept: dict[str, Tensor] = {}

    @property
    def mean(self) -> float:
        return sum(self.losses) / max(len(self.losses), 1)

    def forward(self) -> None:
        """One step of the optimiser."""
        group, steps = self.plan[self.step]
        share, warm = self.step / len(self.plan), WARM * len(self.plan)
        bend = LEAST + (1 - LEAST) * 0.5 * (1 + cos(pi * share))
        for settings in self.optimiser.param_groups:
            settings["lr"] = self.how.rate * bend * min(1.0, (self.step + 1) / max(warm, 1))
        loss = self.learner.loss([self.samples[i] for i in group], steps)
        if loss.requires_grad:
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(self.parameters.values(), CLIP)
            self.optimiser.step()
        self.losses.append(float(loss.detach()))
        self.step += 1

    def note(self, found: Judged, epoch: int) -> None:
        """Keep the parameters where they are the best so far; stop behind too many epochs without."""
        if found.loss < self.best:
            self.best, self.bad = found.loss, 0
            self.kept = {n: p.detach().clone() for n, p in self.parameters.items()}
        elif epoch > ceil(self.how.epochs / 2):
            self.bad += 1
            self.stopped = self.bad >= self.how.patience

    def restore_best(self) -> None:
        with torch.no_grad():
            for name, value in self.kept.items():
                self.parameters[name].copy_(value)

    def save(self) -> None:
        """Write the checkpoint; the one before stands until it is whole."""
        tensors = {f"now.{n}": p.detach() for n, p in self.parameters.items()}
        tensors |= {f"best.{n}": p for n, p in self.kept.items()}
        for name, parameter in self.parameters.items():
            state = self.optimiser.state.get(parameter, {})
            tensors |= {f"{key}.{name}": value for key, value in state.items()}
        about = {"step": self.step, "best": self.best, "bad": self.bad, "stopped": self.stopped, "losses": self.losses}
        known = {"of": self._of(), "state": jsontext.dumps(about)}
        files.write_bytes(self.work, save({n: t.cpu().contiguous() for n, t in tensors.items()}, metadata=known))

    def resume(self) -> None:
        """Go on from the checkpoint, if there is one of this very training."""
        try:
            with safe_open(self.work, "pt") as file:
                known = file.metadata() or {}
                if known.get("of") != self._of():
                    return
                about = jsontext.loads(known["state"])
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except Exception:
            return
        with torch.no_grad():
            for name, parameter in self.parameters.items():
                parameter.copy_(found[f"now.{name}"])
                state = {k: found[f"{k}.{name}"] for k in ("exp_avg", "exp_avg_sq") if f"{k}.{name}" in found}
                if state:
                    there = {k: value.to(parameter.device) for k, value in state.items()}
                    self.optimiser.state[parameter] = {**there, "step": found[f"step.{name}"]}
        self.kept = {n: found[f"best.{n}"] for n in self.parameters if f"best.{n}" in found}
        self.step, self.bad, self.stopped = int(about["step"]), int(about["bad"]), bool(about["stopped"])
        self.best = float("inf") if about["best"] is None else float(about["best"])
        self.losses = [float(x) for x in about["losses"]]

    def _of(self) -> str:
        """What tells this training from another: its settings and how much there is to learn from."""
        return jsontext.dumps([repr(self.how), [len(s.tokens) for s in self.samples]])


def _groups(samples: Sequence[Sample], order: Sequence[int], entries: int) -> list[list[int]]:
    """``order`` in runs of at most ``entries`` tokens, or one sample."""
    groups: list[list[int]] = []
    room = 0
    for i in order:
        n = len(samples[i].states)
        if not groups or n > room:
            groups.append([])
            room = entries
        groups[-1].append(i)
        room -= n
    return groups
