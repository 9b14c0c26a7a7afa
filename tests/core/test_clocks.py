"""The modelled clocks that ship: they are what their formula says, and are marked as modelled."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from metasd.core import clocks
from metasd.core.costs import CostModel

SCRIPT = Path(__file__).parents[2] / "tools" / "make_clocks.py"


@pytest.mark.parametrize("batch", [1, 32])
def test_a_clock_is_its_formula(batch: int) -> None:
    costs = CostModel.load(clocks.find(Path(f"gpu-b{batch}")))
    nodes, context = np.array([0, 7, 64]), np.array([100, 2000, 500])
    wanted = 7.09e-3 + batch * (21.0e-6 * (nodes + 1) + 39e-9 * context)
    np.testing.assert_allclose(costs.verify(nodes, context), wanted, rtol=1e-12)
    assert costs.widest == 65
    assert "not measured" in costs.measured["modelled"]


def test_the_script_writes_the_shipped_files(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("make_clocks", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    script.main(tmp_path)
    assert sorted(f.name for f in tmp_path.iterdir()) == [f"{name}.json" for name in clocks.shipped()]
    for file in tmp_path.iterdir():
        assert file.read_bytes() == (clocks.CLOCKS / file.name).read_bytes()


def test_a_file_comes_before_a_name_and_an_unknown_name_stays(tmp_path: Path) -> None:
    assert clocks.find(tmp_path) == tmp_path
    assert clocks.find(Path("gpu-b99")) == Path("gpu-b99")
