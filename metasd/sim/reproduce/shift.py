"""Experiment d: text that changes inside a query, reworded prompts, domains nobody trained for, and a router.

The router is the obvious rival of a bandit: a classifier reads the prompt once and names the drafter that was best on
such prompts before. It is trained on half of the trace's prompts and tried on the other half, and on a second trace of
other prompts where there is one: those of two tasks, reworded ones, and those of domains that it has never seen.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import minimize

from metasd.core.errors import UsageError
from metasd.core.records import Bools, Floats, Ints
from metasd.core.results import ALL
from metasd.sim.compare.matrix import Matrix
from metasd.sim.oracle.rounds import best_fixed
from metasd.sim.reproduce.finding import Claim, Outcome, Setting, found, over, rounds
from metasd.traces.select import take_prompts
from metasd.traces.trace import Trace

UCB = "metasd-ucb"
SPECS = (UCB, "default:objective=rounds")
FEATURES = 2048
"""Hashed counts of tokens and pairs of tokens that stand for a prompt."""
DECAY = 1e-3
"""Weight of the squared coefficients in the router's loss, a mean over prompts."""
BETWEEN = "-then-"
"""What stands between the two domains of a prompt of two tasks."""
CLEAN, TWO, REWORDED, UNSEEN = "held out", "two tasks", "reworded", "untrained domain"


class Router:
    """Multinomial logistic regression from a prompt's tokens to its domain.

    Args:
        prompts: token ids of each prompt. labels: the domain of each.
    """

    def __init__(self, prompts: list[Ints], labels: list[str]) -> None:
        self.domains = sorted(set(labels))
        x, y = np.stack([embedded(p) for p in prompts]), np.array([self.domains.index(d) for d in labels])
        shape = (FEATURES + 1, len(self.domains))
        wanted = np.eye(len(self.domains))[y]

        def loss(flat: Floats) -> tuple[float, Floats]:
            weights = flat.reshape(shape)
            scores = x @ weights
            scores -= scores.max(axis=1, keepdims=True)
            chances = np.exp(scores)
            chances /= chances.sum(axis=1, keepdims=True)
            own = np.log(np.maximum(chances[np.arange(len(y)), y], 1e-300)).mean()
            slope = x.T @ (chances - wanted) / len(y) + 2 * DECAY * weights
            return float(DECAY * (weights**2).sum() - own), slope.ravel()

        self._weights: Floats = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B").x.reshape(shape)

    def __call__(self, prompt: Ints) -> str:
        """The domain of ``prompt``."""
        return self.domains[int((embedded(prompt) @ self._weights).argmax())]


def embedded(prompt: Ints) -> Floats:
    """[FEATURES + 1] log counts of tokens and neighbouring pairs, hashed, of length 1; then a constant."""
    tokens = np.asarray(prompt, np.int64)
    pairs = (tokens[:-1] * 1_000_003 + tokens[1:]) % (2**31 - 1)
    counts = np.bincount(np.concatenate([tokens, pairs]) % FEATURES, minlength=FEATURES)
    logs = np.log1p(counts)
    return np.append(logs / max(float(np.linalg.norm(logs)), 1e-12), 1.0)


def run(setting: Setting) -> Outcome:
    """The router, the best drafters known in hindsight and the policies, by kind of prompt.

    Every kind is played alone: a policy that keeps what it learned begins each of them knowing nothing.
    """
    outcome, trace = Outcome(), setting.trace
    learns, held = _halves(trace)
    if trace.prompt_tokens is None or len(set(np.asarray(trace.domains, object)[learns])) < 2:
        outcome.lacks = "the router needs prompts' tokens, and two domains with two prompts each"
        return outcome
    router, best = _trained(take_prompts(trace, learns))
    parts = {CLEAN: take_prompts(trace, held)}
    if setting.shifted is not None:
        check(trace, setting.shifted)
        parts |= kinds(setting.shifted, router.domains)
    for kind, of in parts.items():
        _tell(outcome, kind, replace(setting, trace=of), router, best)
    return outcome


