"""``metasd compare``: many policies on many traces, with intervals, as a table, JSON, CSV and one HTML page."""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path
from typing import Any

import click

from metasd.cli.common import (
    COSTS_HELP,
    POLICY_HELP,
    TRACE_HELP,
    FilePath,
    emit,
    json_option,
    load_costs,
    load_prior,
    prior_option,
    reset_option,
    result_console,
    say_approximate,
    seeds_option,
    unaligned_option,
)


@click.command("compare")
@click.option("--trace", "sources", multiple=True, required=True, help=TRACE_HELP)
@click.argument("more", nargs=-1, metavar="[DIR]...")
@click.option("--policy", "specs", multiple=True, metavar="SPEC", help=f"{POLICY_HELP}. Default: all.")
@seeds_option(10)
@click.option("--by-domain", is_flag=True, help="Also print a table a domain.")
@click.option("--reference", metavar="POLICY", help="Differences are taken to it. Default: the best fixed arm.")
@click.option("--draft-length", type=int, help="Cut every arm to this draft length. Default: as recorded.")
@click.option("--costs", type=FilePath, help=COSTS_HELP)
@prior_option
@reset_option
@click.option("--workers", type=click.IntRange(min=1), help="Processes. Default: one a core.")
@click.option("--backend", type=click.Choice(["loky", "dask", "ray"]), default="loky", help="What runs them.")
@click.option("--address", metavar="URL", help="Scheduler of a Dask or Ray cluster. Default: one started here.")
@click.option("--resume", type=FilePath, metavar="DIR", help="Keep finished parts in DIR and go on from them.")
@unaligned_option
@json_option
@click.option("--csv", "csv_file", type=FilePath, metavar="FILE", help="Also write the rows as CSV.")
@click.option("--html", "html_file", type=FilePath, metavar="FILE", help="Also write a self-contained HTML report.")
def command(
    sources: tuple[str, ...],
    more: tuple[str, ...],
    specs: tuple[str, ...],
    seeds: int,
    by_domain: bool,
    reference: str | None,
    draft_length: int | None,
    costs: Path | None,
    prior: Path | None,
    reset: str | None,
    workers: int | None,
    backend: str,
    address: str | None,
    resume: Path | None,
    include_unaligned: bool,
    as_json: bool,
    csv_file: Path | None,
    html_file: Path | None,
) -> None:
    """Compare policies on recorded traces: leaderboard with 95 % intervals clustered by prompt, paired differences.

    Further trace folders may follow the first: --trace A B C. Without --policy, every policy that needs no setting
    and can run on the traces takes part. With --prior, policies that take one play with and without it.
    """
    from metasd.core import files
    from metasd.core.progress import bar
    from metasd.report.leaderboard import show
    from metasd.sim.compare.leaderboard import document
    from metasd.sim.compare.run import compare

    for file in filter(None, (csv_file, html_file)):
        files.check_place(file)
    outcome = compare(
        [*sources, *more],
        specs,
        seeds,
        workers=workers,
        backend=backend,
        address=address,
        prior=load_prior(prior),
        reset=reset,
        draft_length=draft_length,
        costs=load_costs(costs),
        include_unaligned=include_unaligned,
        resume_dir=resume,
        progress=bar,
    )
    if prior is not None:
        outcome.config["prior"] = {"file": prior.name, "sha256": sha256(prior.read_bytes()).hexdigest()}
    result = document(outcome, reference=reference)
    for trace in result["traces"]:
        if not trace["exact"]:
            say_approximate(f"{trace['name']}: {trace['approximation']}")
    if as_json:
        emit(result)
    else:
        show(result, result_console(), by_domain=by_domain)
    _write(result, csv_file, html_file)


def _write(result: dict[str, Any], csv_file: Path | None, html_file: Path | None) -> None:
    """The files that were asked for."""
    if csv_file is not None:
        from metasd.report.csv import write_csv

        write_csv(result["results"], csv_file)
    if html_file is not None:
        from metasd.report.html.page import write_report

        write_report(result, html_file)
