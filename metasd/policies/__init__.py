"""Policies: numpy only, one file per family. ``POLICIES`` is the whole registry."""

from __future__ import annotations

import copy

from metasd.core import specs
from metasd.core.errors import UsageError
from metasd.policies import plugins
from metasd.policies.base import IndexPolicy, Policy
from metasd.policies.draft_with_all import DraftWithAll
from metasd.policies.drifting import GLRUCB, DiscountedUCB, SlidingWindowUCB
from metasd.policies.explore import EpsilonGreedy, ExploreThenCommit, SequentialHalving
from metasd.policies.exponential import Exp3, Exp3S, Exp3Spec
from metasd.policies.frontier.policy import Frontier
from metasd.policies.full import FixedShare, HedgeSpec
from metasd.policies.learned import SB3
from metasd.policies.linear import LinUCB
from metasd.policies.planner.policy import Planner
from metasd.policies.ratio import Goodput, RatioUCB
from metasd.policies.rules import Fixed, LookupFirst, Random
from metasd.policies.switching import UCB2, TsallisSwitch
from metasd.policies.thompson import ThompsonBeta, ThompsonGaussian
from metasd.policies.ucb import KLUCB, MOSS, UCB1, UCBV, MetaSDUCB, UCBSpec, UCBTuned

POLICIES: dict[str, type[Policy]] = {
    # the policy that wins; docs/default-policy.md
    "default": Frontier,
    # trees instead of arms; docs/planner.md
    "planner": Planner,
    # rules
    "fixed": Fixed,
    "random": Random,
    "lookup-first": LookupFirst,
    "draft-with-all": DraftWithAll,
    # of this field
    "metasd-ucb": MetaSDUCB,
    "exp3": Exp3,
    "sequential-halving": SequentialHalving,
    "ucbspec": UCBSpec,
    "exp3spec": Exp3Spec,
    "hedgespec": HedgeSpec,
    # stationary
    "ucb1": UCB1,
    "ucb-tuned": UCBTuned,
    "ucb-v": UCBV,
    "kl-ucb": KLUCB,
    "moss": MOSS,
    "thompson-gaussian": ThompsonGaussian,
    "thompson-beta": ThompsonBeta,
    "epsilon-greedy": EpsilonGreedy,
    "explore-then-commit": ExploreThenCommit,
    # non-stationary
    "discounted-ucb": DiscountedUCB,
    "sliding-window-ucb": SlidingWindowUCB,
    "glr-ucb": GLRUCB,
    "exp3s": Exp3S,
    "fixed-share": FixedShare,
    # few switches
    "ucb2": UCB2,
    "tsallis-switch": TsallisSwitch,
    # time-aware
    "ratio-ucb": RatioUCB,
    "goodput": Goodput,
    # contextual
    "linucb": LinUCB,
    # learned
    "sb3": SB3,
}

ALIASES = {"frontier": "default"}
"""Other names that ``make`` and ``metasd fit`` take."""

REGISTERED: set[str] = set()
"""Names that ``register_policy`` added to ``POLICIES``: known to this process only."""

PolicyLike = str | Policy | type[Policy]
"""What functions take as a policy: a spec, an object (which is copied) or a class whose settings all have defaults."""

__all__ = ["ALIASES", "POLICIES", "IndexPolicy", "Policy", "PolicyLike", "label", "make", "register_policy"]


def make(policy: PolicyLike) -> Policy:
    """A new policy of a spec, of a class, or like an object, which stays as it is.

    Specs: ``name:key=value,...``, ``package.module:Class,key=value,...`` and ``file.py:Class,key=value,...``. Names are
    those of ``POLICIES``, then the entry points ``metasd.policies`` of installed packages.
    Raises UsageError for an unknown name, key or value, and for a class that is no policy.
    """
    if isinstance(policy, Policy):
        return copy.deepcopy(policy)
    if not isinstance(policy, str):
        return plugins.build(plugins.checked(policy, str(policy)), label(policy), {})
    cls, name, settings = resolve(policy)
    return plugins.build(cls, name, settings)


def resolve(spec: str) -> tuple[type[Policy], str, dict[str, str]]:
    """Class, name and settings that ``spec`` means. Raises UsageError as ``make`` does."""
    head = spec.partition(":")[0].strip()
    known = ALIASES.get(head, head)
    if known not in POLICIES and (outside := plugins.split(spec)) is not None:
        place, cls, settings = outside
        return plugins.load(place, cls), f"{place}:{cls}", settings
    name, settings = specs.parse(spec)
    name = ALIASES.get(name, name)
    if name in POLICIES:
        return POLICIES[name], name, settings
    offered = plugins.entry_points()
    if name in offered:
        return plugins.from_entry_point(offered[name]), name, settings
    names = ", ".join([*POLICIES, *offered])
    raise UsageError(f"unknown policy {name!r}; choose one of {names}, or name a class: file.py:Class")


def register_policy(name: str, cls: type[Policy]) -> None:
    """Let ``name`` mean ``cls`` in this process: in specs, in ``compare`` without policies, in ``metasd policies``.

    A name that was registered before is given anew, a built-in one is not. Raises UsageError for that, for a name
    that a spec cannot hold, and for a class that is no policy.
    """
    if not name or any(c in name for c in ":,=") or name != name.strip() or name.endswith(".py"):
        raise UsageError(f"policy name {name!r} cannot be written in a spec; leave out ':', ',', '=', spaces and .py")
    if name in ALIASES or (name in POLICIES and name not in REGISTERED):
        raise UsageError(f"policy {name!r} is built in; choose another name")
    POLICIES[name] = plugins.checked(cls, str(cls))
    REGISTERED.add(name)


def label(policy: PolicyLike) -> str:
    """How tables name ``policy``: a spec as it is, else the class with the settings that are not its defaults."""
    if isinstance(policy, str):
        return policy
    if isinstance(policy, type):
        return policy.__name__
    known, own = specs.parameters(type(policy)), vars(policy)
    named = {"reward": own.get("reward_name")}
    values = {k: named.get(k, own.get(k, p.default)) for k, p in known.items()}
    said = [f"{k}={v}" for k, v in values.items() if isinstance(v, bool | int | float | str) and v != known[k].default]
    return f"{type(policy).__name__}{':' if said else ''}{','.join(said)}"
