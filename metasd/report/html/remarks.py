"""What a page says beside its numbers: remarks on drafters, and how a live run did against its replay."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metasd.report.html.markup import part, save, text
from metasd.report.html.tables import forecast_table

Document = Mapping[str, Any]


def remarks(document: Document, trace: Mapping[str, Any] | None) -> str:
    """A line each: drafters of ``trace`` that are nearly one or cost more than they save; of a run, its warnings."""
    run = [] if document["traces"] else [*document.get("remarks", []), *document.get("losses", [])]
    lines = run if trace is None else trace.get("notes", [])
    return "".join(f'<p class="what note">{text(line)}</p>' for line in lines)


def live(document: Document) -> str:
    """Replay's clock against live, and the rounds that differ; nothing where no trace was beside the run."""
    forecasts = [f for f in document.get("forecasts") or [] if f["predicted"] is not None]
    fidelity = document.get("fidelity")
    if not forecasts and not fidelity:
        return ""
    what = "What a replay of the trace promised of each policy, and what the run came to; the error is the promise's."
    if fidelity:
        what = (
            f"{fidelity['rounds']:,} rounds run, {fidelity['differing']:,} of them differ from the replay; "
            f"{fidelity['texts_differing']:,} texts differ from the recorded ones. {what}"
        )
    return part("forecasts", "Replay against live", what, forecast_table(forecasts), save("csv", "Replay against live"))
