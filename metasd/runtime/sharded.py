"""A target whose weights are spread over several processes, by transformers' own plans for tensor parallelism.

Rank 0 runs the program as if the target were its own; every pass that it makes of the target is told to the other
ranks, which make it too, each with its part of the weights and of the cache. So whatever decides a pass (policy,
drafters, draws, clocks) decides on rank 0 alone, and ranks cannot come apart.

What a pass is told with: its inputs, and which cache it reads, how long that is now and which rows of it were moved
since (``engine.move_rows``). Knows models and caches; drafters that use parts of the target beside its passes are for
others to refuse (``Sharding.check_drafters``).
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from types import TracebackType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from metasd.core.errors import UsageError
from metasd.core.pool import DrafterInfo
from metasd.runtime import weights
from metasd.runtime.engine.engine import move_rows
from metasd.runtime.engine.forward import CACHE_NAMES
from metasd.runtime.engine.support import croppable_cache
from metasd.runtime.group import Group

PATIENCE = timedelta(hours=2)
"""How long a rank waits in a collective: rank 0 may draft, print or wait for input between two passes."""
LEAVE = 5.0
"""Seconds that a failing rank 0 waits for the others to hear why: they may be inside a pass, which its end ends."""
END, FAILED = "end", "failed"
OF_THE_TARGET = ("skip", "head")
"""Kinds of drafters that run layers of the target themselves."""


class Sharding:
    """The processes of ``group`` around one target; a context manager, which ends the others where rank 0 leaves.

    Raises UsageError for a device that tensor parallelism cannot use here.
    """

    def __init__(self, group: Group, device: str) -> None:
        check_device(device)
        self.group, self.rank, self.size = group, group.rank, group.size
        how: dict[str, Any] = {"backend": "gloo"}
        if device == "cuda":
            own = torch.device("cuda", group.local)
            torch.cuda.set_device(own)
            how = {"backend": "cpu:gloo,cuda:nccl", "device_id": own}
        dist.init_process_group(
            store=group.store("processes"), rank=self.rank, world_size=self.size, timeout=PATIENCE, **how
        )
        self._told = dist.new_group(backend="gloo", timeout=PATIENCE)
        self._model: Any = None
        self._inside = False  # a pass has begun and not ended
        self._caches = 0
        self._gone: list[int] = []
        group.patience = LEAVE

    def __enter__(self) -> Sharding:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.rank == 0 and self._model is not None and not self._inside:
            with suppress(RuntimeError):  # another rank has gone already
                self._tell(END if kind is None else FAILED)
        if kind is None:
            dist.destroy_process_group()  # behind an error others may be inside a collective: the process' end ends it

    def announce(self, path: str, spec: str, dtype: str, attention: str | None, revision: str | None) -> None:
        """On rank 0: say what all are about to read, by the arguments of ``weights.read``."""
        told = {"path": path, "spec": spec, "dtype": dtype, "attention": attention, "revision": revision}
        self.group.tell("target", json.dumps(told))

    def check_drafters(self, infos: Sequence[DrafterInfo]) -> None:
        """Raises UsageError for a drafter that runs layers of the target itself: only whole passes are told."""
        for info in infos:
            if info.kind in OF_THE_TARGET:
                raise UsageError(
                    f"drafter {info.name!r} of kind {info.kind!r} runs parts of the target, which --tensor-parallel "
                    "spreads over processes; leave it out"
                )

    def lead(self, model: Any) -> None:
        """From here on every pass of ``model`` is told. Views of it (``models.without_layers``) are refused."""
        self._model = model
        model.register_forward_pre_hook(self._lead, with_kwargs=True)
        model.register_forward_hook(self._led)

    def _led(self, module: Any, args: Any, out: Any) -> None:
        self._inside = False

    def _lead(self, module: Any, args: tuple[Any, ...], given: dict[str, Any]) -> None:
        if module is not self._model or args:
            raise UsageError("the target's layers are spread over several processes")
        name = next(name for name in CACHE_NAMES if name in given)
        cache = given[name]
        if not hasattr(cache, "mirrored"):
            self._caches += 1
            cache.mirrored, cache.moves = self._caches, []
            weakref.finalize(cache, self._gone.append, self._caches)
        rest = {key: _off(value) for key, value in given.items() if key != name}
        at = (cache.mirrored, cache.get_seq_length(), list(cache.moves))
        self._tell((name, at, rest, list(self._gone)))
        cache.moves.clear()
        self._gone.clear()
        self._inside = True

    def follow(self) -> None:
        """On the other ranks: read the same target and make the passes of rank 0 until it leaves.

        Raises UsageError where it cannot be read, RankError when another rank fails or is lost.
        """
        try:
            model, _ = weights.read(**json.loads(self.group.hear("target")), sharded=True)
            self._follow(model.eval().requires_grad_(False))
        except RuntimeError as error:  # a collective's: a connection is closed
            if not of_a_collective(error):
                raise
            self.group.explain(error)

    @torch.inference_mode()
    def _follow(self, model: Any) -> None:
        caches: dict[int, Any] = {}
        device = torch.device(model.device)
        while (told := self._heard()) != END:
            if told == FAILED:
                self.group.explain(RuntimeError("rank 0 has failed"))
            name, (mirrored, length, moves), rest, gone = told
            for old in gone:
                caches.pop(old, None)
            if mirrored not in caches:
                caches[mirrored] = croppable_cache(model)
            cache = caches[mirrored]
            for had, to, rows in moves:
                _crop(cache, had)
                move_rows(cache, had, to, rows)
            _crop(cache, length)
            model(**{key: _on(value, device) for key, value in rest.items()}, **{name: cache})

    def _tell(self, order: Any) -> None:
        dist.broadcast_object_list([order], src=0, group=self._told, device=torch.device("cpu"))

    def _heard(self) -> Any:
        box: list[Any] = [None]
        dist.broadcast_object_list(box, src=0, group=self._told, device=torch.device("cpu"))
        return box[0]


def of_a_collective(error: RuntimeError) -> bool:
    """Whether torch says with ``error`` that ranks can no longer reach each other."""
    return isinstance(error, dist.DistError) or any(name in str(error).lower() for name in ("gloo", "nccl"))


def check_device(device: str) -> None:
    """Raises UsageError unless ``device`` is what transformers' device mesh takes on this machine."""
    wanted = "cuda" if torch.cuda.is_available() else "cpu"
    if device != wanted:
        mend = "or hide the GPUs with CUDA_VISIBLE_DEVICES=" if wanted == "cuda" else "there is no CUDA device"
        raise UsageError(f"--tensor-parallel cannot use device {device!r} here; give --device {wanted} ({mend})")


def _off(value: Any) -> Any:
    """``value`` of a pass as it can be told."""
    if isinstance(value, Tensor):
        return value.cpu()
    return {key: _off(v) for key, v in value.items()} if isinstance(value, Mapping) else value


def _on(value: Any, device: torch.device) -> Any:
    if isinstance(value, Tensor):
        return value.to(device)
    return {key: _on(v, device) for key, v in value.items()} if isinstance(value, dict) else value


def _crop(cache: Any, length: int) -> None:
    if cache.get_seq_length() > length:
        cache.crop(length - cache.get_seq_length())
