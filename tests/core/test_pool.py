"""Arms, their names and what is refused."""

from __future__ import annotations

import pytest

from metasd.core.errors import UsageError
from metasd.core.pool import DrafterInfo, Pool

A, B = DrafterInfo("a", "lookup", True, True), DrafterInfo("b", "model", False, False, {"path": "x"})


def test_names_and_lookup_by_name() -> None:
    pool = Pool([A, B], [(0, 8), (1, 3), (1, 5), (-1, 0)])
    assert pool.names == ["a@8", "b@3", "b@5", "plain"]
    assert (pool.index("a"), pool.index("b@5"), pool.index("plain")) == (0, 2, 3)
    assert pool.max_draft_length == 8
    assert pool.plain.tolist() == [False, False, False, True]
    with pytest.raises(UsageError, match="several arms"):
        pool.index("b")
    with pytest.raises(UsageError, match="'c' is not in the pool"):
        pool.index("c")


@pytest.mark.parametrize(
    ("drafters", "arms", "said"),
    [
        ([A], [], "no arms"),
        ([A, A], [(0, 1)], "share a name"),
        ([A], [(0, 3), (0, 3)], "same arm twice"),
        ([A], [(0, -1)], "draft length -1"),
        ([A], [(3, 1)], "names drafter 3"),
    ],
)
def test_what_is_refused(drafters: list[DrafterInfo], arms: list[tuple[int, int]], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Pool(drafters, arms)


def test_json_round_trip() -> None:
    pool = Pool([A, B], [(0, 8), (1, 3), (-1, 0)])
    again = Pool.from_json(pool.to_json())
    assert again.to_json() == pool.to_json()
    assert again.names == pool.names
