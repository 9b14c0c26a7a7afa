"""The default pool: six draft lengths a drafter where nobody says otherwise, and who decodes beside it."""

from __future__ import annotations

from functools import partial

from metasd.core.pool import DrafterInfo, Pool
from metasd.policies import make
from metasd.runtime.contenders import contenders
from metasd.runtime.load import Target
from metasd.runtime.registry import build_drafters, preview

SIX = [1, 2, 3, 4, 6, 8]


def lengths(pool: Pool) -> dict[str, list[int]]:
    drafting = [a for a in pool.arms if a.drafter >= 0]
    names = dict.fromkeys(pool.drafters[a.drafter].name for a in drafting)
    return {n: [a.draft_length for a in drafting if pool.drafters[a.drafter].name == n] for n in names}


def test_drafters_nobody_named_have_six_lengths() -> None:
    assert lengths(preview((), "smollm2")) == dict.fromkeys(("lookup", "table-code", "table-math", "table-chat"), SIX)
    assert lengths(preview((), "another")) == dict.fromkeys(("lookup", "table"), SIX)
    assert lengths(preview((), "another", draft_length=5)) == {"lookup": [5], "table": [5]}
    assert lengths(preview(("lookup", "table:draft_length=1+7"), "another")) == {"lookup": [3], "table": [1, 7]}
    assert preview((), "smollm2").plain.tolist() == [False] * 24 + [True]


def test_the_rule_takes_the_usual_length() -> None:
    infos = [DrafterInfo(name, "lookup", True, True) for name in ("lookup", "other")]
    for given, chosen in ((SIX, (2, 8)), ([1, 8], (0, 2)), ([8], (0, 1))):
        policy = make("lookup-first")
        policy.bind(Pool(infos, [(d, n) for d in (0, 1) for n in given] + [(-1, 0)]), 1)
        assert (policy._lookup, policy._otherwise) == chosen
    policy.bind(Pool(infos[:1], [(0, 3), (0, 8), (-1, 0)]), 1)
    assert (policy._lookup, policy._otherwise) == (0, 2)


def test_a_baseline_may_be_of_one_length(tiny_target: Target) -> None:
    build = partial(build_drafters, (), tiny_target)
    few = contenders(["random"], build, baseline=True, prior=None, length=3)
    assert [e.spec for e in few] == ["fixed:arm=plain", "fixed:arm=lookup@3", "fixed:arm=table@3", "random"]
    assert len(contenders(["random"], build, baseline=True, prior=None)) == 2 + 12
    assert len(few[-1].pool) == 13
