"""Parallel comparisons from a script: no guard around its main part, and policies of the script's own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import metasd

SCRIPT = """
print("begun")
import metasd
from metasd.policies import IndexPolicy


class Own(IndexPolicy):
    def index(self, context):
        return 0 * self.n


made = metasd.compare(["synthetic:kind=iid,prompts=2,length=20"], ["random", Own], 2, workers=2)
print(made.config["policies"])
"""


def test_a_script_needs_no_guard_and_its_policies_travel(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    path = os.pathsep.join([str(Path(metasd.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("begun") == 1
    assert "Own" in done.stdout
    assert "random" in done.stdout
