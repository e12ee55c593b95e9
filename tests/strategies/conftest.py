"""What tests of single updates share."""

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from distes.population.distributions import Table
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


@pytest.fixture(scope="session", autouse=True)
def one_blas_thread():
    """As in a run: threads that wait for each other make small products slow."""
    with threadpool_limits(1):
        yield
