"""vLLM's per-request records as a trace of visited positions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from metasd.cli import main
from metasd.core.errors import UsageError
from metasd.traces import import_trace, open_trace


def response(number: int = 0, **changes: Any) -> dict[str, Any]:
    """Seven tokens behind the first, in steps of 3, 1 and 3."""
    told = {"num_spec_tokens": 4, "per_step_drafted": [4, 2, 4], "per_step_accepted": [2, 0, 2]}
    made: dict[str, Any] = {
        "id": f"cmpl-{number}",
        "model": "tiny",
        "usage": {"prompt_tokens": 5, "completion_tokens": 8},
        "choices": [{"token_ids": [9, 1, 2, 3, 4, 5, 6, 7]}],
        "metrics": {"speculative_decoding": told | changes.pop("told", {})},
    }
    return made | changes


def written(folder: Path, *lines: dict[str, Any]) -> Path:
    file = folder / "log.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return file


def test_visited_positions_and_what_a_step_had_left(tmp_path):
    made = import_trace("vllm", written(tmp_path, response()), tmp_path / "t")
    trace = open_trace(tmp_path / "t")
    assert trace.tokens.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert trace.proposed[:, 0].tolist() == [4, 3, 2, 2, 4, 3, 2]
    assert trace.accepted[:, 0].tolist() == [2, 1, 0, 0, 2, 1, 0]
    assert trace.prompt_lengths.tolist() == [6]
    assert trace.manifest["exact"] is False
    assert "visited positions only" in trace.manifest["approximation"]
    assert "approximate" in made.warnings[0]


def test_answers_whose_steps_do_not_add_up_are_left_out(tmp_path):
    plain_steps = response(1, usage={"prompt_tokens": 5, "completion_tokens": 9}, choices=[{}])
    cut = response(
        2, usage={"prompt_tokens": 5, "completion_tokens": 6}, choices=[{}]
    )  # by max_tokens, in the last step
    none = response(3, told={"per_step_drafted": [], "per_step_accepted": []})
    made = import_trace("vllm", written(tmp_path, response(), plain_steps, cut, none), tmp_path / "t")
    trace = open_trace(tmp_path / "t")
    assert trace.ids == ["cmpl-0", "cmpl-2"]
    assert trace.lengths.tolist() == [7, 5]
    assert trace.accepted[7:, 0].tolist() == [2, 1, 0, 0, 1]
    assert made.warnings[1].startswith("2 of 4 responses left out")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (response(metrics=None), "it has no metrics.speculative_decoding"),
        (response(told={"num_spec_tokens": 0}), "num_spec_tokens is 0"),
        (response(told={"per_step_accepted": [2, 0]}), "do not fit together"),
        (response(told={"per_step_drafted": [1, 2, 4]}), "do not fit together"),
        (response(choices=[{"token_ids": [1]}]), "1 token_ids, but completion_tokens says 8"),
        (response(usage={"prompt_tokens": 5, "completion_tokens": 0}), "completion_tokens is 0"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, said):
    with pytest.raises(UsageError, match=said) as error:
        import_trace("vllm", written(tmp_path, response(), line), tmp_path / "t")
    assert "log.jsonl:2" in str(error.value)
    assert not (tmp_path / "t").exists()


def test_records_without_steps_and_of_two_servers_are_refused(tmp_path, capsys):
    summary = response()
    del summary["metrics"]["speculative_decoding"]["per_step_drafted"]
    assert main(["trace", "import", "vllm", str(written(tmp_path, summary)), "--out", str(tmp_path / "t")]) == 2
    assert "--per-request-spec-decode-metrics detailed" in capsys.readouterr().err
    with pytest.raises(UsageError, match="models differ"):
        import_trace("vllm", written(tmp_path, response(), response(1, model="other")), tmp_path / "t")
