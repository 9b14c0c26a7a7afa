"""Record the traces that ship: reference-2, and those of trained drafters.

python tools/record_reference.py OUT                             # reference-2: 20 to 60 minutes
python tools/record_reference.py OUT --trained POOL              # reference-trained: evaluation prompts
python tools/record_reference.py OUT --trained POOL --shifted    # two tasks, reworded, domains nothing is trained on
python tools/record_reference.py OUT --trained POOL --sampled    # temperature 0.7
python tools/record_reference.py OUT ... --costs                 # measures anew what rounds cost

POOL is what tools/make_pool.py makes; its tables ship as pool-code, ... Interrupted, a recording goes on when run
again; ``metasd trace pack`` makes of it what ships. Texts and counts do not depend on how busy the machine is; costs
do, so record while it is idle.
"""

from __future__ import annotations

import sys
import tempfile
from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from pathlib import Path

from metasd.cli import main as metasd
from metasd.core import builtin, jsontext
from metasd.core.prompts import TOTAL, Prompt
from metasd.drafters.table import SHIPPED, SHIPPED_FOR
from metasd.traces.format import COSTS, MANIFEST

DRAFTERS = ("lookup", "table:path=code", "table:path=math", "table:path=chat", "skip:layers=6")
LENGTH, SHORT, BUDGET, WARM = 8, 4, 128, 0.7
"""Longest drafts, those of trained drafters (they were trained on three steps), tokens of a text, a temperature."""
MADE_FOR = ("code", "math", "chat", "qa", TOTAL)
"""What the pool's drafters were made for, those over all domains last."""
TASKS = "+".join(f"{a}-then-{b}" for a in MADE_FOR[:-1] for b in MADE_FOR[:-1] if a != b)
CLEAN = {"eval/code+math+chat+qa": 12, "eval/translation+summary": 3}
SHIFTED = {f"two-task/{TASKS}": 1, "reworded/code+math+chat+qa": 2, "eval/letters+recipes": 3}
SAMPLED = {"eval/code+math+chat+qa": 4}
"""Of each set of prompts, how many of every domain are recorded."""


def trained(pool: Path) -> list[str]:
    """The drafters of the pool; its tables ship with the package, so that plans can be replayed without the pool."""
    made = [f"table:path=pool-{domain},name=table-{domain}" for domain in MADE_FOR]
    for kind in ("head", "model"):
        made += [
            f"{kind}:path={pool / f'{kind}s' / domain},name={kind}-{domain},draft_length={SHORT}" for domain in MADE_FOR
        ]
    return ["lookup", *made]


def other_tables(pool: Path) -> list[str]:
    """Tables of ``pool`` that do not ship as they are, under the names they should have."""
    names = {domain: f"{SHIPPED_FOR}-pool-{domain}.safetensors" for domain in MADE_FOR}
    ships = {domain: (SHIPPED / name) for domain, name in names.items()}
    return [
        names[domain]
        for domain in MADE_FOR
        if not ships[domain].is_file() or ships[domain].read_bytes() != (pool / f"{domain}.safetensors").read_bytes()
    ]


def record(out: Path, prompts: Path | str, drafters: Sequence[str], temperature: float = 0.0) -> int:
    """Begin or go on, and measure costs where there are none. Returns the exit code of ``metasd record``."""
    words = ["record", "--prompts", str(prompts), "--out", str(out), "--temperature", str(temperature)]
    words += ["--max-new-tokens", str(BUDGET), "--draft-length", str(LENGTH)]
    words += [word for spec in drafters for word in ("--drafter", spec)]
    return metasd(words + ["--resume"] * (out / MANIFEST).exists())


def first(sets: Mapping[str, int]) -> list[Prompt]:
    """Of every set the first prompts of each of its domains, domains in turn, so that a part of them is of all."""
    chosen: list[Prompt] = []
    for name, most in sets.items():
        by_domain: dict[str, list[Prompt]] = {}
        for prompt in builtin.load(name):
            by_domain.setdefault(prompt.domain, []).append(prompt)
        chosen += [own[i] for i in range(most) for own in by_domain.values() if i < len(own)]
    return chosen


def record_first(out: Path, sets: Mapping[str, int], drafters: Sequence[str], temperature: float) -> int:
    """As ``record``, on the prompts of ``first``."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "prompts.jsonl"
        file.write_text("\n".join(map(jsontext.dumps, builtin.rows(first(sets)))) + "\n", encoding="utf-8")
        return record(out, file, drafters, temperature)


def main() -> int:
    """The command."""
    parser = ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("out", type=Path)
    parser.add_argument("--costs", action="store_true", help="measure costs anew")
    parser.add_argument("--trained", type=Path, metavar="POOL", help="with the drafters of a pool")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--shifted", action="store_true", help="other kinds of prompts")
    which.add_argument("--sampled", action="store_true", help=f"at temperature {WARM}")
    given = parser.parse_args()
    if (given.shifted or given.sampled) and given.trained is None:
        parser.error("--shifted and --sampled go with --trained POOL")
    if given.trained is not None and (other := other_tables(given.trained)):
        parser.error(f"the package ships other tables than {given.trained}: copy {', '.join(other)} to its data/tables")
    costs, aside = given.out / COSTS, given.out / f"{COSTS}.before"
    if given.costs and costs.exists():
        costs.rename(aside)
    if given.trained is None:
        done = record(given.out, "reference-2", DRAFTERS)
    else:
        sets = SHIFTED if given.shifted else SAMPLED if given.sampled else CLEAN
        done = record_first(given.out, sets, trained(given.trained), WARM if given.sampled else 0.0)
    if aside.exists() and not costs.exists():
        aside.rename(costs)
    aside.unlink(missing_ok=True)
    return done


if __name__ == "__main__":
    sys.exit(main())
