"""Whatever is damaged, foreign or recorded on another text is refused, and the file is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from metasd.core.errors import TraceError
from metasd.traces import PromptRecord, Trace, TraceWriter, open_trace, reader, save_trace, synth, synthetic, validate
from metasd.traces import format as fmt

FIRST, LAST = (f"{fmt.SHARDS}/{fmt.shard_name(n)}" for n in (0, 2))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete recording of three shards; tests that change it must put it back."""
    path = tmp_path_factory.mktemp("whole") / "t"
    trace = synthetic("two-language", prompts=6, length=7, arms=2, draft_length=3)
    with TraceWriter(path, {**trace.manifest, "draft_lengths": trace.draft_lengths}, shard_prompts=2) as writer:
        for p in range(6):
            at = slice(7 * p, 7 * p + 7)
            writer.add(
                PromptRecord(
                    trace.ids[p], "é", [3], trace.tokens[at], True, trace.proposed[at], trace.accepted[at],
                    overlap=trace.overlap[at],
                )
            )  # fmt: skip
    return path


class Changed:
    """The bytes of a file, changed inside a with block."""

    def __init__(self, file: Path, data: bytes) -> None:
        self.file, self.data, self.kept = file, data, file.read_bytes()

    def __enter__(self) -> None:
        self.file.write_bytes(self.data)

    def __exit__(self, *_: object) -> None:
        self.file.write_bytes(self.kept)


