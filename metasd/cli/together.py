"""Commands under torchrun: the processes of one job, of which the first alone speaks."""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from metasd.core import ranks
from metasd.core.errors import UsageError
from metasd.core.prompts import STDIN

if TYPE_CHECKING:
    from metasd.runtime.group import Group


@contextmanager
def joined() -> Iterator[Group | None]:
    """The group of this process, None for one that is alone. Inside, only rank 0 prints; failures are said by all.

    Raises UsageError for an environment that does not fit together, RankError where the others are not found.
    """
    place = ranks.place()
    if place is None:
        yield None
        return
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")  # a process that is lost is told by us, in one line
    from metasd.runtime.group import Group

    with Group(place) as group, ExitStack() as silent:
        if group.rank:
            silent.enter_context(redirect_stdout(io.StringIO()))
            silent.enter_context(redirect_stderr(io.StringIO()))
        yield group


def check_prompts(prompt_file: Path | None) -> None:
    """Raises UsageError for prompts that only one process can read."""
    if str(prompt_file) == STDIN:
        raise UsageError("--prompts - cannot be read by several processes; give a file")


def own_device(device: str, group: Group) -> str:
    """The device of this process: of several GPUs of a machine its own one."""
    return f"cuda:{group.local}" if device == "cuda" else device


def tensor_parallel_option(function: Callable[..., Any]) -> Callable[..., Any]:
    """``--tensor-parallel``: rank 0 runs the command, with ``sharding`` among its options, and the others follow it."""

    @click.option("--tensor-parallel", is_flag=True, help="Under torchrun: spread the target over its processes.")
    @functools.wraps(function)
    def command(tensor_parallel: bool, **given: Any) -> None:
        with joined() as group:
            _check(tensor_parallel, group, given)
            if group is None:
                function(**given)
                return
            from metasd.runtime.sharded import Sharding, of_a_collective

            with Sharding(group, given["device"]) as sharding:
                if group.rank:
                    sharding.follow()
                    return
                try:
                    function(**given, sharding=sharding)
                except RuntimeError as error:
                    if not of_a_collective(error):
                        raise
                    group.explain(error)

    return command


def _check(tensor_parallel: bool, group: Group | None, given: dict[str, Any]) -> None:
    """Raises UsageError unless the flag goes with how the command was started, and with its other options."""
    if tensor_parallel and group is None:
        raise UsageError(
            "--tensor-parallel needs several processes; start them with torchrun --nproc-per-node N -m metasd run "
            "--tensor-parallel ..."
        )
    if group is None:
        return
    if not tensor_parallel:
        raise UsageError(
            f"{group.size} processes were started, which would all decode the same; give --tensor-parallel, or start "
            "one process"
        )
    if given["device_map"] is not None:
        raise UsageError("--device-map and --tensor-parallel both spread the target; give one of them")
    if given["dry_run"]:
        raise UsageError("--dry-run says what one process holds; leave out --tensor-parallel and start one process")
    if given["prompt"] == STDIN or str(given["prompt_file"]) == STDIN:
        raise UsageError("standard input cannot be read by several processes; give the prompts in a file")
