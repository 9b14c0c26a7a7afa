"""``metasd pool show``: what a pool holds, and the domains x drafters matrix, from a trace worked out on paper."""

from __future__ import annotations

import hashlib
import json
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hand_trace import hand_trace

from metasd.cli import main
from metasd.core import builtin
from metasd.core.pool import DrafterInfo
from metasd.core.prompts import prompts_hash
from metasd.sim.compare.matrix import Matrix, token_costs
from metasd.traces import take_prompts
from metasd.traces.save import save_trace


def pool_folder(folder: Path, **more) -> Path:
    """A pool of a table for code, a head for chat and a table for all, as distill writes them."""
    folder.mkdir()
    for name in ("code.safetensors", "all.safetensors"):
        (folder / name).write_bytes(name.encode())
    row = {"bytes": 2_000_000, "answers": 3, "tokens": 1234}
    tables = [{"domain": d, "file": f"{d}.safetensors", **row} for d in ("code", "all")]
    manifest = {
        "schema": 1,
        "config": {"target": "tiny", "prompts": prompts_hash(builtin.load("train"))},
        "complete": True,
        "answers": [{"domain": "code", "file": "answers/code.safetensors"}],
        "tables": tables,
        "heads": [{"domain": "chat", "file": "head-chat", "bytes": 5, "answers": 1, "tokens": 9, "epochs": 3}],
        "notes": ["no specialist"],
    }
    (folder / "manifest.json").write_text(json.dumps(manifest | more))
    return folder


def trace_folder(folder: Path, hashed: str = "code.safetensors") -> Path:
    """The trace by hand, ``copy`` being the pool's table for code and ``small`` its head for chat."""
    trace = hand_trace()
    copy = DrafterInfo(
        "copy", "table", free=True, deterministic=True, settings={"sha256": hashlib.sha256(hashed.encode()).hexdigest()}
    )
    small = DrafterInfo("small", "head", free=False, deterministic=False, settings={"path": "/else/where/head-chat"})
    made = replace(trace, drafters=(copy, small), manifest={k: v for k, v in trace.manifest.items() if k != "pool"})
    save_trace(made, folder)
    return folder


def test_the_matrix_by_hand():
    trace = hand_trace()
    matrix = Matrix(trace)
    rates = {(c["domain"], c["arm"]): c["tokens_per_round"] for c in matrix.cells()}
    assert rates == pytest.approx(
        {
            ("code", "copy@2"): 10 / 7, ("code", "small@2"): 10 / 8, ("code", "plain"): 1,
            ("chat", "copy@2"): 4 / 4, ("chat", "small@2"): 4 / 2, ("chat", "plain"): 1,
            ("all", "copy@2"): 14 / 11, ("all", "small@2"): 14 / 10, ("all", "plain"): 1,
        }
    )  # fmt: skip
    assert matrix.times("code", 0, 1).value == pytest.approx(8 / 7)
    assert {c["interval"] for c in matrix.cells()} == {None}  # three prompts are too few
    many = take_prompts(trace, np.array([0, 1, 2] * 4))
    low, high = Matrix(many).cells()[-3]["interval"]
    assert low < 14 / 11 < high
    assert token_costs(trace.costs, trace.pool()) == pytest.approx({"copy": 0, "small": 0.25})
    assert token_costs(None, trace.pool()) is None


def test_what_a_pool_holds_and_gains(tmp_path, capsys):
    pool, trace = pool_folder(tmp_path / "pool"), trace_folder(tmp_path / "trace")
    svg = tmp_path / "heat.svg"
    assert main(["pool", "show", str(pool), "--trace", str(trace), "--svg", str(svg), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["facts"] == {
        "target": "tiny", "complete": True, "prompts": prompts_hash(builtin.load("train")), "set": "train",
    }  # fmt: skip
    found = [(m["kind"], m["domain"], m["drafter"], m["token_cost"]) for m in told["members"]]
    assert found == [("table", "code", "copy", 0), ("table", "all", None, None), ("head", "chat", "small", 0.25)]
    assert len(told["matrix"]) == 9
    assert told["crossings"] == []  # no two specialists of a kind in this trace
    picture = ElementTree.fromstring(svg.read_text())
    texts = [t.text for t in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("1.43") == 1
    framed = [r for r in picture.iter("{http://www.w3.org/2000/svg}rect") if r.get("stroke-width")]
    assert len(framed) == 2
    assert main(["pool", "show", str(pool), "--trace", str(trace)]) == 0
    out = capsys.readouterr().out
    assert "1.43*" in out
    assert "2.00*" in out
    assert "answers to train, complete" in out


def test_what_a_specialist_gains_over_its_kind(tmp_path, capsys):
    tables = [{"domain": d, "file": f"{d}.safetensors"} for d in ("code", "all")]
    pool = pool_folder(tmp_path / "pool", heads=[], tables=[*tables, {"domain": "chat", "file": "head-chat"}])
    trace = hand_trace()
    names = zip(("copy", "small"), ("code.safetensors", "all.safetensors"), strict=True)
    drafters = tuple(
        DrafterInfo(
            n, "table", free=True, deterministic=True, settings={"sha256": hashlib.sha256(f.encode()).hexdigest()}
        )
        for n, f in names
    )
    kept = {k: v for k, v in trace.manifest.items() if k != "pool"}
    save_trace(replace(trace, drafters=drafters, manifest=kept), tmp_path / "trace")
    assert main(["pool", "show", str(pool), "--trace", str(tmp_path / "trace"), "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["crossings"]
    assert row == {
        "drafter": "copy", "domain": "code", "against": "one_for_all", "other": "small@2",
        "times": pytest.approx(8 / 7), "interval": None,
    }  # fmt: skip
    assert main(["pool", "show", str(pool), "--trace", str(tmp_path / "trace")]) == 0
    assert "copy on code: 1.14 times small@2, one for all (no interval)" in capsys.readouterr().out


def test_without_a_trace_only_the_pool_is_told(tmp_path, capsys):
    pool = pool_folder(tmp_path / "pool", complete=False)
    assert main(["pool", "show", str(pool)]) == 0
    out = capsys.readouterr().out
    assert "not complete" in out
    assert "1,234" in out
    assert "record --prompts eval" in out


def test_refusals(tmp_path, capsys):
    pool, trace = pool_folder(tmp_path / "pool"), trace_folder(tmp_path / "trace")
    foreign = pool_folder(tmp_path / "other", heads=[])
    (foreign / "code.safetensors").write_bytes(b"another")
    for arguments, said in (
        ([str(tmp_path)], "is no pool"),
        ([str(trace)], "not that of a pool"),
        ([str(pool), "--svg", "x.svg"], "--svg x.svg draws what --trace says"),
        ([str(foreign), "--trace", str(trace)], "holds none of the pool's drafters"),
    ):
        assert main(["pool", "show", *arguments]) == 2
        (line,) = capsys.readouterr().err.strip().splitlines()
        assert said in line
