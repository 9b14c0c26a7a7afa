"""The file that ``metasd fit`` writes for the default policy, laid out for a pool.

Knows the pool and JSON, not how the numbers were learned (``metasd.policies.frontier.rollout``). A prior holds, by
drafter, the second moments of its features; by model (a drafter at a draft length) the regression ``theta`` of its
worth in tokens; and token tables: what the last tokens and the proposed token say beyond the signals.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metasd.core.errors import UsageError
from metasd.core.pool import Pool
from metasd.core.records import Bools, Context, Floats, Ints
from metasd.policies.frontier.features import NAMES, W
from metasd.policies.frontier.tokens import TokenTable, speaker_proposal, token_keys

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Prior:
    """A prior laid out for one pool of D drafters and K arms; rows of what it does not know are 0."""

    name: str
    known: Bools  # [D] drafters it speaks of
    moments: Floats  # [D, W, W] mean of x x^T, regularised
    theta: Floats  # [K, W]
    tables: Mapping[str, TokenTable]  # K columns each

    def offsets(self, context: Context, free: Bools) -> Floats | float:
        """[B, K] what the tokens in sight add to each arm's expected yield."""
        if not self.tables or context.tail is None or context.proposal is None or context.signals is None:
            return 0.0
        by_drafter = speaker_proposal(context.signals, context.proposal, free)
        keys = token_keys(context.tail, by_drafter)
        total: Floats = sum((table(keys[name]) for name, table in self.tables.items()), np.zeros(1))
        return total


def lay_out(data: Mapping[str, Any], pool: Pool) -> Prior:
    """The prior in ``data`` for ``pool``.

    Every drafter that the prior names must be in the pool, with the same kind; drafters of the pool that it does not
    name start cold (``Prior.name``, shown in results, lists them). Draft lengths between fitted ones are interpolated.
    Raises UsageError naming what does not fit, or that the file is no prior.
    """
    try:
        _check(data, pool)
        return _lay_out(data, pool)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise UsageError(f"prior is damaged ({type(error).__name__}: {error}); fit it again") from error


def _lay_out(data: Mapping[str, Any], pool: Pool) -> Prior:
    index = {d.name: i for i, d in enumerate(pool.drafters)}
    count, arms = max(len(pool.drafters), 1), len(pool)
    known, moments = np.zeros(count, bool), np.zeros((count, W, W))
    theta, scale = np.zeros((arms, W)), np.zeros((arms, len(data["drafters"])))
    for column, entry in enumerate(data["drafters"]):
        d = index[entry["name"]]
        known[d], moments[d] = True, unpack(entry["moments"])
        own = np.flatnonzero((pool.drafter_of == d) & ~pool.plain)
        share, theta[own] = _models(entry["models"], pool.draft_length[own])
        scale[own, column] = share
    tables = {
        name: TokenTable(np.asarray(t["keys"], np.int64), np.asarray(t["values"], np.float64) @ scale.T)
        for name, t in data.get("tables", {}).items()
    }
    return Prior(_name(data, pool), known, moments, theta, tables)


def _name(data: Mapping[str, Any], pool: Pool) -> str:
    named = [d["name"] for d in data["drafters"]]
    cold = [d.name for d in pool.drafters if d.name not in named]
    return "+".join(named) + (f" (cold: {', '.join(cold)})" if cold else "")


def _models(models: Sequence[Mapping[str, Any]], lengths: Ints) -> tuple[Floats, Floats]:
    """Interpolate to ``lengths``: ([n] share of the longest model's accepted tokens, theta [n, W])."""
    at = np.array([m["draft_length"] for m in models], np.float64)
    mean = np.array([m["accepted"] for m in models])

    def between(rows: Floats) -> Floats:
        columns = [np.interp(lengths, at, column) for column in rows.T]
        return np.array(columns).T

    share = np.interp(lengths, at, mean) / max(float(mean[-1]), 1e-9)
    return share, between(np.array([m["theta"] for m in models]))


def _check(data: Mapping[str, Any], pool: Pool) -> None:
    if data.get("schema") != SCHEMA or data.get("policy") != "frontier":
        found = f"policy {data.get('policy')!r}, schema {data.get('schema')!r}"
        raise UsageError(f"prior of {found}; this is policy frontier, schema {SCHEMA}: fit it again")
    if tuple(data.get("features", ())) != NAMES:
        raise UsageError("prior reads other features than this version of the policy; fit it again")
    kinds = {d.name: d.kind for d in pool.drafters}
    for entry in data["drafters"]:
        name = entry["name"]
        if name not in kinds:
            raise UsageError(
                f"prior is of drafter {name!r}, but the pool has {', '.join(kinds) or 'none'}; fit another"
            )
        if kinds[name] != entry["kind"]:
            raise UsageError(f"prior's drafter {name!r} is a {entry['kind']}, the pool's a {kinds[name]}; fit another")


def pack(matrix: Floats) -> list[float]:
    """The upper triangle of a symmetric [W, W] matrix, row by row, rounded."""
    return [round(float(v), 6) for v in matrix[np.triu_indices(W)]]


def unpack(values: Sequence[float]) -> Floats:
    """The symmetric [W, W] matrix of ``pack``."""
    upper = np.zeros((W, W))
    upper[np.triu_indices(W)] = values
    return upper + np.triu(upper, 1).T
