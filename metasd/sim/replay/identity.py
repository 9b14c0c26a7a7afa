"""Whether a trace speaks of the texts that a run decodes: the same target, settings and prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from metasd.core.errors import UsageError
from metasd.sim.replay.fidelity import positions
from metasd.traces import Trace, take_prompts

_OF_TARGET = ("tokenizer", "vocabulary", "revision", "dtype")
UNKNOWN = "unknown"


def check_same_texts(
    trace: Trace, identity: Mapping[str, Any], prompts: Sequence[tuple[str, Sequence[int]]], budget: int
) -> None:
    """Raises UsageError, naming what differs, unless ``trace`` was recorded of what is run.

    identity: what the manifest's config says of a target and its settings, of the run. What an older or imported trace
        does not say is not compared.
    prompts: (id, token ids) of the run. budget: its tokens a text.
    """
    config = trace.manifest.get("config", {})
    recorded = config.get("target")
    if isinstance(recorded, Mapping):
        _check_target(trace, recorded, identity["target"])
        _check_settings(trace, config, identity["generation"], budget)
    same = take_prompts(trace, positions(trace, [name for name, _ in prompts]))
    if same.prompt_tokens is None:
        return
    for (name, tokens), told in zip(
        prompts, np.split(same.prompt_tokens, np.cumsum(same.prompt_lengths)[:-1]), strict=True
    ):
        if list(tokens) != told.tolist():
            raise UsageError(
                f"prompt {name!r} is another text in trace {trace.name} ({len(told)} tokens there, {len(tokens)} here, "
                "or other ones, as of a template that prints the date); run the recorded prompts, or record these"
            )


def _check_target(trace: Trace, recorded: Mapping[str, Any], run: Mapping[str, Any]) -> None:
    keys = ["name"] if UNKNOWN in (recorded.get("revision"), run["revision"]) else []
    for key in (*_OF_TARGET, *keys):
        told, mine = recorded.get(key, UNKNOWN), run[key]
        if UNKNOWN not in (told, mine) and told != mine:
            raise UsageError(
                f"trace {trace.name} was recorded with target {recorded.get('name')} ({key} {told}), the run is of "
                f"{run['name']} ({key} {mine}); give a trace of this target, or record one"
            )


def _check_settings(trace: Trace, config: Mapping[str, Any], run: Mapping[str, Any], budget: int) -> None:
    told = config.get("generation", {})  # an older recording applied none
    names = sorted(name for name in {*told, *run} if told.get(name) != run.get(name))
    if names:
        mend = "run with --ignore-generation-config, or record anew" if not told else "record anew"
        raise UsageError(
            f"trace {trace.name} was recorded with other generation settings ({', '.join(names)}) than the run's; "
            f"{mend}"
        )
    if "forced_eos_token_id" in run and budget != config.get("max_new_tokens"):
        raise UsageError(
            f"the target forces a text's last token (forced_eos_token_id), so --max-new-tokens {budget} gives other "
            f"texts than trace {trace.name}; use {config.get('max_new_tokens')}"
        )
