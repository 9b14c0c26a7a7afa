"""``metasd reproduce``: the experiments of the paper on a recorded trace, as a page with figures."""

from __future__ import annotations

from pathlib import Path

import click

from metasd import __version__
from metasd.cli.common import TRACE_HELP, FilePath, emit, json_option, once, progress_console, result_console
from metasd.core import shown

QUICK_SEEDS, SEEDS = 2, 10
NAMES = ("policies", "feedback", "choices", "shift", "switches", "every")


@click.command("reproduce")
@click.option(
    "--trace", "source", multiple=True, default=("reference",), show_default=True, callback=once, help=TRACE_HELP
)
@click.option("--shifted", metavar="TRACE", help="One of the same drafters on two-task, reworded and other prompts.")
@click.option(
    "--out", type=FilePath, default=Path("reproduction"), show_default=True, help="Folder of what was measured."
)
@click.option("--page", type=FilePath, help="The page to write. Default: OUT/reproduction.md.")
@click.option("--images", type=FilePath, help="Folder of its figures. Default: beside the page.")
@click.option("--only", "names", multiple=True, metavar="NAME", help=f"{', '.join(NAMES)} (repeat).")
@click.option(
    "--seeds", type=click.IntRange(1, 1000), help=f"Repetitions. Default: {SEEDS}, with --quick {QUICK_SEEDS}."
)
@click.option("--quick", is_flag=True, help="Fewer seeds and points: minutes, for a check.")
@json_option
def command(
    source: str,
    shifted: str | None,
    out: Path,
    page: Path | None,
    images: Path | None,
    names: tuple[str, ...],
    seeds: int | None,
    quick: bool,
    as_json: bool,
) -> None:
    """Put the paper to the test on a trace. What is done already in OUT is kept, so an interrupted run goes on."""
    from metasd.core import files
    from metasd.core.results import document
    from metasd.report import reproduction
    from metasd.sim.reproduce import registry
    from metasd.traces import open_trace

    trace, log = open_trace(source), progress_console()
    other = None if shifted is None else open_trace(shifted)
    used = seeds or (QUICK_SEEDS if quick else SEEDS)

    def said(name: str, kept: bool) -> None:
        log.print(f"{name}: {'kept from before' if kept else 'measuring'}")

    found = registry.run(trace, out, names=names, seeds=used, quick=quick, shifted=other, said=said)
    page = page or out / "reproduction.md"
    images = images or page.parent
    drafters = ", ".join(d.name for d in trace.drafters)
    facts: dict[str, object] = {
        "version": __version__,
        "prompts": len(trace),
        "trace": trace.name,
        "drafters": drafters,
        "seeds": used,
    }
    facts["quick"] = ", `--quick`" if quick else ""
    called = f"metasd reproduce --trace {source}" + (f" --shifted {shifted}" if shifted else "")
    called += f" --seeds {seeds}" if seeds else ""
    called += " --quick" if quick else ""
    inside = images.relative_to(page.parent).as_posix() if images.is_relative_to(page.parent) else images.as_posix()
    text, figures = reproduction.page(found, facts, called, inside, page.stem)
    if figures:
        files.make_folder(images)
    for name, picture in figures.items():
        files.write_text(images / name, picture)
    files.write_text(page, text)
    if as_json:
        emit(
            document(
                "reproduce", {"trace": source, "shifted": shifted, "seeds": used, "quick": quick}, [], experiments=found
            )
        )
        return
    reproduction.show_findings(found, result_console())
    click.echo(shown.line(f"page: {page}"))
