"""``metasd pool show``: what a pool of specialists holds, and which of them suits which domain of a trace."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from metasd.cli.common import FilePath, emit, json_option, once, result_console
from metasd.core import jsontext, shown
from metasd.core.errors import UsageError

if TYPE_CHECKING:
    from metasd.traces import Trace

MANIFEST = "manifest.json"


@click.group("pool")
def group() -> None:
    """Pools of specialists that metasd distill wrote."""


@group.command("show")
@click.argument("folder", type=FilePath, metavar="POOL")
@click.option(
    "--trace", "source", multiple=True, callback=once, help="A trace recorded with the pool's drafters: tokens a round."
)
@click.option("--svg", type=FilePath, help="Write the domains x drafters matrix of --trace as a heat map.")
@json_option
def show(folder: Path, source: str | None, svg: Path | None, as_json: bool) -> None:
    """Show a pool's specialists: size and training data; with --trace also tokens a round by domain, and cost."""
    from metasd.core import files
    from metasd.core.results import document
    from metasd.report.matrix import picture, show_matrix, show_members
    from metasd.traces import open_trace

    if svg is not None and source is None:
        raise UsageError(f"--svg {svg} draws what --trace says; give a trace recorded with the pool's drafters")
    manifest = read(folder)
    members = list(specialists(folder, manifest))
    cells: list[dict[str, Any]] = []
    crossings: list[dict[str, Any]] = []
    if source is not None:
        cells, crossings = _measured(open_trace(source), members, source)
    facts = {"target": manifest["config"].get("target"), "complete": manifest.get("complete"), **_data(manifest)}
    if svg is not None:
        files.write_text(svg, picture(f"{folder.name}: tokens per round", cells, members))
    if as_json:
        told = {"facts": facts, "members": members, "matrix": cells, "crossings": crossings}
        emit(document("pool", {"pool": folder.name, "trace": source}, [], **told))
        return
    show_members(facts, members, result_console())
    if cells:
        show_matrix(cells, members, crossings, result_console())
    else:
        click.echo(
            shown.line(f"tokens a round: metasd record --prompts eval --drafter {folder} --out TRACE, then --trace")
        )


def read(folder: Path) -> dict[str, Any]:
    """The manifest of a pool. Raises UsageError for a folder without one."""
    try:
        found = jsontext.loads((folder / MANIFEST).read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{folder} is no pool ({shown.reason(error)}); make one with metasd distill") from None
    if not isinstance(found, dict) or not isinstance(found.get("config"), dict) or "tables" not in found:
        raise UsageError(f"{folder / MANIFEST} is not that of a pool; make one with metasd distill")
    return found


def specialists(folder: Path, manifest: Mapping[str, Any]) -> Sequence[dict[str, Any]]:
    """One row a specialist of any kind: a list in the manifest called ``KINDs`` whose rows name domain and file."""
    found = []
    for key, rows in manifest.items():
        for row in rows if isinstance(rows, list) and key.endswith("s") and key != "answers" else []:
            if not isinstance(row, dict) or not {"domain", "file"} <= set(row):
                continue
            kept = {k: row.get(k) for k in ("domain", "file", "bytes", "answers", "tokens")}
            path = folder / str(row["file"])
            digest = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
            found.append({"kind": key.removesuffix("s"), **kept, "sha256": digest, "drafter": None, "token_cost": None})
    return found


def _data(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The prompts that the pool was trained on: their hash, and the name of the shipped set that it is."""
    from metasd.core import builtin
    from metasd.core.prompts import prompts_hash

    known = manifest["config"].get("prompts")
    named = [name for name in builtin.SETS if prompts_hash(builtin.load(name)) == known]
    return {"prompts": known, "set": named[0] if named else None}


def _measured(
    trace: Trace, members: Sequence[dict[str, Any]], source: str
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Cells of the matrix, and what each specialist gains on its own domain; names the drafter of every member.

    Raises UsageError where the trace holds none of the pool's drafters.
    """
    from metasd.sim.compare.matrix import Matrix, token_costs

    matrix = Matrix(trace)
    costs = token_costs(trace.costs, trace.pool())
    for member in members:
        own = next((d for d in trace.drafters if d.kind == member["kind"] and _same(d.settings, member)), None)
        if own is not None:
            member["drafter"] = own.name
            member["token_cost"] = None if costs is None else costs[own.name]
    if not any(m["drafter"] for m in members):
        raise UsageError(f"trace {source} holds none of the pool's drafters; record one with --drafter POOL")
    return matrix.cells(), list(_crossings(matrix, members))


def _same(settings: Mapping[str, Any], member: Mapping[str, Any]) -> bool:
    """Whether a drafter of a trace is the pool's: by the hash of its file, or by its path where it has none."""
    if settings.get("sha256") is not None:
        return settings["sha256"] == member["sha256"]
    return Path(str(settings.get("path", ""))).name == Path(str(member["file"])).name


def _crossings(matrix: Any, members: Sequence[Mapping[str, Any]]) -> Sequence[dict[str, Any]]:
    """By specialist whose domain the trace has: tokens a round over the best foreign one's and over one-for-all's."""
    from metasd.core.prompts import TOTAL

    arms = {m["drafter"]: matrix.pool.index(m["drafter"]) for m in members if m["drafter"]}
    found = []
    for member in members:
        if member["drafter"] is None or member["domain"] not in matrix.domains or member["domain"] == TOTAL:
            continue
        kin = [m for m in members if m["drafter"] and m["kind"] == member["kind"] and m is not member]
        foreign = [arms[m["drafter"]] for m in kin if m["domain"] != TOTAL]
        rounds = matrix.rounds[matrix.rows(member["domain"])].sum(axis=0)
        rivals = {"foreign": min(foreign, key=lambda k: rounds[k], default=None)}
        rivals["one_for_all"] = next((arms[m["drafter"]] for m in kin if m["domain"] == TOTAL), None)
        for against, other in rivals.items():
            if other is not None:
                times = matrix.times(member["domain"], arms[member["drafter"]], other)
                row = {"drafter": member["drafter"], "domain": member["domain"], "against": against}
                row |= {"other": matrix.pool.arms[other].name, "times": times.value, "interval": times.interval}
                found.append(row)
    return found
