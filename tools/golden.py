"""Write the golden counts of every policy on the reference trace: run it when a change of them is intended.

python tools/golden.py
"""

from __future__ import annotations

import json
from pathlib import Path

from metasd.sim.compare.run import default_policies
from metasd.sim.oracle.regret import rows
from metasd.sim.replay.run import replay
from metasd.traces.find import find_trace
from metasd.traces.shipped import REFERENCE

GOLDEN = Path(__file__).parents[1] / "tests" / "traces" / "golden.json"
KEYS = ("rounds", "drafted", "accepted", "emitted", "switches", "catch_up")


def counts(spec: str) -> dict[str, float]:
    """The total row of one policy, seed 0."""
    total = rows(replay(find_trace(REFERENCE), spec))[-1]
    return {key: total[key] for key in KEYS}


def main() -> None:
    """Rewrite the file."""
    table = {spec: counts(spec) for spec in default_policies()}
    lines = (f"  {json.dumps(spec)}: {json.dumps(row)}" for spec, row in table.items())
    GOLDEN.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    print(f"{len(table)} policies in {GOLDEN.name}")


if __name__ == "__main__":
    main()
