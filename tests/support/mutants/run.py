"""Break the code on purpose, one place at a time, and see which test notices.

    python tests/support/mutants/run.py                     # every mutant, its own tests first
    python tests/support/mutants/run.py cem seeds --slow    # those whose names begin so

A mutant is a small change that makes a promise false (`mutants.toml`). It is applied to a copy
of the tree; then the tests that should notice run, and, where they do not, the whole default
run (`--whole`) and the slow tests (`--slow`). A mutant that survives is a promise untested.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from shutil import copyfile

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
LIMIT_S = 3600


@dataclass(frozen=True)
class Mutant:
    """One change.

    Attributes:
        name: what it is called in the table.
        file: the changed file, from the root of the repository.
        old: text that occurs there exactly once.
        new: what stands there instead.
        breaks: the promise that is false then.
        tests: files, or tests in them, that should notice in the default run.
        slow: tests that should notice with ``-m slow`` if the default run does not.
    """

    name: str
    file: str
    old: str
    new: str
    breaks: str
    tests: tuple[str, ...]
    slow: tuple[str, ...] = ()

    def apply(self, root: Path) -> None:
        """Change the file below a root; `restore` puts it back."""
        path = root / self.file
        text = path.read_text(encoding="utf-8")
        if (found := text.count(self.old)) != 1:
            raise SystemExit(f"{self.name}: its text occurs {found} times in {self.file}")
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")

    def restore(self, root: Path) -> None:
        copyfile(ROOT / self.file, root / self.file)


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant: the test that caught it and the run it was in, or neither."""

    mutant: Mutant
    caught_in: str
    test: str
    seconds: float


def load_mutants(prefixes: list[str]) -> list[Mutant]:
    """Read the mutants, or those whose names begin with one of the prefixes."""
    records = tomllib.loads((HERE / "mutants.toml").read_text(encoding="utf-8"))["mutant"]
    mutants = [
        Mutant(**{k: tuple(v) if isinstance(v, list) else v for k, v in record.items()})
        for record in records
    ]
    return [m for m in mutants if not prefixes or m.name.startswith(tuple(prefixes))]


def copy_tree(to: Path) -> Path:
    """Copy what git knows of, or would."""
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in files.splitlines():
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            copyfile(ROOT / name, to / name)
    return to


def find_failure(root: Path, cache: Path, *arguments: str) -> str | None:
    """Run tests in a tree until one fails; gives its name, or None."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *arguments]
    environment = os.environ | {"PYTHONPATH": str(root), "XDG_CACHE_HOME": str(cache)}
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, capture_output=True, text=True,
            timeout=LIMIT_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "(the tests did not end)"
    if done.returncode in (0, 5):  # 5: nothing was selected
        return None
    if done.returncode == 4:  # of pytest: nobody has noticed anything
        raise SystemExit(f"pytest can't be run with {arguments}: {done.stderr or done.stdout}")
    failed = re.search(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
    return failed[1] if failed else f"(exit code {done.returncode})"


def examine(mutant: Mutant, root: Path, cache: Path, whole: bool, slow: bool) -> Outcome:
    """Apply a mutant to a copy of the tree, and look for a test that notices."""
    begun = time.monotonic()
    attempts = [("default", ("-n0", *mutant.tests))]
    if whole:
        attempts.append(("default", ()))
    if slow:
        attempts.append(("slow", ("-n0", "-m", "slow", *(mutant.slow or mutant.tests))))
    mutant.apply(root)
    try:
        for name, arguments in attempts:
            if test := find_failure(root, cache, *arguments):
                return Outcome(mutant, name, test, time.monotonic() - begun)
    finally:
        mutant.restore(root)
    return Outcome(mutant, "", "", time.monotonic() - begun)


def examine_all(
    mutants: list[Mutant], processes: int, whole: bool, slow: bool
) -> Iterator[Outcome]:
    """Examine several at once, each in a copy of the tree of its own."""
    with tempfile.TemporaryDirectory(prefix="mutants") as directory:
        trees: SimpleQueue[Path] = SimpleQueue()
        for number in range(processes):
            trees.put(copy_tree(Path(directory, f"tree{number}")))

        def run(mutant: Mutant) -> Outcome:
            root = trees.get()
            try:
                return examine(mutant, root, Path(directory, "cache"), whole, slow)
            finally:
                trees.put(root)

        with ThreadPoolExecutor(processes) as pool:
            yield from pool.map(run, mutants)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="beginnings of names; all without")
    parser.add_argument("--list", action="store_true", help="say what there is, and that it fits")
    parser.add_argument("--whole", action="store_true", help="then the whole default run")
    parser.add_argument("--slow", action="store_true", help="then the slow tests")
    parser.add_argument("--processes", type=int, default=2, help="how many at once")
    options = parser.parse_args()
    mutants = load_mutants(options.names)
    if options.list:
        with tempfile.TemporaryDirectory() as directory:
            root = copy_tree(Path(directory))
            for mutant in mutants:
                mutant.apply(root)
                mutant.restore(root)
                print(f"{mutant.name}: {mutant.breaks} ({mutant.file})")
        return 0
    print("| mutant | breaks | caught in | by | seconds |\n|---|---|---|---|---|")
    outcomes = []
    for one in examine_all(mutants, options.processes, options.whole, options.slow):
        outcomes.append(one)
        where = one.caught_in or "**survived**"
        row = (one.mutant.name, one.mutant.breaks, where, one.test, f"{one.seconds:.0f}")
        print("|", " | ".join(row), "|", flush=True)
    by_default = sum(one.caught_in == "default" for one in outcomes)
    caught = sum(bool(one.caught_in) for one in outcomes)
    print(f"\n{len(outcomes)} mutants: the default run catches {by_default}, in all {caught}")
    return int(caught < len(outcomes))


if __name__ == "__main__":
    sys.exit(main())
