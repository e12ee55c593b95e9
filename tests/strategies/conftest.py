"""What tests of single updates share."""

import numpy as np
import pytest

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
