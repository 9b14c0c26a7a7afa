"""Make the pool of trained drafters that reference-trained and its two relatives were recorded with.

python tools/make_pool.py POOL    # an hour or less on two idle cores; interrupted, it goes on when run again

Tables, heads and small models of SmolLM2 for code, mathematics, chat and questions, and one of each over all, made
from the target's answers to prompts that ship: those of ``distill``, and those of ``train`` in the same domains.
"""

from __future__ import annotations

import sys
import tempfile
from argparse import ArgumentParser
from pathlib import Path

from metasd.cli import main as metasd
from metasd.core import builtin, jsontext

SETS = ("distill", "train/code+math+chat+qa")


def main() -> int:
    """The command."""
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("pool", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pool.jsonl"
        prompts = [p for name in SETS for p in builtin.load(name)]
        file.write_text("\n".join(map(jsontext.dumps, builtin.rows(prompts))) + "\n", encoding="utf-8")
        words = ["distill", "--target", "smollm2", "--prompts", str(file), "--out", str(given.pool), "--kind", "all"]
        return metasd(words)


if __name__ == "__main__":
    sys.exit(main())
