"""Recording on several processes: the arrays of one, whoever is killed or fails, and whoever goes on."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

from ranks import Ranks, logged
from ranks import command as command  # what ranks call

from metasd.core.errors import MetaSDError, UsageError
from metasd.core.ranks import Place, place
from metasd.record.share import Share, runs_of
from metasd.traces import format as fmt
from metasd.traces import open_trace, validate

WORLD = Path(__file__).with_name("conftest.py")
FIELDS = (
    *("offsets", "ended", "tokens", "proposed", "accepted", "overlap", "confidence", "draft_tokens"),
    *("signals", "margin", "prompt_tokens", "prompt_lengths"),
)


def record(out: str, delay: float = 0.0, log: str | None = None, fails: int | None = None, late: bool = False) -> int:
    """Called in every rank: record the small world into ``out``, a shard a prompt, every commit slowed down.

    late: other ranks come when rank 0 has committed something.
    """
    from metasd.core import files
    from metasd.core import ranks as places
    from metasd.record import run as module
    from metasd.runtime import group as groups

    spec = importlib.util.spec_from_file_location("world", WORLD)
    world = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(world)
    module.FLUSH_SECONDS = 0.0
    groups.BEAT, groups.SILENT, groups.START = 0.1, 3.0, 30.0
    commit = files.commit

    def slow_commit(made: Path, path: Path) -> None:
        time.sleep(delay)
        commit(made, path)
        time.sleep(delay)

    files.commit = slow_commit
    join = module.join

    def late_join(*given, **more):
        while late and not fmt.committed(Path(out)):
            time.sleep(0.01)
        return join(*given, **more)

    module.join = late_join
    here = places.place()
    try:
        with contextlib.nullcontext() if here is None else groups.Group(here) as group:
            if here is not None and here.rank == fails:
                raise UsageError("prompt 'p3' is not what it was")
            summary = world.World().record(Path(out), resume=True, group=group)
    except MetaSDError as error:
        if log is not None:
            Path(logged(log)).write_text(str(error))
        return error.exit_code
    if log is not None:
        Path(logged(log)).write_text(json.dumps(summary))
    return 0


@pytest.fixture(scope="module")
def ranks():
    made = Ranks(__file__)
    yield made
    made.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory, ranks):
    """What one process records."""
    out = tmp_path_factory.mktemp("alone") / "whole"
    ranks.start("record", 1, out=str(out))
    assert ranks.ended() == [0]
    return open_trace(out)


def same(left, right):
    assert list(left.ids) == list(right.ids)
    for field in FIELDS:
        np.testing.assert_array_equal(getattr(left, field), getattr(right, field), err_msg=field)


def test_two_ranks_record_what_one_process_records(ranks, whole, tmp_path):
    ranks.start("record", 2, out=str(tmp_path / "t"), log=str(tmp_path / "log"), late=True)
    assert ranks.ended() == [0, 0]
    trace = open_trace(tmp_path / "t")
    same(whole, trace)
    validate(trace.path)
    assert trace.costs is not None
    shards = [entry["shard"] for entry in trace.manifest["shards"]]
    assert sum(name.endswith(".1.safetensors") for name in shards) == 4  # p1, p3, p5, p7
    assert {f.name for f in trace.path.iterdir()} == {f.name for f in whole.path.iterdir()}
    said = json.loads((tmp_path / "log.0").read_text())
    assert said["tokens"] == said["rows"] == len(whole.tokens)  # of both
    assert said["ratio"] > said["seconds"] / said["plain_seconds"]


def on_disk(out):
    return len(list((out / fmt.SHARDS).glob("0*")))


# What is on disk when a rank is killed, and which one; n: shards that earlier runs committed.
# Commits are slowed down, so each moment can be met.
MOMENTS = {
    "nothing yet": (0, lambda out, n: out.exists()),
    "first manifest": (1, lambda out, n: (out / fmt.MANIFEST).exists()),
    "a shard of rank 1 in flight": (1, lambda out, n: any((out / fmt.SHARDS).glob(".*.1.safetensors*.tmp"))),
    "a shard without its line": (1, lambda out, n: on_disk(out) > len(fmt.committed(out)) > max(n, 1)),
    "between two prompts": (0, lambda out, n: len(fmt.committed(out)) > max(n, 4)),
}


def test_a_rank_killed_at_five_moments_and_resumed(ranks, whole, tmp_path):
    out = tmp_path / "killed"
    for name, (rank, reached) in MOMENTS.items():
        children, deadline = ranks.start("record", 2, out=str(out), delay=0.03, log=str(tmp_path / "log")), 60
        began, n = time.monotonic(), len(fmt.committed(out)) if out.exists() else 0
        while not reached(out, n):
            assert time.monotonic() < began + deadline, name
            time.sleep(0.002)
        os.kill(children[rank], signal.SIGKILL)
        codes = ranks.ended()
        assert codes[rank] == -signal.SIGKILL, f"finished before it could be killed at {name!r}"
        assert codes[1 - rank] == 2, name  # the other one ends by itself
        said = (tmp_path / f"log.{1 - rank}").read_text()
        assert ("rank 1 has not been heard of" if rank else "cannot be reached") in said, name
    committed = fmt.committed(out)
    assert 5 <= len(committed) < 9
    places = [whole.ids.index(e["prompts"][0]) for e in committed]
    assert places == sorted(places)
    assert list(open_trace(out).ids) == [n for e in committed for n in e["prompts"]]  # it opens, in the prompts' order
    ranks.start("record", 3, out=str(out))  # another number of processes goes on
    assert ranks.ended() == [0, 0, 0]
    same(whole, open_trace(out))


def test_one_process_goes_on_with_what_several_began(ranks, whole, tmp_path):
    out = tmp_path / "t"
    children = ranks.start("record", 2, out=str(out), delay=0.02, log=str(tmp_path / "log"))
    until = time.monotonic() + 60
    while not (out.exists() and len(fmt.committed(out)) >= 3):
        assert time.monotonic() < until
        time.sleep(0.005)
    os.kill(children[1], signal.SIGKILL)
    ranks.ended()
    ranks.start("record", 1, out=str(out))
    assert ranks.ended() == [0]
    same(whole, open_trace(out))
    validate(out)


def test_a_rank_that_fails_ends_the_others_in_one_line(ranks, tmp_path):
    ranks.start("record", 2, out=str(tmp_path / "t"), log=str(tmp_path / "log"), fails=1)
    assert ranks.ended() == [2, 2]
    assert (tmp_path / "log.0").read_text() == "rank 1 failed: prompt 'p3' is not what it was"


def test_the_command_speaks_once(ranks, tmp_path):
    import tiny
    import torch

    target = tiny.save(tiny.llama(7, dtype=torch.float32), tiny.tokenizer(), tmp_path / "target")
    (tmp_path / "p.jsonl").write_text(
        "".join(json.dumps({"id": f"p{i}", "prompt": f"w2 w{i + 3}"}) + "\n" for i in range(4))
    )
    given = ["record", "--target", str(target), "--prompts", str(tmp_path / "p.jsonl"), "--drafter", "lookup"]
    given += ["--max-new-tokens", "6", "--out", str(tmp_path / "t"), "--json"]
    log = str(tmp_path / "log")
    ranks.start("command", 2, arguments=given, log=log)
    assert ranks.ended() == [0, 0]
    assert json.loads((tmp_path / "log.out.0").read_text())["record"]["prompts"] == 4
    assert (tmp_path / "log.out.1").read_text() == (tmp_path / "log.err.1").read_text() == ""
    ranks.start("command", 2, arguments=given, log=log)
    assert ranks.ended() == [2, 2]
    (line,) = (tmp_path / "log.err.1").read_text().splitlines()
    assert line.startswith("metasd: rank 0 failed: ")
    assert "4 prompts of it done; --resume goes on" in line


def test_runs_are_shared_evenly_and_hold_neighbours():
    assert runs_of(range(100), 2)[:2] == [list(range(8)), list(range(8, 16))]
    assert runs_of([0, 1, 2, 5, 6, 9], 1) == [[0], [1], [2], [5], [6], [9]]
    assert runs_of([*range(16), *range(20, 28)], 2)[4:6] == [[12, 13, 14], [15]]


def test_with_heads_no_answer_is_decoded_ahead_of_its_record(tmp_path):
    """Heads draft from the states that decoding left: those of the answer decoded last."""

    class Recorder:
        writers, did = {0: SimpleNamespace(remembers=True)}, []

        def answer(self, text):
            self.did.append(f"answer {text[0]}")
            return [1]

        def follow(self, prompt, answer):
            assert answer == [1]

        def record(self, text, answer):
            self.did.append(f"record {text[0]}")

    group = SimpleNamespace(rank=0, size=2, tell=lambda *_: None, hear=lambda _: b"[1]", check=lambda: None)
    texts = [(f"p{i}", "d", [1]) for i in range(32)]
    for heads, ahead in (({}, 4), ({1: "head"}, 1)):
        recorder = Recorder()
        recorder.heads, recorder.did = heads, []
        list(Share(recorder, texts, tmp_path, [], group).records())
        assert len(recorder.did) == 32
        assert [what.split()[0] for what in recorder.did[: 2 * ahead]] == ["answer"] * ahead + ["record"] * ahead


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"RANK": "2", "WORLD_SIZE": "2"}, "RANK 2 is outside 0..1"),
        ({"RANK": "one", "WORLD_SIZE": "2"}, "RANK 'one'"),
        ({"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "here"}, "MASTER_PORT"),
    ],
)
def test_an_environment_that_does_not_fit_together_is_named(environment, said):
    with pytest.raises(UsageError, match=said):
        place(environment)


def test_who_is_alone_and_who_is_not():
    assert place({}) is place({"WORLD_SIZE": "1", "RANK": "0"}) is place({"WORLD_SIZE": "4"}) is None
    where = {"MASTER_ADDR": "here", "MASTER_PORT": "1"}
    assert place(where | {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}) == Place(3, 4, 1)
    assert place(where | {"RANK": "3", "WORLD_SIZE": "4"}) == Place(3, 4, 3)