def check(trace: Trace, shifted: Trace) -> None:
    """Raises UsageError where ``shifted`` cannot stand beside ``trace``: another pool, or no prompts' tokens."""
    if shifted.pool().to_json() != trace.pool().to_json():
        raise UsageError(f"trace {shifted.name} has another pool than {trace.name}; record both with the same drafters")
    for each in (trace, shifted):
        if each.prompt_tokens is None:
            raise UsageError(
                f"trace {each.name} does not keep its prompts' tokens, which a router reads; record it again"
            )


def prompts_of(trace: Trace) -> list[Ints]:
    """Token ids of each prompt of a trace that keeps them."""
    assert trace.prompt_tokens is not None
    return [np.asarray(p, np.int64) for p in np.split(trace.prompt_tokens, np.cumsum(trace.prompt_lengths)[:-1])]


def _halves(trace: Trace) -> tuple[Bools, Bools]:
    """[P] every other prompt of each domain, and the others; a domain of one prompt is in neither."""
    domains, nth = np.asarray(trace.domains, object), np.zeros(len(trace), np.int64)
    count = np.zeros(len(trace), np.int64)
    for domain in set(trace.domains):
        at = np.flatnonzero(domains == domain)
        nth[at], count[at] = np.arange(len(at)), len(at)
    return (count > 1) & (nth % 2 == 0), (count > 1) & (nth % 2 == 1)


def _trained(trace: Trace) -> tuple[Router, dict[str, int]]:
    """A router of the prompts of ``trace``, and the drafting arm that was best on each domain of them."""
    matrix = Matrix(trace)
    drafting = np.flatnonzero(~matrix.pool.plain)
    _, arm = best_fixed(matrix.rounds[:, drafting], trace.domains)
    return Router(prompts_of(trace), list(trace.domains)), dict(zip(trace.domains, drafting[arm].tolist(), strict=True))


def kinds(shifted: Trace, known: list[str]) -> dict[str, Trace]:
    """The prompts of a second trace by their kind."""
    which = np.array([REWORDED if d in known else TWO if BETWEEN in d else UNSEEN for d in shifted.domains], object)
    return {k: take_prompts(shifted, which == k) for k in (TWO, REWORDED, UNSEEN) if (which == k).any()}


CLAIMS = {
    CLEAN: Claim("not recovered"),
    TWO: Claim("not stated for a classifier"),
    REWORDED: Claim("classifier routing is less robust; by how much is not recovered", "M"),
    UNSEEN: Claim("classifier routing is less robust; by how much is not recovered", "M"),
}


def _tell(outcome: Outcome, kind: str, setting: Setting, router: Router, best: dict[str, int]) -> None:
    """One row of the table and the findings of the prompts of ``setting``."""
    trace, matrix = setting.trace, Matrix(setting.trace)
    told = [router(p) for p in prompts_of(trace)]
    routed = matrix.rounds[np.arange(len(trace)), [best[d] for d in told]]
    arms = matrix.rounds[:, ~matrix.pool.plain]
    single, ideal = best_fixed(arms, [ALL] * len(trace))[0], best_fixed(arms)[0]
    took = {spec: rounds(setting.play(spec)) for spec in SPECS}
    row: dict[str, Any] = {"prompts": kind, "n": len(trace), "router right": None}
    if kind in (CLEAN, REWORDED):
        row["router right"] = float(np.mean([t == d for t, d in zip(told, trace.domains, strict=True)]))
    named = {"router": routed, "best single drafter": single, "best drafter of each prompt": ideal} | took
    emitted = trace.lengths.astype(np.float64)
    row |= {f"{name}, tokens per round": over(emitted, each).value for name, each in named.items()}
    outcome.tables.setdefault("Tokens per round by kind of prompt", []).append(row)
    outcome.findings.append(found(f"UCB over the router, {kind}", over(routed, took[UCB]), CLAIMS[kind]))
    if kind == TWO:
        ahead = Claim("1.72 against 1.58 times plain: 1.09", "M", low=1)
        outcome.findings.append(
            found("UCB over the best drafter of each prompt, two tasks", over(ideal, took[UCB]), ahead)
        )
        what = "default (rounds, cold) over the best drafter of each prompt, two tasks"
        outcome.findings.append(found(what, over(ideal, took[SPECS[1]]), Claim("not in the paper")))
    ours = over(routed, took[SPECS[1]])
    outcome.findings.append(found(f"default (rounds, cold) over the router, {kind}", ours, Claim("not in the paper")))
