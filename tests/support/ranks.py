"""Processes of one job, as torchrun starts them: as a program, which forks them, since importing torch takes long.

For each order ``{"file", "function", "ranks", "given"}`` on stdin: a process a rank, with torchrun's variables, which
calls that function with ``given``; its result is the exit code. Says the processes' ids, then how each ended.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

LONGEST = 100
"""Seconds after which a process that hangs is ended, by SIGALRM."""
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}


class Ranks:
    """The program, and its orders. ``file``: of the functions that orders name."""

    def __init__(self, file: str) -> None:
        paths = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
        self.file, pipe = file, subprocess.PIPE
        command = [sys.executable, __file__]
        self.program = subprocess.Popen(
            command, env=ENVIRONMENT | {"PYTHONPATH": paths}, stdin=pipe, stdout=pipe, text=True
        )

    def start(self, function: str, ranks: int, **given: Any) -> list[int]:
        """The ids of the processes, rank 0 first."""
        order = {"file": self.file, "function": function, "ranks": ranks, "given": given}
        assert self.program.stdin is not None
        self.program.stdin.write(json.dumps(order) + "\n")
        self.program.stdin.flush()
        return self._said()

    def ended(self) -> list[int]:
        """Their exit codes, the negative signal for one that was killed; waits for all."""
        return self._said()

    def close(self) -> None:
        assert self.program.stdin is not None
        assert self.program.stdout is not None
        self.program.stdin.close()
        assert self.program.wait(60) == 0
        self.program.stdout.close()

    def _said(self) -> list[int]:
        assert self.program.stdout is not None
        return list(json.loads(self.program.stdout.readline()))


def logged(log: str) -> str:
    """File of what this rank prints, of those named ``log``."""
    return f"{log}.{os.environ.get('RANK', '0')}"


def command(arguments: list[str], log: str) -> int:
    """For orders: one command of ``metasd``, what it prints in files ``log.out.RANK`` and ``log.err.RANK``."""
    from metasd.cli import main as metasd

    with Path(logged(log + ".out")).open("w", buffering=1) as out, Path(logged(log + ".err")).open("w") as err:
        sys.stdout, sys.stderr = out, err
        try:
            return metasd(arguments)
        finally:
            sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__


def _child(order: dict[str, Any], rank: int, port: int) -> int:
    signal.alarm(LONGEST)
    size = order["ranks"]
    if size > 1:
        os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(size), "LOCAL_RANK": str(rank)}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    spec = importlib.util.spec_from_file_location("ordered", order["file"])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return int(getattr(module, order["function"])(**order["given"]) or 0)


def main() -> None:
    import torch
    import transformers  # noqa: F401

    import metasd.record.run
    import metasd.runtime.contenders  # noqa: F401

    torch.set_num_threads(1)
    for line in sys.stdin:
        order = json.loads(line)
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
        children = []
        for rank in range(order["ranks"]):
            child = os.fork()
            if child:
                children.append(child)
                continue
            os.dup2(2, 1)  # stdout is for orders
            code = 70
            try:
                code = _child(order, rank, port)
            finally:
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(code)
        print(json.dumps(children), flush=True)  # noqa: T201
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(c, 0)[1]) for c in children]), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
