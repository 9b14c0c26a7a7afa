"""Deliberate mistakes that the tests must notice: applies each mutant of ``tools/mutants/*.toml`` and names survivors.

A mutant is one exact replacement in one file, with the tests that must fail for it:

    [[mutant]]
    name = "hedge-rate"                                  # unique
    file = "metasd/policies/full.py"
    old = "8 * math.log"                                 # must occur exactly once in the file
    new = "2 * math.log"
    tests = ["tests/policies/test_full.py::test_hedge_weights"]
    from = "audit, mutations"                            # which finding it comes from

First all selections run unmutated and must pass; then each mutant runs its own, in a scratch copy of the tree, restored
afterwards. Killed means that a test failed; a mutant that cannot be imported, or hangs, is no mutant and an error.
Exit code 0: all killed; 1: survivors; 2: a mutant or the selection is wrong.
"""

from __future__ import annotations

import argparse
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("metasd", "tests", "tools", "benchmarks", "docs", "pyproject.toml", "README.md", "tox.ini")
LIMIT = 300.0  # seconds that one selection may take
BASELINE_LIMIT = 3600.0  # and all of them together, unmutated
FOREIGN = 97  # exit code of a run that imported another metasd than the copy's
GUARD = f"""
import os, pathlib, pytest

def pytest_configure(config):
    import metasd
    if not pathlib.Path(metasd.__file__).is_relative_to(os.environ["MUTANTS_TREE"]):
        pytest.exit(f"metasd is imported from {{metasd.__file__}}, not from the scratch copy", returncode={FOREIGN})
"""


class MutantError(Exception):
    """A mutant or its selection is wrong: what and where, in one line."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One exact replacement and the tests that must fail for it; ``origin`` is the finding it comes from."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    origin: str

    def source(self, root: Path) -> Path:
        """Its file in the tree at ``root``. Raises MutantError if there is none."""
        if not (root / self.file).is_file():
            raise MutantError(f"mutant {self.name}: there is no file {self.file}")
        return root / self.file

    def applied(self, text: str) -> str:
        """``text`` of its file with the mistake in it. Raises MutantError unless ``old`` is in it once."""
        count = text.count(self.old)
        if self.old == self.new:
            raise MutantError(f"mutant {self.name} replaces its old text by itself")
        if count != 1:
            raise MutantError(f"mutant {self.name}: its old text occurs {count} times in {self.file}, not once")
        return text.replace(self.old, self.new)


def load(folder: Path) -> list[Mutant]:
    """The mutants of all tables in ``folder``. Raises MutantError naming what is missing, unknown or double."""
    found: dict[str, Mutant] = {}
    for path in sorted(folder.glob("*.toml")):
        try:
            entries = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
        except (tomllib.TOMLDecodeError, KeyError) as error:
            raise MutantError(f"{path.name} is no table of mutants: {error}") from error
        for entry in entries:
            mutant = _mutant(entry, path.name)
            if mutant.name in found:
                raise MutantError(f"mutant {mutant.name} is there twice")
            found[mutant.name] = mutant
    return list(found.values())


def _mutant(entry: dict[str, object], source: str) -> Mutant:
    wanted = {"name", "file", "old", "new", "tests", "from"}
    if set(entry) != wanted or not entry["tests"]:
        name = entry.get("name", "without a name")
        raise MutantError(f"{source}, mutant {name}: needs {', '.join(sorted(wanted))} (tests not empty), nothing else")
    texts = {key: str(entry[key]) for key in ("name", "file", "old", "new")}
    tests = entry["tests"]
    assert isinstance(tests, list)
    return Mutant(**texts, tests=tuple(map(str, tests)), origin=str(entry["from"]))


class Tree:
    """A scratch copy of what tests need of the repository, in which mutants run one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        for part in PARTS:
            source, target = ROOT / part, self.folder / part
            if source.is_dir():
                shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy2(source, target)
        guard = self.folder / ".guard"
        guard.mkdir()
        (guard / "mutants_guard.py").write_text(GUARD, encoding="utf-8")
        # Compiled code by content, not by time: a file changed twice within a second must be compiled twice.
        compileall = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "metasd"]
        subprocess.run(compileall, cwd=self.folder, check=True)
        paths = [str(self.folder), str(guard), *filter(None, [os.environ.get("PYTHONPATH")])]
        self.environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONDONTWRITEBYTECODE": "1",
            "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # none is needed, and each costs every run its import
            "MUTANTS_TREE": str(self.folder),
        }

    @contextmanager
    def mutated(self, mutant: Mutant) -> Iterator[None]:
        """The copy with ``mutant`` in it, restored afterwards."""
        path = mutant.source(self.folder)
        before = path.read_bytes()
        path.write_bytes(mutant.applied(before.decode()).encode())
        try:
            yield
        finally:
            path.write_bytes(before)

    def run(self, tests: Sequence[str], limit: float = LIMIT) -> tuple[int, str]:
        """pytest's exit code on ``tests`` and what it printed. Raises MutantError after ``limit`` seconds."""
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "mutants_guard", *tests]
        try:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=self.environment,
                check=False,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=limit,
            )
        except subprocess.TimeoutExpired as error:
            raise MutantError(f"{' '.join(tests)} took more than {limit:g} s") from error
        return done.returncode, done.stdout


