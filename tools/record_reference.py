"""Record reference-2, the larger trace that ships with the package: prompts of 6 domains, 128 tokens each, 5 drafters.

python tools/record_reference.py OUT            # 20 to 60 minutes; interrupted, it goes on when run again
python tools/record_reference.py OUT --costs    # measures anew what rounds cost, nothing else

Texts and counts do not depend on how busy the machine is; costs do, so measure those while it is idle.
"""

from __future__ import annotations

import sys
from argparse import ArgumentParser
from pathlib import Path

from metasd.cli import main as metasd
from metasd.traces.format import COSTS, MANIFEST

DRAFTERS = ("lookup", "table:path=code", "table:path=math", "table:path=chat", "skip:layers=6")
LENGTH, BUDGET = 8, 128


def record(out: Path) -> int:
    """Begin or go on, and measure costs where there are none. Returns the exit code of ``metasd record``."""
    words = ["record", "--prompts", "reference-2", "--out", str(out)]
    words += ["--max-new-tokens", str(BUDGET), "--draft-length", str(LENGTH)]
    words += [word for spec in DRAFTERS for word in ("--drafter", spec)]
    return metasd(words + ["--resume"] * (out / MANIFEST).exists())


def main() -> int:
    """The command."""
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--costs", action="store_true", help="measure costs anew")
    given = parser.parse_args()
    if given.costs:
        (given.out / COSTS).unlink(missing_ok=True)
    return record(given.out)


if __name__ == "__main__":
    sys.exit(main())
