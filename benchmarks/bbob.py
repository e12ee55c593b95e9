"""How many evaluations does `cmaes` need on the BBOB functions, beside the package cma?

24 functions, 15 instances each, budget 1,000 evaluations a dimension; both begin at the same
random point in [-4, 4]^n with step 2 and population 4 + 3 ln n, and begin again, with twice the
population, as far from there as their first candidates. A target is a distance from the
optimum (10^2 to 10^-8 in fifths of decades). Expected running time (ERT): evaluations of all
instances, successful or not, over the number that reached the target. Compared where both
reach it at least once; the interval is that of 1,000 bootstraps of the instances.

Hansen, Auger, Ros, Mersmann, Tušar, Brockhoff (2021), "COCO: a platform for comparing
continuous optimizers in a black-box setting". Needs coco-experiment and cma.

    python benchmarks/bbob.py [--dimensions 2 5 10 20] [--functions 1-24] [--instances 15]
        [--budget 1000] [--out benchmarks/results]
"""

from __future__ import annotations

import multiprocessing
import os
import tempfile
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import cma
import cocoex
import numpy as np
from common import keep, options

from distes.strategies.cmaes import CMAES
from distes.testing.problems import FunctionProblem, episodes_of
from distes.types import FloatArray

TARGETS = 10.0 ** np.arange(2, -8.01, -0.2)
STEP = 2.0
GROUPS = {
    "separable (1-5)": range(1, 6),
    "moderate (6-9)": range(6, 10),
    "ill-conditioned (10-14)": range(10, 15),
    "multi-modal (15-19)": range(15, 20),
    "weak structure (20-24)": range(20, 25),
    "all": range(1, 25),
}
BOOTSTRAPS = 1000


class Spent(Exception):  # noqa: N818 - no error: the budget is used up, or the optimum found
    """A search is over."""


class Counted:
    """A function that notes when it first came how close to its least value."""

    def __init__(self, problem: Any, least: float, budget: int) -> None:
        self._problem, self._least, self._budget = problem, least, budget
        self.evaluations, self.best = 0, np.inf
        self.reached = np.full(len(TARGETS), np.inf)

    def __call__(self, x: FloatArray) -> float:
        """Evaluate x, (n,).

        Raises:
            Spent: it was the last evaluation, or the optimum.
        """
        value = float(self._problem(x))
        self.evaluations += 1
        if value < self.best:
            self.best = value
            self.reached[(value - self._least <= TARGETS) & np.isinf(self.reached)] = (
                self.evaluations
            )
        if self.evaluations >= self._budget or value - self._least <= TARGETS[-1]:
            raise Spent
        return value


def find_least(function: int, instance: int, dimension: int) -> float:
    """A function's least value: coco writes where it is into a file."""
    problem = open_problem(function, instance, dimension)
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        try:
            problem._best_parameter("print")  # coco has no other way to tell
            (file,) = Path(folder).iterdir()
            place = np.loadtxt(file, ndmin=1)
        finally:
            os.chdir(before)
    return float(problem(place))


def open_problem(function: int, instance: int, dimension: int) -> Any:
    """Make one of coco's problems."""
    names = f"function_indices: {function} dimensions: {dimension} instance_indices: {instance}"
    return cocoex.Suite("bbob", "", names).get_problem(0)


def run_ours(function: Counted, start: FloatArray, seed: int) -> None:
    """Ask, evaluate, tell; begin again where it comes to an end."""
    strategy = CMAES(initial_std=STEP, stops="all", restarts="ipop")
    problem = FunctionProblem(lambda x, _: np.zeros(len(x)), start, seed=seed)
    state = strategy.init(problem)
    while True:
        population = strategy.ask(problem, state)
        drawn = population.distribution.draw(np.arange(population.size))
        fitness = np.array([-function(each) for each in drawn])
        state = strategy.tell(problem, state, population, episodes_of(fitness))


def run_cma(function: Counted, start: FloatArray, seed: int) -> None:
    """The same with the package."""
    size, attempt = None, 0
    generator = np.random.default_rng(seed)
    place = start
    while True:
        given: dict[str, Any] = {"seed": seed + 1000 * attempt + 1, "verbose": -9}
        given |= {} if size is None else {"popsize": size}
        search = cma.CMAEvolutionStrategy(place, STEP, given)
        while not search.stop():
            drawn = search.ask()
            search.tell(drawn, [function(each) for each in drawn])
        size, attempt = 2 * search.popsize, attempt + 1
        place = start + STEP * generator.standard_normal(len(start))


