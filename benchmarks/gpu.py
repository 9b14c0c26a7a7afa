"""What a GPU makes of MetaSD: parity, fidelity, recording, live speeds, passes on every engine path, peak memory.

    python benchmarks/gpu.py --out FOLDER

Needs the package with its ``live`` extra and a CUDA device; ``--device cpu --quick`` runs it anywhere on a tiny random
model, which shows that it works and measures nothing. Prints one table and writes FOLDER/gpu.json; exits with 1 when a
part failed, after the others. Parts run in a process beside this one, which starts another where a part ended it.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

sys.path.insert(0, str(Path(__file__).parent))  # python -P leaves a script's own folder out

from gpu_parts import plan
from gpu_parts.plan import PARTS, Part, Setting
from gpu_parts.table import show
from gpu_parts.worker import work

Say = Callable[[str], object]


class Worker:
    """The process that runs ``parts`` one after the other."""

    def __init__(self, setting: Setting, parts: Sequence[Part]) -> None:
        context = multiprocessing.get_context("spawn")  # a forked process could not use CUDA
        self._pipe, its = context.Pipe()
        self._process = context.Process(target=work, args=(its, setting, tuple(parts)), daemon=True)
        self._process.start()
        its.close()

    def run(self, part: Part, seconds: float, say: Say) -> dict[str, Any]:
        """The part's record: ok, error, seconds, limit, found."""
        began, found, error = time.monotonic(), dict[str, Any](), ""
        try:
            self._pipe.send(seconds)
            while True:
                left = began + seconds + plan.GRACE_SECONDS - time.monotonic()
                if not self._pipe.poll(max(left, 0)):
                    error = f"not done after {seconds + plan.GRACE_SECONDS:.0f} s, ended"
                    break
                kind, line, found = self._pipe.recv()
                if kind != "step":
                    error = line
                    break
                say(f"{part.name}: {line}")
        except (EOFError, OSError):
            self._process.join(5)
            error = f"its process died with exit code {self._process.exitcode}"
        spent = time.monotonic() - began
        return {"ok": not error, "error": error or None, "seconds": spent, "limit": seconds, "found": found}

    def stop(self) -> None:
        """End the process, whatever it is at."""
        self._pipe.close()
        self._process.kill()
        self._process.join()


def measure(setting: Setting, parts: Sequence[Part], say: Say) -> dict[str, dict[str, Any]]:
    """The record of every part; where one failed the next gets a new process. Without the first, nothing else runs."""
    until = time.monotonic() + plan.TOTAL_SECONDS
    records: dict[str, dict[str, Any]] = {}
    worker: Worker | None = None
    try:
        for i, part in enumerate(parts):
            seconds = min(part.seconds, until - plan.GRACE_SECONDS - time.monotonic())
            worker = worker or Worker(setting, parts[i:])
            records[part.name] = record = worker.run(part, max(seconds, 0.0), say)
            say(f"{part.name}: {record['error'] or 'done'}, {record['seconds']:.0f} s")
            if not record["ok"]:
                worker.stop()
                worker = None
                if i == 0:
                    break
    finally:
        if worker is not None:
            worker.stop()
    return records


def document(setting: Setting, records: dict[str, dict[str, Any]], seconds: float) -> dict[str, Any]:
    """The one JSON document."""
    settings = asdict(setting) | {"texts": setting.texts, "tokens": setting.tokens, "contexts": setting.contexts}
    return {
        "schema": 1,
        "command": "gpu",
        "settings": settings,
        "machine": records.get("machine", {}).get("found", {}),
        "seconds": seconds,
        "ok": all(record["ok"] for record in records.values()),
        "parts": records,
    }


@click.command()
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder of gpu.json.")
@click.option("--target", help="As of metasd run, or random. Default: smollm2; with --quick: random.")
@click.option("--device", default="cuda", show_default=True, help="cuda, cuda:N or cpu.")
@click.option("--dtype", type=click.Choice(plan.DTYPES), help="Of the speeds. Default: bfloat16, on the CPU float32.")
@click.option("--draft-length", type=click.IntRange(1, 32), default=8, show_default=True)
@click.option("--part", "names", multiple=True, type=click.Choice([p.name for p in PARTS[1:]]), help="Only this one.")
@click.option("--quick", is_flag=True, help="A tiny model and few tokens: shows that it runs.")
def main(
    out: Path,
    target: str | None,
    device: str,
    dtype: str | None,
    draft_length: int,
    names: tuple[str, ...],
    quick: bool,
) -> None:
    """Measure what MetaSD does on a GPU, in at most 8 minutes."""
    began = time.monotonic()

    def say(line: str) -> None:
        click.echo(f"[{time.monotonic() - began:4.0f} s] {line}", err=True)

    setting = Setting(
        target or (plan.RANDOM if quick else plan.SMOLLM2),
        device,
        dtype or ("float32" if device == "cpu" else "bfloat16"),
        quick,
        draft_length,
    )
    out.mkdir(parents=True, exist_ok=True)
    machine, *others = PARTS
    records = measure(setting, [machine, *(p for p in others if not names or p.name in names)], say)
    if not records["machine"]["ok"]:
        click.echo(f"Error: {records['machine']['error']}", err=True)
        sys.exit(2)
    made = document(setting, records, time.monotonic() - began)
    (out / "gpu.json").write_text(json.dumps(made, indent=1, allow_nan=False) + "\n")
    show(made)
    if not made["ok"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
