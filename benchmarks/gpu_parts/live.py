"""Live: ``metasd bench live`` in this process: transformers' generators, plain decoding, arms and policies, in turn.

One process for all of them, since starting one on a GPU takes longer than these texts; flashspec and vLLM, which want
a process to themselves, are left to the command.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from metasd.bench import rows, run, worker
from metasd.bench.jobs import OTHERS, Job, field
from metasd.core.errors import UsageError
from metasd.runtime.registry import preview

from .plan import RANDOM, Setting
from .setting import open_target, peak_memory, prompts_of
from .worker import Report


def measure(setting: Setting, report: Report) -> None:
    """Rows by contender over all prompts, after every run, and what plain decoding twice differs by."""
    memory = report.found["memory"] = {}
    with tempfile.TemporaryDirectory() as scratch, peak_memory(setting.device, memory.setdefault(setting.dtype, {})):
        settings = _settings(setting, Path(scratch))
        pool = preview((), settings["target"], draft_length=setting.draft_length)
        jobs = [job for job in field(pool, (), (), ()).jobs if job.kind not in OTHERS]
        report.say("reading the prompts, measuring passes")
        scene = worker.work({"settings": settings, "scene": None, "job": None})
        if "error" in scene:
            raise UsageError(scene["error"])
        report.found |= {"dtype": scene["dtype"], "engine": scene["engine"], "engine_reason": scene["engine_reason"]}
        runs: list[dict[str, Any]] = []
        for repeat in range(setting.repeats):
            for job in run.order_of(jobs, repeat):
                if not report.time_left():
                    return
                report.say(f"repeat {repeat + 1} of at most {setting.repeats}, {job.name}")
                _run(settings, scene, jobs, job, repeat, runs, report)


def _run(
    settings: dict[str, Any],
    scene: dict[str, Any],
    jobs: list[Job],
    job: Job,
    repeat: int,
    runs: list[dict[str, Any]],
    report: Report,
) -> None:
    made = worker.work({"settings": settings, "scene": scene, "job": asdict(job)})
    if "error" in made:
        report.found.setdefault("failed", {})[job.name] = made["error"]
    runs.append({"contender": job.name, "repeat": repeat} | made)
    found = rows.rows(jobs, runs, scene["texts"], repeat + 1)
    report.found["rows"] = [r for r in found if r["domain"] == rows.ALL]
    report.found["noise"] = rows.noise(runs, repeat + 1)


def _settings(setting: Setting, scratch: Path) -> dict[str, Any]:
    """What every contender is told; a random target is written to ``scratch``, from where they all load it."""
    name = setting.target
    if name == RANDOM:
        target = open_target(setting, setting.dtype)
        target.model.save_pretrained(scratch / "target")
        target.tokenizer.save_pretrained(scratch / "target")
        name = str(scratch / "target")
    told = [{k: v for k, v in asdict(p).items() if k not in ("where", "stop")} for p in prompts_of(setting.texts)]
    return {
        "target": name,
        "drafters": [],
        "draft_length": setting.draft_length,
        "max_new_tokens": setting.tokens,
        "device": setting.device,
        "dtype": setting.dtype,
        "attention": None,
        "device_map": None,
        "revision": None,
        "engine": "auto",
        "ignore_generation_config": False,
        "raw": False,
        "skip_too_long": False,
        "threads": None,
        "costs": "measure",
        "prompts": told,
    }
