"""Record reference-2, which ships: 6 domains, 128 tokens a text, 5 drafters; or these on other kinds of prompts.

python tools/record_reference.py OUT            # reference-2: 20 to 60 minutes; interrupted, it goes on when run again
python tools/record_reference.py OUT --costs    # measures anew what rounds cost, nothing else
python tools/record_reference.py OUT --shifted  # two-task, reworded, untrained: for metasd reproduce --shifted OUT

Texts and counts do not depend on how busy the machine is; costs do, so measure those while it is idle.
"""

from __future__ import annotations

import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path

from metasd.cli import main as metasd
from metasd.core import builtin, jsontext
from metasd.core.prompts import Prompt
from metasd.traces.format import COSTS, MANIFEST

DRAFTERS = ("lookup", "table:path=code", "table:path=math", "table:path=chat", "skip:layers=6")
LENGTH, BUDGET = 8, 128
FIRST = {"two-task": 1, "reworded": 3, "eval/letters+recipes": 6}
"""Of each set of prompts, how many of every domain are recorded with --shifted."""


def record(out: Path, prompts: Path | str = "reference-2") -> int:
    """Begin or go on, and measure costs where there are none. Returns the exit code of ``metasd record``."""
    words = ["record", "--prompts", str(prompts), "--out", str(out)]
    words += ["--max-new-tokens", str(BUDGET), "--draft-length", str(LENGTH)]
    words += [word for spec in DRAFTERS for word in ("--drafter", spec)]
    return metasd(words + ["--resume"] * (out / MANIFEST).exists())


def shifted() -> list[Prompt]:
    """The prompts of --shifted: the first of every domain of each set of ``FIRST``."""
    chosen: list[Prompt] = []
    for name, most in FIRST.items():
        count: dict[str, int] = {}
        for prompt in builtin.load(name):
            count[prompt.domain] = count.get(prompt.domain, 0) + 1
            if count[prompt.domain] <= most:
                chosen.append(prompt)
    return chosen


def record_shifted(out: Path) -> int:
    """As ``record``, on the prompts of ``shifted``."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "shifted.jsonl"
        lines = [jsontext.dumps({"id": p.id, "domain": p.domain, "prompt": p.text}) for p in shifted()]
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return record(out, file)


def main() -> int:
    """The command."""
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--costs", action="store_true", help="measure costs anew")
    parser.add_argument("--shifted", action="store_true", help="other kinds of prompts instead")
    given = parser.parse_args()
    if given.costs:
        (given.out / COSTS).unlink(missing_ok=True)
    return record_shifted(given.out) if given.shifted else record(given.out)


if __name__ == "__main__":
    sys.exit(main())