@settings(max_examples=150)
@given(st.sampled_from([FIRST, LAST]), st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_a_flipped_bit_in_a_shard_is_refused_by_name(whole: Path, name: str, where: float, bit: int) -> None:
    file = whole / name
    data = bytearray(file.read_bytes())
    data[int(where * len(data))] ^= 1 << bit
    with Changed(file, bytes(data)):
        for check in (open_trace, validate):
            with pytest.raises(TraceError, match=file.name):
                check(whole)
    open_trace(whole)


@settings(max_examples=100)
@given(st.sampled_from([fmt.MANIFEST, fmt.JOURNAL]), st.floats(0, 1, exclude_max=True), st.integers(0, 7))
def test_a_flipped_bit_in_manifest_or_journal(whole: Path, name: str, where: float, bit: int) -> None:
    """Refused by name, unless the bit changes nothing that JSON says (the case of a hex digit in an escape)."""
    file = whole / name
    data = bytearray(file.read_bytes())
    kept = [json.loads(line) for line in data.splitlines()] if name == fmt.JOURNAL else json.loads(bytes(data))
    data[int(where * len(data))] ^= 1 << bit
    with Changed(file, bytes(data)):
        try:
            validate(whole)
        except TraceError as error:
            assert name in str(error)  # noqa: PT017 - either outcome is legal, see below
        else:
            lines = bytes(data).splitlines()
            assert ([json.loads(line) for line in lines] if name == fmt.JOURNAL else json.loads(bytes(data))) == kept


@settings(max_examples=100)
@given(st.sampled_from([FIRST, LAST, fmt.MANIFEST]), st.floats(0, 1, exclude_max=True))
def test_truncation_at_any_offset_is_refused_by_name(whole: Path, name: str, where: float) -> None:
    file = whole / name
    data = file.read_bytes().rstrip(b"\n")
    with Changed(file, data[: int(where * len(data))]):
        for check in (open_trace, validate):
            with pytest.raises(TraceError, match=file.name):
                check(whole)


def test_large_traces_are_hashed_on_demand(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Above SMALL a flipped byte is found by verify=True only, a cut file always."""
    monkeypatch.setattr(reader, "SMALL", 0)
    file = whole / FIRST
    data = file.read_bytes()
    with Changed(file, data[:-1] + bytes([data[-1] ^ 1])):
        open_trace(whole)
        with pytest.raises(TraceError, match=file.name):
            open_trace(whole, verify=True)
    with Changed(file, data[:-1]), pytest.raises(TraceError, match=file.name):
        open_trace(whole)


def test_missing_shard_is_named(whole: Path) -> None:
    file = whole / LAST
    data = file.read_bytes()
    file.unlink()
    try:
        for check in (open_trace, validate):
            with pytest.raises(TraceError, match=rf"{file.name}: shard is missing"):
                check(whole)
    finally:
        file.write_bytes(data)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"schema": 2}', r"manifest\.json: schema 2; this version reads 1"),
        ('{"schema": "1"}', r"manifest\.json: schema '1'"),
        ('{"name": "my-package", "version": "1.0"}', "not a trace's manifest"),
        ("[1, 2]", "not a trace's manifest"),
        ("PK\x03\x04", "not JSON"),
        ('{"schema": 1}', "damaged or edited"),
    ],
)
def test_foreign_manifests(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / fmt.MANIFEST).write_text(text)
    for check in (open_trace, validate):
        with pytest.raises(TraceError, match=message):
            check(tmp_path)


def test_signed_manifest_that_lacks_keys(tmp_path: Path) -> None:
    fmt.write_json(tmp_path / fmt.MANIFEST, {"schema": 1, "signals": ["none"]})
    with pytest.raises(TraceError, match=r"manifest\.json: signals \['none'\]"):
        open_trace(tmp_path)
    fmt.write_json(tmp_path / fmt.MANIFEST, {"schema": 1})
    with pytest.raises(TraceError, match=r"manifest\.json: misses 'signals'"):
        open_trace(tmp_path)


def test_not_a_trace(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "nowhere", tmp_path, tmp_path / "file"):
        with pytest.raises(TraceError, match="no manifest"):
            open_trace(path)


def test_foreign_shard_under_a_shards_name(whole: Path) -> None:
    """A file of the right size and hash that is no shard: manifest and shard agree, the content does not."""
    file = whole / FIRST
    for data in (b"\xff" * 400, b"\x10" + b"\0" * 7 + b"[1, 2, 3, 4, 5] " + b"x" * 20, b"\0" * 64):
        manifest = json.loads((whole / fmt.MANIFEST).read_text())
        with Changed(file, data):
            manifest["shards"][0] |= {"bytes": len(data), "sha256": fmt.file_hash(file)}
            agreeing = Changed(whole / fmt.MANIFEST, json.dumps(fmt.signed(manifest)).encode())
            with agreeing, pytest.raises(TraceError, match=file.name):
                open_trace(whole)


def test_one_shard_is_memory_mapped_and_plain_safetensors(tmp_path: Path) -> None:
    path = synth("iid", tmp_path / "t", prompts=5, length=40, arms=3, draft_length=4, temperature=1.0)
    trace = open_trace(path)
    for name in ("tokens", "proposed", "accepted", "accept", "overlap"):
        column = getattr(trace, name)
        base = column
        while isinstance(base.base, np.ndarray):
            base = base.base
        assert isinstance(base, np.memmap), name
        assert not column.flags.writeable
    library = load_file(path / FIRST)
    for name in ("tokens", "proposed", "accepted", "accept", "overlap"):
        np.testing.assert_array_equal(library[name], getattr(trace, name), strict=True)


def test_column_of_another_text_is_refused_unless_listed(
    manifest: dict, records: list[PromptRecord], tmp_path: Path
) -> None:
    records[1].column_text = np.array([fmt.text_hash(records[1].tokens), 0, 0])
    records[1].unaligned = True
    with TraceWriter(tmp_path / "t", manifest, shard_prompts=2) as writer:
        for record in records:
            writer.add(record)
    dropped, kept = open_trace(tmp_path / "t"), open_trace(tmp_path / "t", include_unaligned=True)
    assert list(kept.ids) == [r.id for r in records]
    assert list(dropped.ids) == [r.id for r in records if r is not records[1]]
    assert kept.manifest["unaligned"] == [records[1].id]
    assert dropped.manifest["unaligned"] == []
    data = json.loads((tmp_path / "t" / fmt.MANIFEST).read_text()) | {"unaligned": []}
    (tmp_path / "t" / fmt.MANIFEST).write_text(json.dumps(fmt.signed(data)))
    with pytest.raises(
        TraceError, match=rf"000000\.safetensors: prompt '{records[1].id}': arm1 was recorded on another"
    ):
        open_trace(tmp_path / "t")


def test_text_that_is_not_the_hashed_one(tmp_path: Path) -> None:
    """A shard rewritten with another text under the old hashes."""
    trace = synthetic("iid", prompts=3, length=5, arms=1, draft_length=2)
    path = save_trace(trace, tmp_path / "t")
    entry = reader.read_index(path).entries[0]
    loaded = reader.load_shard(reader.read_index(path), entry, verify=True)
    tensors = {name: np.array(column) for name, column in loaded.tensors.items()}
    tensors["tokens"][6] += 1
    from metasd.traces import shard
    from metasd.traces.rows import metadata

    sha256, size = shard.write(path / FIRST, tensors, metadata(loaded.ids, loaded.domains))
    data = json.loads((path / fmt.MANIFEST).read_text())
    data["shards"][0] |= {"sha256": sha256, "bytes": size}
    fmt.write_json(path / fmt.MANIFEST, data)
    with pytest.raises(TraceError, match=r"000000\.safetensors: prompt 'iid-1': its text is not the one"):
        open_trace(path)


def test_costs_come_along_and_damaged_ones_are_named(tmp_path: Path) -> None:
    path = synth("iid", tmp_path / "t", prompts=2, length=5)
    assert open_trace(path).costs is None
    (path / fmt.COSTS).write_text("{}")
    with pytest.raises(TraceError, match="costs"):
        open_trace(path)


def test_round_trip_of_any_small_trace(tmp_path_factory: pytest.TempPathFactory, same: Callable) -> None:
    @settings(max_examples=25)
    @given(
        prompts=st.integers(1, 5),
        length=st.integers(1, 6),
        arms=st.integers(1, 4),
        draft_length=st.integers(1, 5),
        temperature=st.sampled_from([0.0, 1.0]),
        overlap=st.booleans(),
    )
    def check(**shape: int) -> None:
        trace: Trace = synthetic("iid", **shape)
        path = save_trace(trace, tmp_path_factory.mktemp("r") / "t")
        same(open_trace(path), trace)
        validate(path)

    check()
