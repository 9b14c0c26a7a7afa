"""Starting the process of a contender, and what it has to say, also where it died."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from metasd.core import jsontext


def execute(order: dict[str, Any]) -> dict[str, Any]:
    """What ``worker.work`` answers to ``order``, from a process of its own; an ``error`` where that ended wordless.

    An interrupt ends the process.
    """
    threads = order["settings"]["threads"]
    around = dict(os.environ) | ({} if threads is None else {"OMP_NUM_THREADS": str(threads)})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        answer, said = Path(folder) / "answer.json", Path(folder) / "said.txt"
        command = [sys.executable, "-m", "metasd.bench.worker", str(answer)]
        with said.open("wb") as errors:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=errors, stderr=errors, env=around)
        try:
            process.communicate(jsontext.dumps(order).encode())
        except BaseException:
            process.kill()
            process.wait()
            raise
        if process.returncode == 0 and answer.exists():
            made: dict[str, Any] = jsontext.loads(answer.read_bytes())
            return made
        lines = [line.strip() for line in said.read_text(errors="replace").splitlines() if line.strip()]
        last = f", saying {lines[-1]!r}" if lines else ""
        return {"error": f"its process ended with exit code {process.returncode}{last}"}
