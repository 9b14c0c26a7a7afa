"""A trace as a Parquet table: every array comes back, memory does not grow with the trace, and errors are one line."""

from __future__ import annotations

import json
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from metasd.cli import main
from metasd.core.signals import SIGNALS
from metasd.traces import Trace, export, open_trace, synthetic

parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")


@pytest.mark.parametrize(("rows", "groups"), [(1, 11), (60, 7), (export.ROWS, 1)])
def test_every_array_comes_back(
    source: Trace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int, groups: int
) -> None:
    monkeypatch.setattr(export, "ROWS", rows)
    assert export.to_parquet(source, tmp_path / "t.parquet") == source.proposed.size
    table = parquet.read_table(tmp_path / "t.parquet")
    N, D = source.proposed.shape
    G = source.depth

    def column(name: str) -> np.ndarray:
        return np.array(table[name].to_pylist())

    for name in ("proposed", "accepted"):
        np.testing.assert_array_equal(column(name).reshape(N, D), getattr(source, name))
    for name in ("accept", "overlap", "confidence", "draft_tokens"):
        np.testing.assert_array_equal(column(name).reshape(N, D, G), getattr(source, name))
    for f, name in enumerate(SIGNALS):
        np.testing.assert_array_equal(column(f"signal_{name}").reshape(N, D), source.signals[..., f])
    np.testing.assert_array_equal(column("token"), np.repeat(source.tokens, D))
    np.testing.assert_array_equal(column("margin"), np.repeat(source.margin, D))
    positions = np.concatenate([np.arange(n) for n in source.lengths])
    np.testing.assert_array_equal(column("position"), np.repeat(positions, D))
    of = np.repeat(np.arange(len(source)), source.lengths * D)
    assert column("prompt").tolist() == [source.ids[p] for p in of]
    assert column("domain").tolist() == [source.domains[p] for p in of]
    assert column("ended").tolist() == [bool(source.ended[p]) for p in of]
    assert column("drafter").tolist() == [d.name for d in source.drafters] * N
    assert json.loads(table.schema.metadata[b"metasd.manifest"])["config"]["law"]["kind"] == "iid"
    assert parquet.ParquetFile(tmp_path / "t.parquet").num_row_groups == groups


def test_what_was_not_recorded_has_no_column(tmp_path: Path) -> None:
    trace = synthetic("iid", prompts=2, length=9, arms=2, overlap=False)
    export.to_parquet(trace, tmp_path / "t.parquet")
    names = parquet.read_schema(tmp_path / "t.parquet").names
    assert names == ["prompt", "domain", "ended", "position", "token", "drafter", "proposed", "accepted"]


def test_memory_is_that_of_a_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(export, "ROWS", 1000)
    peaks = []
    for prompts in (40, 40, 400):  # what is imported at the first export does not count
        trace = synthetic("iid", prompts=prompts, length=50, arms=4, overlap=False)
        tracemalloc.start()
        export.to_parquet(trace, tmp_path / f"{prompts}.parquet")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 2 * peaks[1]


def test_the_command_writes_where_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["trace", "export", "synthetic:kind=iid,prompts=2,length=9", "--to", "parquet"]) == 0
    assert main(["trace", "export", "reference", "--to", "parquet", "--out", "here/r.parquet"]) == 0
    made = open_trace("reference")
    assert parquet.read_metadata(tmp_path / "here/r.parquet").num_rows == made.proposed.size
    assert parquet.read_metadata(tmp_path / "synthetic-iid.parquet").num_rows == 2 * 9 * 5
    assert capsys.readouterr().out.splitlines()[-1] == f"here/r.parquet: {made.proposed.size} rows"


def test_without_pyarrow_it_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert main(["trace", "export", "reference", "--to", "parquet", "--out", str(tmp_path / "x.parquet")]) == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1
    assert "pip install 'metasd[parquet]'" in said[0]
    assert not list(tmp_path.iterdir())
