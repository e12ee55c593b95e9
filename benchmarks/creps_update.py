"""What one update of CREPS costs, and the same update by PyCREPS.

M samples, 12 parameters, 2 contexts, quadratic features of the value function. PyCREPS is
not on the package index: give the folder of a clone (it needs scipy).

    python benchmarks/creps_update.py [--theirs CLONE]
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

import numpy as np
from common import in_turn, keep, options, ratio
from threadpoolctl import threadpool_limits

from distes.population.features import build_features
from distes.strategies import CREPS
from distes.strategies.parts.relative_entropy import RelativeEntropyState
from distes.strategies.parts.upper_level import Samples
from distes.testing.problems import FunctionProblem

PARAMETERS, CONTEXTS, EPSILON = 12, 2, 1.0
PAIRS = 41


def samples(count: int, seed: int) -> Samples:
    """Draw a generation with a return that depends on context and parameters."""
    generator = np.random.default_rng(seed)
    contexts = generator.uniform(-1, 1, (count, CONTEXTS))
    parameters = generator.standard_normal((count, PARAMETERS))
    best = contexts @ generator.standard_normal((CONTEXTS, PARAMETERS))
    return Samples(parameters, contexts, -np.sum((parameters - best) ** 2, axis=1))


def started(strategy: CREPS) -> RelativeEntropyState:
    """State before the second generation: the first also looks at the features' rank."""
    problem = FunctionProblem(
        lambda parameters, _: parameters[:, 0],
        np.zeros(PARAMETERS),
        moved=np.zeros((CONTEXTS, PARAMETERS)),
    )
    state = strategy.init(problem)
    return strategy.learn(state, samples(1000, 99))


def theirs(clone: str, count: int) -> Any:
    """The same update by PyCREPS."""
    sys.path.insert(0, clone)
    module = importlib.import_module("CREPS")
    policy = module.UpperPolicy(CONTEXTS)
    given = samples(count, 0)
    features = build_features("quadratic", CONTEXTS)(given.contexts)[:, 1:]

    def update() -> None:
        policy.set_parameters(
            np.zeros((1, PARAMETERS)), np.zeros((CONTEXTS, PARAMETERS)), np.eye(PARAMETERS)
        )
        weights = module.computeSampleWeighting(given.returns.reshape(-1, 1), features, EPSILON)
        policy.update(given.parameters, given.contexts, weights)

    return update


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--theirs", metavar="FOLDER", help="checkout of PyCREPS to time beside it")
    options_given = parser.parse_args()
    rows = []
    for count in (300, 1000, 3000):
        given = samples(count, 0)
        for name, strategy in (
            ("constrained", CREPS(epsilon=EPSILON)),
            ("ml", CREPS(epsilon=EPSILON, update="ml")),
        ):
            state = started(strategy)

            def ours(strategy: CREPS = strategy, state: RelativeEntropyState = state) -> None:
                strategy.learn(state, given)  # noqa: B023 - called before the next turn

            with threadpool_limits(1):
                row = {"samples": count, "update": name}
                if options_given.theirs:
                    other = theirs(options_given.theirs, count)
                    timed = in_turn(ours, other, PAIRS)
                    row |= {"ours_ms": timed_ms(timed, 0), "theirs_ms": timed_ms(timed, 1)}
                    row |= {"theirs / ours": ratio(timed)["ratio_median"]}
                else:
                    row |= {"ours_ms": timed_ms(in_turn(ours, ours, PAIRS), 0)}
            rows.append(row)
    keep("creps_update", rows, options_given.out)


def timed_ms(timed: list[Any], which: int) -> float:
    """Median of one column, in milliseconds."""
    return 1e3 * float(np.median([pair[which] for pair in timed]))


if __name__ == "__main__":
    main()
