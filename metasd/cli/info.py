"""``metasd policies``, ``metasd drafters``, ``metasd env``: what there is."""

from __future__ import annotations

import inspect
import os
import platform
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from metasd.cli.common import emit, json_option, result_console
from metasd.core import jsontext
from metasd.core.pool import DRAFT_LENGTH, DRAFT_LENGTHS

if TYPE_CHECKING:
    from metasd.policies import Policy


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").split("\n", 1)[0]


def _show(rows: list[dict[str, Any]], as_json: bool, kind: str, **more: Any) -> None:
    if as_json:
        from metasd.core.results import document

        emit(document(kind, {}, [], **{kind: rows}, **more))
        return
    from rich.table import Table

    from metasd.report.cells import words

    table = Table(box=None, pad_edge=False)
    for heading in ("name", "settings", "what it does"):
        table.add_column(heading, overflow="fold")
    for row in rows:
        settings = ", ".join(f"{k}={v}" for k, v in row["settings"].items())
        table.add_row(*(words(said, limit=None) for said in (row["name"], settings, row["help"])))
    result_console().print(table)


def _settings(factory: Any) -> dict[str, Any]:
    from metasd.core.specs import parameters

    return {k: None if p.default is p.empty else p.default for k, p in parameters(factory).items()}


@click.command("policies")
@json_option
def policies(as_json: bool) -> None:
    """List the policies and their settings."""
    from metasd.core.errors import UsageError
    from metasd.policies import POLICIES, plugins

    rows = [_policy(name, policy) for name, policy in POLICIES.items()]
    for name, point in plugins.entry_points().items():
        try:
            rows.append(_policy(name, plugins.from_entry_point(point)))
        except UsageError as error:
            rows.append({"name": name, "settings": {}, "feedback": None, "reset": None, "help": str(error)})
    _show(rows, as_json, "policies")


def _policy(name: str, policy: type[Policy]) -> dict[str, Any]:
    return {
        "name": name,
        "settings": _settings(policy),
        "feedback": policy.feedback,
        "reset": policy.default_reset,
        "help": _first_line(policy),
    }


@click.command("drafters")
@json_option
def drafters(as_json: bool) -> None:
    """List the drafters, their settings, and the pools that are used without --drafter."""
    from metasd.runtime.registry import DEFAULT_POOL, DRAFTERS, SMOLLM2_POOL

    rows = [{"name": name, "settings": _as_run(d.settings), "help": d.help} for name, d in DRAFTERS.items()]
    pools = {"smollm2": list(SMOLLM2_POOL), "any other target": list(DEFAULT_POOL)}
    _show(rows, as_json, "drafters", default_pools=pools)
    if not as_json:
        for target, specs in pools.items():
            click.echo(f"without --drafter, {target}: {', '.join(specs)}")
        click.echo(f"without --drafter and --draft-length, each at {', '.join(map(str, DRAFT_LENGTHS))} tokens")


def _as_run(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as the commands fill them in."""
    return {k: DRAFT_LENGTH if k == "draft_length" else v for k, v in settings.items()}


@click.command("env")
@json_option
def env(as_json: bool) -> None:
    """Show versions and machine, for a bug report."""
    from metasd.core.results import document, versions

    machine = {"platform": platform.platform(), "cores": os.cpu_count(), "accelerator": _accelerator()}
    if as_json:
        emit(document("env", {}, [], **machine))
    else:
        click.echo(jsontext.dumps({"versions": versions()} | machine, indent=2))


def _accelerator() -> str | None:
    """The first CUDA device, None without torch or without one."""
    try:
        import torch
    except ImportError:
        return None
    return str(torch.cuda.get_device_name(0)) if torch.cuda.is_available() else None
