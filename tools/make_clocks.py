"""Write the modelled clocks of ``metasd/data/clocks`` from their formula.

python tools/make_clocks.py

The target's pass is SpecDecode-Bench's fit of an H100 (arXiv 2601.11580): 7.09 ms + b (21.0 us width + 39 ns kv), and
EAGLE's 2.135 ms + b 0.84 us a token. ``skip`` is priced as 0.8 of a pass of the target a token. Nothing here was
measured.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from metasd.core.clocks import CLOCKS
from metasd.core.costs import CostModel

PASS, TOKEN, KV = 7.09e-3, 21.0e-6, 39e-9
EAGLE, EAGLE_TOKEN = 2.135e-3, 0.84e-6
SKIP = 0.8
WIDEST = 65
FREE = ("lookup", "table", "table-code", "table-math", "table-chat")
SOURCE = "SpecDecode-Bench, arXiv 2601.11580; not measured here"
FORMULA = "7.09 ms + b (21.0 us width + 39 ns kv); eagle 2.135 ms + b 0.84 us a token; skip 0.8 of a pass a token"


def clock(batch: int) -> CostModel:
    """The clock of ``batch`` sequences decoded side by side."""
    names = (*FREE, "skip", "eagle", "eagle3")
    fixed, each, again, reread = (np.zeros(len(names)) for _ in range(4))
    skip, eagles = names.index("skip"), [names.index("eagle"), names.index("eagle3")]
    each[skip], again[skip], reread[skip] = SKIP * (PASS + batch * TOKEN), SKIP * PASS, SKIP * batch * TOKEN
    fixed[eagles], each[eagles] = EAGLE, batch * EAGLE_TOKEN
    widths = np.array([1.0, float(WIDEST)])
    return CostModel(
        drafters=names,
        widths=widths,
        verify_seconds=PASS + batch * TOKEN * widths,
        draft_fixed=fixed,
        draft_per_token=each,
        catch_up_fixed=again,
        catch_up_per_token=reread,
        context=0.0,
        verify_per_context=batch * KV,
        measured={
            "modelled": f"H100, batch {batch}: {FORMULA} (SpecDecode-Bench, arXiv 2601.11580); not measured here"
        },
    )


def main(folder: Path = CLOCKS) -> None:
    """Write both."""
    folder.mkdir(exist_ok=True)
    for batch in (1, 32):
        clock(batch).save(folder / f"gpu-b{batch}.json")
        print(f"gpu-b{batch}.json")


if __name__ == "__main__":
    main()
