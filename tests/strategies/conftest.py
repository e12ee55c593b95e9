"""What tests of single updates share."""

from dataclasses import dataclass

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from distes.population.distributions import Gaussian, Table
from distes.population.records import Population
from distes.testing.problems import episodes_of


@pytest.fixture
def tell():
    """Tell a strategy given candidates with given fitness."""

    def tell(strategy, problem, state, parameters, fitness):
        parameters = np.asarray(parameters, dtype=np.float64)
        population = Population(Table(parameters), len(parameters))
        return strategy.tell(problem, state, population, episodes_of(np.asarray(fitness, float)))

    return tell


@dataclass(frozen=True, eq=False)
class GivenNoise(Gaussian):
    """A Gaussian whose candidates' normals are given, (n, d)."""

    normals: np.ndarray | None = None

    def noise(self, candidates, columns=None):
        return self.normals[candidates][:, slice(*(columns or (None,)))]


@pytest.fixture
def tell_noise():
    """Tell a strategy that samples with deviations the fitness of given normals."""

    def tell(strategy, problem, state, normals, fitness):
        asked = strategy.ask(problem, state).distribution
        given = GivenNoise(asked.mean, asked.scale, asked.key, asked.mirrored, np.array(normals))
        population = Population(given, len(normals))
        return strategy.tell(problem, state, population, episodes_of(np.asarray(fitness, float)))

    return tell


@pytest.fixture(scope="session", autouse=True)
def one_blas_thread():
    """As in a run: threads that wait for each other make small products slow."""
    with threadpool_limits(1):
        yield
