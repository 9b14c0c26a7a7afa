"""Who takes part in a live benchmark: others' generators, plain decoding, fixed arms, policies. Loads no model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from metasd.core import specs
from metasd.core.errors import UsageError
from metasd.core.pool import Pool
from metasd.policies import make

GENERATE, PLAIN, AGAIN = "generate", "plain", "plain again"
"""The yardstick, plain decoding through the engine, and the same once more: what their difference is, is noise."""
LOOKUPS = (3, 10)
"""Tokens of transformers' prompt lookup: a short draft, and the length its documentation shows."""
POLICIES = ("lookup-first", "default", "planner")
OTHERS = {"flashspec": "flashspec", "vllm-ngram": "vllm"}
"""Contenders of other packages, by the package that must be there."""


@dataclass(frozen=True, slots=True)
class Job:
    """One contender.

    kind: generate, prompt-lookup, assisted, plain, arm, policy, flashspec or vllm-ngram. spec: the arm, the policy or
    the path of the drafter. length: tokens of a draft, where the contender takes one.
    """

    name: str
    kind: str
    spec: str = ""
    length: int = 0

    @property
    def ours(self) -> bool:
        """Whether it decodes through the engine."""
        return self.kind in ("plain", "arm", "policy")


@dataclass(frozen=True, slots=True)
class Field:
    """Who takes part, in the order of tables, and who does not: (name, why)."""

    jobs: tuple[Job, ...]
    skipped: tuple[tuple[str, str], ...]


def field(pool: Pool, drafters: Sequence[str], policies: Sequence[str], only: Sequence[str]) -> Field:
    """The contenders for ``pool``, that of the SPECs ``drafters``, with ``policies`` beside the usual ones.

    only: names of those that are wanted, all where it is empty. Raises UsageError for a policy that cannot choose among
    the arms of ``pool``, and for a name in ``only`` that nobody has.
    """
    assisted = _assisted(drafters)
    jobs = [Job(GENERATE, GENERATE), *(Job(f"prompt-lookup@{n}", "prompt-lookup", length=n) for n in LOOKUPS)]
    jobs += [Job(f"assisted:{spec}", "assisted", spec) for spec in assisted]
    jobs += [Job(PLAIN, "plain"), Job(AGAIN, "plain")]
    jobs += [Job(arm.name, "arm", arm.name) for arm in pool.arms if arm.drafter >= 0]
    skipped = [] if assisted else [("assisted generation", "needs a drafter model:path=...")]
    for spec in dict.fromkeys([*POLICIES, *policies]):
        why = _against(spec, pool)
        if why is None:
            jobs.append(Job(spec, "policy", spec))
        elif spec in policies:
            raise UsageError(why)
        else:
            skipped.append((spec, why))
    for name, package in OTHERS.items():
        if find_spec(package) is None:
            skipped.append((name, f"package {package} is not installed"))
        else:
            jobs.append(Job(name, name, assisted[0] if assisted else "", max(LOOKUPS)))
    return _only(Field(tuple(jobs), tuple(skipped)), only)


def _only(found: Field, only: Sequence[str]) -> Field:
    if not only:
        return found
    known = [job.name for job in found.jobs]
    for name in only:
        if name not in known:
            why = dict(found.skipped).get(name)
            raise UsageError(f"no contender {name!r} here{f': {why}' if why else ''}; choose of {', '.join(known)}")
    return Field(tuple(job for job in found.jobs if job.name in only), ())


def _assisted(drafters: Sequence[str]) -> list[str]:
    """Paths of the model drafters: what transformers' assisted generation takes."""
    parsed = [specs.parse(spec) for spec in drafters if not spec.startswith((".", "/", "~"))]
    return list(dict.fromkeys(keys["path"] for name, keys in parsed if name == "model" and "path" in keys))


def _against(spec: str, pool: Pool) -> str | None:
    """Why a policy cannot play on ``pool``. Raises UsageError for one that does not exist."""
    policy: Any = make(spec)
    if not pool.drafters:
        return "there is nothing to choose: no drafter takes part"
    try:
        policy.bind(pool, 1)
    except UsageError as error:
        return str(error)
    return None
