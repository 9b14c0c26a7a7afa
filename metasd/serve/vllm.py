"""vLLM's ``custom_class`` proposer: ``metasd.serve.vllm.MetaSDProposer``. All it knows is vLLM's calling convention."""

from __future__ import annotations

import atexit
import importlib
import logging
import time
from pathlib import Path
from typing import Any

from metasd.core import files, jsontext
from metasd.core.errors import FileError
from metasd.serve.adapter import Adapter
from metasd.serve.config import Config
from metasd.serve.metrics import Metrics

_LOG = logging.getLogger("vllm.metasd")


def _let_others_look() -> None:
    """Let vLLM start a second engine in a process that has numba.

    Its CPU build reads ``vars`` of all that any module holds when an engine starts (``triton_utils.dispatcher``). The
    handle of numba's llvmlite answers any name, this too, with a function of its library, and the engine stops; vLLM's
    own n-gram drafter, which has numba as well, stops the next engine of its process in the same way.
    """
    try:
        kind = type(importlib.import_module("llvmlite.binding.ffi").lib)
        own = kind.__getattr__
    except (ImportError, AttributeError):
        return

    def named(handle: Any, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return own(handle, name)

    kind.__getattr__ = named


_let_others_look()


class MetaSDProposer:
    """Made by vLLM with its ``VllmConfig``; settings come from ``additional_config["metasd"]``.

    Raises UsageError, which vLLM reports and stops at, for a configuration that cannot work.
    """

    def __init__(self, vllm_config: Any) -> None:
        settings = (vllm_config.additional_config or {}).get("metasd", {})
        config = Config.read(settings)
        most = vllm_config.speculative_config.num_speculative_tokens
        model = vllm_config.model_config
        self.adapter = Adapter(config, most=most, max_length=model.max_model_len, target=str(model.model))
        self._metrics = Metrics()
        self._said = time.monotonic()
        atexit.register(self.shutdown)

    def load_model(self, target_model: Any) -> None:
        """Asked for by the CPU runner; text drafters need no model."""

    def propose(
        self, sampled_token_ids: list[list[int]], num_tokens_no_spec: Any, token_ids_cpu: Any, slot_mappings: Any = None
    ) -> list[list[int]]:
        """Drafts by row; see ``Adapter.propose``."""
        drafts = self.adapter.propose(sampled_token_ids, num_tokens_no_spec, token_ids_cpu)
        if time.monotonic() - self._said >= self.adapter.config.log_every:
            self._say()
        return drafts

    def shutdown(self) -> None:
        """Say and keep everything a last time."""
        self._say()
        self._keep(self.adapter.close)

    def _say(self) -> None:
        self._said = time.monotonic()
        _LOG.info(self.adapter.counters.line())
        if self.adapter.failed is not None:
            _LOG.warning("MetaSD: nothing is recorded any more: %s", self.adapter.failed)
        self._metrics.tell(self.adapter.counters.to_json())
        self._keep(self._write_stats)
        self._keep(self.adapter.save_if_due)

    def _write_stats(self) -> None:
        if self.adapter.config.stats is not None:
            text = jsontext.dumps(self.adapter.counters.to_json(), indent=1) + "\n"
            files.write_text(Path(self.adapter.config.stats), text)

    def _keep(self, write: Any) -> None:
        """A full disk must not stop a server that is answering: it is said instead."""
        try:
            write()
        except FileError as error:
            _LOG.warning("MetaSD: %s", error)
