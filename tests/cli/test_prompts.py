"""Prompts by name on the command line: what ships is listed, printed, and refused as training where it is kept."""

from __future__ import annotations

import json

from metasd.cli import main
from metasd.core import builtin
from metasd.core.prompts import load_prompts


def test_sets_are_listed(capsys):
    assert main(["prompts", "--json"]) == 0
    sets = {row["name"]: row for row in json.loads(capsys.readouterr().out)["sets"]}
    assert set(sets) == set(builtin.SETS)
    assert sets["eval"]["domains"]["letters"] == 16
    assert sum(sets["train"]["domains"].values()) == sets["train"]["prompts"] == len(builtin.load("train"))
    assert main(["prompts"]) == 0
    assert "two-task" in capsys.readouterr().out


def test_a_set_is_printed_as_a_prompt_file(capsys, tmp_path):
    assert main(["prompts", "eval/code+qa"]) == 0
    (tmp_path / "p.jsonl").write_text(capsys.readouterr().out, encoding="utf-8")
    assert load_prompts(tmp_path / "p.jsonl") == builtin.load("eval/code+qa")
    assert main(["prompts", "eval/nothing"]) == 2
    assert "no domain 'nothing'" in capsys.readouterr().err


def test_distill_refuses_what_is_kept(capsys, tmp_path):
    assert main(["distill", "--target", "nowhere", "--prompts", "eval/code", "--out", str(tmp_path / "pool")]) == 2
    assert "'eval-code-01' and 15 more, kept for evaluation" in capsys.readouterr().err
    assert not (tmp_path / "pool").exists()


def test_a_domain_of_a_set_is_read_by_every_command(capsys):
    assert main(["distill", "--target", "nowhere", "--prompts", "train/nothing", "--out", "pool"]) == 2
    assert "prompts 'train' have no domain 'nothing'" in capsys.readouterr().err
