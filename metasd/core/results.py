"""The result schema: one row a (policy, domain), the same keys for ``run``, ``replay`` and ``compare``.

A key whose value is unknown is None, never absent.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from metasd.core.ledger import Ledger, Totals
from metasd.core.records import Ints

SCHEMA = 1
ALL = "all"  # the domain of a total
BEST_FIXED = "best fixed arm"  # of a whole trace, in hindsight: what differences are taken to by default
OPTIMUM = "clairvoyant optimum"
SIGNIFICANT = 0.05  # what is told from chance, after correction for the number of comparisons
STARTS = ("first_token_seconds", "prefill_tokens_per_second", "begin_seconds")
"""Mean seconds from a prompt to its first tokens, prompt tokens a second of the target's reading, and mean seconds that
the drafters took to take in a prompt."""
_PACKAGES = ("metasd", "numpy", "gymnasium", "torch", "transformers")


def versions() -> dict[str, str | None]:
    """Versions of what a result depends on; None for a package that is not installed. Imports none of them."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def document(
    command: str, config: Mapping[str, Any], results: Sequence[Mapping[str, Any]], **more: Any
) -> dict[str, Any]:
    """The one JSON document a command prints."""
    head = {"schema": SCHEMA, "command": command, "versions": versions(), "config": dict(config)}
    return head | {"results": list(results)} | more


def row(
    totals: Totals,
    *,
    policy: str,
    reset: str,
    domain: str,
    speedup: float | None = None,
    regret_rounds: float | None = None,
    oracle_rounds: float | None = None,
    same_text: int | None = None,
    starts: Mapping[str, float | None] | None = None,
) -> dict[str, Any]:
    """One result row.

    regret_rounds: hindsight regret, rounds minus those of the best fixed arm of each prompt in hindsight, summed over
        prompts; also under the name ``hindsight_regret_rounds``.
    checked: nodes in the target's passes; those of chains are all ``drafted``. sources: accepted tokens by drafter.
    oracle_rounds: rounds of the clairvoyant optimum on the same prompts, so oracle_rounds / rounds is the
        fraction of it that was reached.
    same_text: how many of the ``prompts`` texts are plain decoding's, token for token.
    speedup: tokens_per_second over that of plain decoding of the same texts, in the same run or on the same clock, the
        median over ``repeats``; speedup_low and speedup_high are the least and the most of them.
    starts: the values of STARTS of a live run, which no round and no other second covers.
    """
    names = ("prompts", "rounds", "drafted", "accepted", "emitted", "seconds", "tokens_per_second", "tokens_per_round")
    values = {name: getattr(totals, name) for name in names}
    values |= {name: getattr(totals, name) for name in ("draft_seconds", "verify_seconds", "catch_up_seconds")}
    values |= {"acceptance": totals.acceptance, "speedup": speedup}
    values |= {"switches": totals.switches, "catch_up": totals.catch_up, "arms": totals.arms}
    values |= {"checked": totals.checked, "sources": totals.sources}
    head = {"policy": policy, "reset": reset, "domain": domain}
    values |= {"regret_rounds": regret_rounds, "hindsight_regret_rounds": regret_rounds, "oracle_rounds": oracle_rounds}
    values |= {"same_text": same_text}
    spread = {"repeats": 1, "speedup_low": speedup, "speedup_high": speedup}
    return head | values | dict.fromkeys(STARTS) | dict(starts or {}) | spread


def by_domain(
    ledger: Ledger,
    domains: Sequence[str],
    make_row: Callable[[Totals, Ints, str], dict[str, Any]],
    seeds: int = 1,
) -> list[dict[str, Any]]:
    """Rows for every domain, in order of appearance, and the total last.

    domains: [E] domain of each of the ledger's texts. ``make_row(totals, rows, domain)`` builds a row from the
    totals of the texts ``rows``; sums are divided by ``seeds`` repetitions.
    """
    labels = np.asarray(domains, object)  # as text numpy drops NULs at the end
    everything = np.arange(len(labels))
    groups = [(name, np.flatnonzero(labels == name)) for name in dict.fromkeys(domains)]
    return [make_row(ledger.totals(rows, seeds), rows, name) for name, rows in [*groups, (ALL, everything)]]
