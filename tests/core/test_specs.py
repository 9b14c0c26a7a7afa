"""``name:key=value,...`` and the errors it gives."""

from __future__ import annotations

import pytest

from metasd.core import specs
from metasd.core.errors import UsageError
from metasd.policies import make
from metasd.policies.ucb import MetaSDUCB


def test_settings_are_typed_by_the_constructor() -> None:
    policy = make("metasd-ucb:beta=0.25,mask=false,reward=tokens")
    assert isinstance(policy, MetaSDUCB)
    assert (policy.beta, policy.mask, policy.reward_name) == (0.25, False, "tokens")


@pytest.mark.parametrize(
    ("spec", "named"),
    [
        ("nope", "'nope'"),
        ("metasd-ucb:gamma=1", "'gamma'"),
        ("metasd-ucb:beta=wide", "'wide'"),
        ("metasd-ucb:beta", "'beta'"),
        (":beta=1", "':beta=1'"),
        ("metasd-ucb:mask=maybe", "'maybe'"),
    ],
)
def test_a_bad_spec_names_the_value_in_one_line(spec: str, named: str) -> None:
    with pytest.raises(UsageError, match=named.replace("(", r"\(")) as caught:
        make(spec)
    assert "\n" not in str(caught.value)


def test_a_missing_setting_is_named() -> None:
    def factory(path: str, n: int = 2) -> tuple[str, int]:
        return path, n

    assert specs.build(factory, "f", {"path": "x", "n": "3"}, "drafter") == ("x", 3)
    with pytest.raises(UsageError, match="needs path"):
        specs.build(factory, "f", {}, "drafter")


def test_a_comma_inside_a_value_is_escaped() -> None:
    assert specs.parse(r"model:path=a:b\,c=d\,,name=x") == ("model", {"path": "a:b,c=d,", "name": "x"})
