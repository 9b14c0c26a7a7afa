"""What tables that keep several continuations of a run add to the planner, on texts they were not counted on.

python tools/branching.py [--best 3]

Tables, one over all texts and one of chat, code and math each, are counted on the answers of
``reference-2:part=train``, once with one continuation a run and once with several. The planner then plays
``reference-2:part=test`` with them and lookup: cold, carried over the prompts, by modelled clocks and with as many
nodes as it likes; with and without its own grown table.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from metasd.core import clocks
from metasd.core.costs import CostModel
from metasd.core.pool import DrafterInfo, Pool
from metasd.drafters.ngrams import NgramTable
from metasd.drafters.table import TableDrafter
from metasd.policies import make
from metasd.sim.replay.run import replay
from metasd.traces import Trace, open_trace

TRAIN, TEST = "reference-2:part=train", "reference-2:part=test"
NODES = (8, 16, 32)
KNOWN = ("table", "table-code", "table-math", "table-chat")
"""What the clocks know; only the passes of the target cost anything there."""


def counted(trace: Trace, folder: Path, best: int) -> list[tuple[str, Path]]:
    """Tables of the answers of ``trace``: name and file of the one over all, then of three domains."""
    known = next(TableDrafter(str(d.settings["path"])) for d in trace.drafters if d.kind == "table").table
    assert isinstance(known, NgramTable)
    about = {"tokenizer": known.info.tokenizer, "vocabulary": known.info.vocabulary}
    answers = [trace.tokens[trace.offsets[i] : trace.offsets[i + 1]].tolist() for i in range(len(trace))]
    made = []
    for domain in ("all", "chat", "code", "math"):
        own = [a for a, d in zip(answers, trace.domains, strict=True) if domain in ("all", d)]
        path = folder / f"{domain}-{best}.safetensors"
        NgramTable.build(own, tokenizer=about["tokenizer"], vocabulary=about["vocabulary"], best=best).save(path)
        made.append((domain, path))
    return made


def with_tables(trace: Trace, made: Sequence[tuple[str, Path]]) -> Trace:
    """``trace`` as if its pool were lookup and ``made``. Plans need no recorded columns, so these stay as they are."""
    lookup = next(d for d in trace.drafters if d.kind == "lookup")
    infos = [
        DrafterInfo(name, "table", True, True, settings={"path": str(path), "draft_length": 8})
        for name, (_, path) in zip(KNOWN, made, strict=True)
    ]
    drafters = (lookup, *infos)
    pool = Pool(drafters, [*((d, 3) for d in range(len(drafters))), (-1, 0)])
    few = {name: getattr(trace, name) for name in ("draft_lengths", "proposed", "accepted")}
    few = {name: array[..., : len(drafters)] for name, array in few.items()}
    cut: dict[str, None] = dict.fromkeys(("overlap", "confidence", "draft_tokens", "signals", "column_text"))
    manifest = {**trace.manifest, "pool": pool.to_json()}
    return replace(trace, drafters=drafters, manifest=manifest, costs=None, **few, **cut)


def main() -> None:
    """Print tokens per round, nodes per round and tokens per second for one continuation and for several."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--best", type=int, default=3, help="continuations kept of a run")
    best = parser.parse_args().best
    train, test = open_trace(TRAIN), open_trace(TEST)
    with tempfile.TemporaryDirectory() as folder:
        worlds = {n: with_tables(test, counted(train, Path(folder), n)) for n in (1, best)}
        bytes_of = {n: sum(p.stat().st_size for p in Path(folder).glob(f"*-{n}.safetensors")) for n in worlds}
        sys.stdout.write(f"bytes of tables: {bytes_of[1]} with 1 continuation, {bytes_of[best]} with {best}\n")
        cases = [(f"nodes {n}", None, f"objective=rounds,nodes={n}") for n in NODES]
        cases += [(c, CostModel.load(clocks.CLOCKS / f"{c}.json"), "objective=time") for c in clocks.shipped()]
        for grown in (20_000, 0):
            for name, costs, settings in cases:
                for n, world in worlds.items():
                    policy = make(f"planner:{settings},grown={grown}")
                    totals = replay(world, policy, costs=costs).ledger.totals()
                    speed = "" if not totals.seconds else f"{totals.emitted / totals.seconds:9.1f} tok/s"
                    rounds = (
                        f"{totals.emitted / totals.rounds:7.3f} tok/round{totals.checked / totals.rounds:7.2f} nodes"
                    )
                    sys.stdout.write(f"grown {grown:<7}{name:<10}best {n}{rounds}{speed}\n")
                    sys.stdout.flush()


if __name__ == "__main__":
    main()