SEARCHES: dict[str, Callable[[Counted, FloatArray, int], None]] = {
    "distes": run_ours,
    "cma": run_cma,
}


def run_instance(given: tuple[int, int, int, int]) -> list[tuple[FloatArray, int]]:
    """Run both on one instance: evaluations to each target, and in all."""
    function, instance, dimension, budget = given
    warnings.simplefilter("ignore")
    least = find_least(function, instance, dimension)
    seed = 100 * function + instance
    start = np.random.default_rng(seed).uniform(-4, 4, dimension)
    found = []
    for search in SEARCHES.values():
        counted = Counted(open_problem(function, instance, dimension), least, budget * dimension)
        with suppress(Spent):
            search(counted, start, seed)
        found.append((counted.reached, counted.evaluations))
    return found


def compare(reached: FloatArray, spent: FloatArray) -> tuple[float, int, int]:
    """Geometric mean of ERT ratios, and targets that each has reached.

    Args:
        reached: (searches, functions, instances, targets) evaluations; inf is never.
        spent: (searches, functions, instances) in all.
    """
    hit = np.isfinite(reached)
    evaluations = np.where(hit, reached, spent[..., None]).sum(axis=2)
    hits = hit.sum(axis=2)
    with np.errstate(divide="ignore"):
        ert = evaluations / hits
    both = (hits > 0).all(axis=0)
    ratio = np.exp(np.mean(np.log(ert[0][both] / ert[1][both]))) if both.any() else np.nan
    return float(ratio), int((hits[0] > 0).sum()), int((hits[1] > 0).sum())


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--dimensions", type=int, nargs="+", default=[2, 5, 10, 20])
    parser.add_argument("--functions", default="1-24", help="first and last (1-24)")
    parser.add_argument("--instances", type=int, default=15)
    parser.add_argument("--budget", type=int, default=1000, help="evaluations a dimension (1000)")
    given = parser.parse_args()
    first, last = map(int, given.functions.split("-"))
    functions = range(first, last + 1)
    rows = []
    everything: list[tuple[FloatArray, FloatArray]] = []
    with multiprocessing.get_context("spawn").Pool() as pool:
        for dimension in given.dimensions:
            asked = [
                (function, instance, dimension, given.budget)
                for function in functions
                for instance in range(1, given.instances + 1)
            ]
            done = pool.map(run_instance, asked, chunksize=1)
            shape = (len(functions), given.instances)
            reached = np.array([[each[s][0] for each in done] for s in range(2)])
            reached = reached.reshape(2, *shape, len(TARGETS))
            spent = np.array([[each[s][1] for each in done] for s in range(2)], float)
            spent = spent.reshape(2, *shape)
            everything.append((reached, spent))
            for group, members in GROUPS.items():
                chosen = [place for place, each in enumerate(functions) if each in members]
                if chosen:
                    rows.append(
                        summarise(dimension, group, reached[:, chosen], spent[:, chosen], given)
                    )
    joined = [np.concatenate(each, axis=1) for each in zip(*everything, strict=True)]
    rows.append(summarise("all", "all", joined[0], joined[1], given))
    keep("bbob", rows, given.out)


def summarise(
    dimension: int | str, group: str, reached: FloatArray, spent: FloatArray, given: Any
) -> dict[str, Any]:
    """One line of the table."""
    ratio, ours, theirs = compare(reached, spent)
    generator = np.random.default_rng(0)
    ratios = []
    for _ in range(BOOTSTRAPS):
        drawn = generator.integers(reached.shape[2], size=reached.shape[2])
        ratios.append(compare(reached[:, :, drawn], spent[:, :, drawn])[0])
    low, high = np.nanquantile(ratios, [0.025, 0.975])
    pairs = np.isfinite(reached).sum(axis=(1, 2, 3))
    return {
        "dimension": dimension,
        "functions": group,
        "ERT ratio": round(ratio, 3),
        "from": round(float(low), 3),
        "to": round(float(high), 3),
        "targets": ours,
        "targets of cma": theirs,
        "hits": int(pairs[0]),
        "hits of cma": int(pairs[1]),
        "instances": given.instances,
        "budget": given.budget,
    }


if __name__ == "__main__":
    main()
