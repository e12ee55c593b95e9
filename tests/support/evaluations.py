"""Small evaluations for tests of evaluators, and how two answers are compared."""

import dataclasses
import time

import numpy as np

from distes.engines import choice
from distes.evaluators.serial import SerialEvaluator
from distes.population.distributions import Gaussian, Point
from distes.population.records import Population, RunKey

KEY = RunKey(7, 3)


def assert_equal(one, other):
    """Bit for bit, all that a strategy sees."""
    for each in dataclasses.fields(one):
        left, right = getattr(one, each.name), getattr(other, each.name)
        if isinstance(left, dict):
            assert left.keys() == right.keys()
            pairs = [(left[name], right[name]) for name in left]
        else:
            pairs = [(left, right)]
        for a, b in pairs:
            if a is not None or b is not None:
                np.testing.assert_array_equal(a, b, err_msg=each.name)


def settle(task, policy=None):
    """Policy and engine, as the search resolves them."""
    built = task.build_policy(policy)
    return task, built, choice.resolve("auto", task, built)


def serially(parts, *populations):
    evaluator = SerialEvaluator(*parts)
    try:
        return [evaluator.submit(population, KEY).result() for population in populations]
    finally:
        evaluator.close()


def all_there(evaluator, workers, d):
    """Wait for the last worker: tests of who runs what need all of them from the start."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        answer = evaluator.submit(Population(Point(np.full(d, -1.0)), 2), RunKey(0, 0)).result()
        if answer.telemetry.summary["workers"] == workers:
            return evaluator
        time.sleep(0.1)
    raise TimeoutError(f"{workers} workers did not start")


def sphere(parameters):
    return -float(parameters @ parameters)


def gaussian(d, n, **changes):
    return Population(Gaussian(np.zeros(d), np.ones(d), (3, 4)), n, **changes)
