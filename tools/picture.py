"""Draws docs/images/regret.svg anew: the regret figure of a report on the reference trace, by a headless Chromium.

From the root of the repository: ``PYTHONPATH=tests/support python tools/picture.py``.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from browser import browser

from metasd.core import files
from metasd.report.html.page import write_report
from metasd.sim.compare.leaderboard import document
from metasd.sim.compare.run import compare

ROOT = Path(__file__).parents[1]
POLICIES = ("default", "ratio-ucb", "metasd-ucb", "linucb")


def main() -> None:
    """Compare, open the report, take the picture that its button hands out."""
    arguments = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    arguments.add_argument("--seeds", type=int, default=10)
    arguments.add_argument("--out", type=Path, default=ROOT / "docs" / "images" / "regret.svg")
    given = arguments.parse_args()
    made = document(compare(["reference"], POLICIES, given.seeds, workers=1))
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, browser(Path(folder)) as tab:
        write_report(made, Path(folder) / "report.html")
        tab.open((Path(folder) / "report.html").as_uri(), width=900)
        tab.wait("document.documentElement.dataset.ready === 'yes'")
        tab.do("document.querySelectorAll('.policies input').forEach((box) => box.checked || box.click())")
        files.write_text(given.out, tab.do("svgOf(document.querySelector('[data-plot=regret]'))"))


if __name__ == "__main__":
    main()
