"""``metasd bench serve``: drive running servers with a prompt file and say how fast they answer."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from metasd.cli.common import PROMPTS_HELP, FilePath, emit, json_option, result_console
from metasd.core import files, shown
from metasd.core.errors import UsageError
from metasd.core.limits import LONGEST_TEXT
from metasd.core.progress import bar

if TYPE_CHECKING:
    from metasd.core.prompts import Prompt
    from metasd.serve.bench.client import Ask, Server

FAILED = 1
"""Exit code where requests failed: what was answered is measured and printed."""


@click.command("serve")
@click.option("--server", "urls", multiple=True, required=True, metavar="URL", help="http://host:port (repeat).")
@click.option("--prompts", "prompt_file", type=FilePath, required=True, help=PROMPTS_HELP)
@click.option(
    "--concurrency",
    "levels",
    type=click.IntRange(1, 4096),
    multiple=True,
    default=(1, 8, 32),
    show_default=True,
    help="Requests at a time (repeat).",
)
@click.option("--model", help="Model to ask for. Default: the first one that a server names.")
@click.option(
    "--max-new-tokens", type=click.IntRange(1, LONGEST_TEXT), default=128, show_default=True, help="Of an answer."
)
@click.option("--temperature", type=click.FloatRange(0.0), default=0.0, show_default=True)
@click.option("--raw", is_flag=True, help="Ask /v1/completions, without a chat template.")
@click.option("--ignore-eos", is_flag=True, help="Answers of full length (vLLM's extension of the protocol).")
@click.option("--timeout", type=click.FloatRange(0.1), default=600.0, show_default=True, help="Seconds of silence.")
@click.option("--svg", type=FilePath, help="Also write throughput and latency as a figure.")
@json_option
def command(
    urls: Sequence[str],
    prompt_file: Path,
    levels: Sequence[int],
    model: str | None,
    max_new_tokens: int,
    temperature: float,
    raw: bool,
    ignore_eos: bool,
    timeout: float,
    svg: Path | None,
    as_json: bool,
) -> int:
    """Ask running servers for the answers to a prompt file, at several concurrencies, one server after the other.

    The key of OPENAI_API_KEY is sent along. Prompts are asked again at every concurrency, so a server's prefix cache
    knows them from the second on.
    """
    from metasd.cli.models import read_prompts
    from metasd.core.results import document
    from metasd.report import serving
    from metasd.serve.bench.client import Ask

    if len(set(urls)) < len(urls):
        raise UsageError(f"--server names one server twice ({', '.join(urls)}); give each once")
    if svg is not None:
        files.check_place(svg)
    prompts = read_prompts(prompt_file, None, "first")
    if raw:
        _check_raw(prompts)
    contenders = [
        (server, Ask(_model(server, model), max_new_tokens, temperature, raw, ignore_eos))
        for server in _opened(urls, timeout)
    ]
    rows, remarks = _measured(contenders, prompts, list(dict.fromkeys(levels)))
    config = {"prompts": prompt_file.name, "concurrency": list(levels), "max_new_tokens": max_new_tokens}
    config |= {"temperature": temperature, "raw": raw, "ignore_eos": ignore_eos, "timeout": timeout}
    if svg is not None:
        files.write_text(svg, serving.figure(rows))
    for remark in remarks:
        click.echo(shown.line(f"warning: {remark}"), err=True)
    if as_json:
        emit(document("bench serve", config, rows, remarks=remarks))
    else:
        serving.show(rows, result_console())
    return FAILED if any(row["failed"] for row in rows) else 0


def _opened(urls: Sequence[str], timeout: float) -> list[Server]:
    from metasd.serve.bench.client import Server

    return [Server(url, key=os.environ.get("OPENAI_API_KEY"), timeout=timeout) for url in urls]


def _model(server: Server, wanted: str | None) -> str:
    """The model to ask ``server`` for. Raises UsageError where it does not serve it, or nobody answers."""
    there = server.models()
    if not there:
        raise UsageError(f"server {server.url} serves no model; start it with one")
    if wanted is not None and wanted not in there:
        raise UsageError(
            f"server {server.url} does not serve {wanted!r}, but {', '.join(there)}; give one with --model"
        )
    return wanted or there[0]


def _check_raw(prompts: Sequence[Prompt]) -> None:
    long = next((p for p in prompts if p.before), None)
    if long is not None:
        raise UsageError(f"prompt {long.id!r} is a conversation, which --raw cannot ask for; leave --raw out")


def _measured(
    contenders: Sequence[tuple[Server, Ask]], prompts: Sequence[Prompt], levels: Sequence[int]
) -> tuple[list[dict[str, Any]], list[str]]:
    """A row for every server and concurrency, and all remarks, each once; every server is asked once beforehand."""
    from metasd.serve.bench.client import ServerError
    from metasd.serve.bench.drive import measure

    for server, ask in contenders:
        try:
            server.answer(*ask.body(prompts[0].messages(()), prompts[0].stop))
        except ServerError as error:
            raise UsageError(f"server {server.url} does not answer prompt {prompts[0].id!r}: {error}") from error
    rows, remarks = [], list[str]()
    with bar(len(contenders) * len(levels) * len(prompts), "asking (requests)") as advance:
        for level in levels:
            for server, ask in contenders:
                row, said = measure(server, ask, prompts, level, advance)
                rows.append(row)
                remarks += said
    return rows, list(dict.fromkeys(remarks))