def baseline(trees: Sequence[Tree], mutants: Sequence[Mutant]) -> None:
    """Run every selection once, unmutated, shared among ``trees``. Raises MutantError unless all pass."""
    selection = sorted({test for mutant in mutants for test in mutant.tests})
    begin = time.perf_counter()
    print(f"unmutated: {len(selection)} selections ...", flush=True)
    shares = [(tree, part) for n, tree in enumerate(trees) if (part := selection[n :: len(trees)])]
    with ThreadPoolExecutor(len(shares)) as pool:
        for code, output in pool.map(lambda share: share[0].run(share[1], BASELINE_LIMIT), shares):
            if code:
                raise MutantError(
                    f"the tests must pass before anything is mutated (pytest exit code {code}):\n{_tail(output)}"
                )
    print(f"unmutated: all pass, {time.perf_counter() - begin:.1f} s", flush=True)


def killed(tree: Tree, mutant: Mutant) -> bool:
    """Whether a test of its selection fails. Raises MutantError where the tests could not run at all."""
    with tree.mutated(mutant):
        try:
            code, output = tree.run(mutant.tests)
        except MutantError as error:
            raise MutantError(f"mutant {mutant.name}: {error}") from error
    if code not in (0, 1):
        raise MutantError(f"mutant {mutant.name}: no test ran (pytest exit code {code}):\n{_tail(output)}")
    return code == 1


def hunt(mutants: Sequence[Mutant], jobs: int) -> list[str]:
    """Run all ``mutants``, ``jobs`` at a time, telling each result; the names of the survivors."""
    survivors: list[str] = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as scratch:
        copies = [Tree(Path(scratch) / str(j)) for j in range(jobs)]
        baseline(copies, mutants)
        trees: queue.SimpleQueue[Tree] = queue.SimpleQueue()
        for tree in copies:
            trees.put(tree)

        def one(mutant: Mutant) -> tuple[Mutant, bool, float]:
            tree, begin = trees.get(), time.perf_counter()
            try:
                return mutant, killed(tree, mutant), time.perf_counter() - begin
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(jobs) as pool:
            for count, (mutant, dead, seconds) in enumerate(pool.map(one, mutants), 1):
                word = "killed  " if dead else "SURVIVED"
                print(
                    f"[{count:{len(str(len(mutants)))}}/{len(mutants)}] {word} {seconds:5.1f} s  {mutant.name}",
                    flush=True,
                )
                if not dead:
                    survivors.append(mutant.name)
    return survivors


def _tail(output: str, lines: int = 25) -> str:
    return "\n".join(output.rstrip().splitlines()[-lines:])


def chosen(mutants: Sequence[Mutant], names: Sequence[str] | None) -> list[Mutant]:
    """``mutants``, or those called ``names``. Raises MutantError for a name that is none's, and where none is left."""
    unknown = sorted(set(names or ()) - {m.name for m in mutants})
    if unknown:
        raise MutantError(f"there is no mutant {', '.join(unknown)}; --list shows all")
    picked = [m for m in mutants if names is None or m.name in names]
    if not picked:
        raise MutantError("there are no mutants to run")
    return picked


def check(mutants: Sequence[Mutant]) -> None:
    """Raises MutantError naming every mutant that does not fit the tree."""
    wrong = []
    for mutant in mutants:
        try:
            mutant.applied(mutant.source(ROOT).read_text(encoding="utf-8"))
        except MutantError as error:
            wrong.append(str(error))
    if wrong:
        raise MutantError("\n    ".join(wrong))


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of the command line ``arguments``."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="run these mutants alone")
    parser.add_argument("--list", action="store_true", help="show the mutants, check that each fits its file, run none")
    parser.add_argument("--jobs", type=int, default=1, help="mutants at a time, each in a copy of its own (default 1)")
    options = parser.parse_args(arguments)
    try:
        mutants = chosen(load(ROOT / "tools" / "mutants"), options.only)
        check(mutants)
        if options.list:
            for mutant in mutants:
                print(f"{mutant.name}: {mutant.file} ({mutant.origin})\n    " + "\n    ".join(mutant.tests))
            return 0
        begin = time.perf_counter()
        survivors = hunt(mutants, max(options.jobs, 1))
    except MutantError as error:
        print(f"mutants: {error}", file=sys.stderr)
        return 2
    told = f"survived: {', '.join(survivors)}" if survivors else "all killed"
    print(f"{len(mutants)} mutants, {time.perf_counter() - begin:.0f} s, {told}")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
