"""Every strategy that the registry finds, as shipped and wrapped, passes the suite."""

import numpy as np
import pytest

from distes import registry
from distes.strategies import ARS, CEM, CMAES, CREPS, ICEM, PGPE, External, Normalized, RandomSearch
from distes.strategies.base import Strategy
from distes.strategies.ccmaes import CCMAES
from distes.strategies.hireps import HiREPS
from distes.strategies.more import MORE
from distes.testing.strategies import StrategyConformance


class Hopping:
    """Stands in for another package: global random numbers, its own step rule."""

    def __init__(self, start, population_size):
        self.mean, self.size, self.spread = start, population_size, 1.0

    def ask(self):
        self.drawn = self.mean + self.spread * np.random.randn(self.size, len(self.mean))  # noqa: NPY002
        return list(self.drawn)

    def tell(self, solutions, values):
        self.mean = np.mean([solutions[i] for i in np.argsort(values)[: self.size // 4]], axis=0)
        self.spread *= 0.98


def hopping(start, seed, population_size=12):
    return Hopping(start, population_size)


NEED_SETTINGS = {"external": External(hopping)}
"""Strategies with a setting that has no default."""

NEED_TRAJECTORIES = {"gpreps", "deep_cem", "tabular_cem", "reinforce"}
"""Strategies that refuse a problem made of a function; they are tested on environments."""

VARIANTS = {
    "cem full": CEM(covariance="full"),
    "cem smoothed proportional": CEM(
        elite_fraction=1.0, weighting="proportional", mean_smoothing=0.2, std_smoothing=0.2, ddof=1
    ),
    "cem uniform start": CEM(initial_mean="uniform", extra_decay="exponential", min_std=0.01),
    "cem full floor": CEM(covariance="full", min_std=0.05, shrinkage=0.5, std_smoothing=0.3),
    "icem newest": ICEM(average_retained=False, covariance="full"),
    "random search, one kept": RandomSearch(keep=1),
    "external by name": External(f"{__name__}:hopping"),
    "pgpe adam, standardised": PGPE(
        optimiser="adam", learning_rate=0.2, fitness_shaping="standardised"
    ),
    "pgpe sgd, scheduled": PGPE(optimiser="sgd", learning_rate=0.3, learning_rate_end=0.1),
    "ars cut, scheduled": ARS(top_directions=4, std_end=0.01, schedule="cosine"),
    "creps ml": CREPS(update="ml"),
    "creps diagonal, reuse, floor": CREPS(covariance="diagonal", reuse=2, min_std=0.01),
    "creps entropy": CREPS(entropy_loss=0.2, epsilon=1.0),
    "hireps ml": HiREPS(update="ml", num_options=2),
    "hireps diagonal, floor, pruned": HiREPS(
        covariance="diagonal", min_std=0.01, overlap=None, prune_below=0.2
    ),
    "hireps one option": HiREPS(num_options=1),
    "more fresh, floor": MORE(reuse=0, min_std=0.01, epsilon=1.0),
    "more fast": MORE(entropy_rate=0.9, min_entropy=-20.0),
    "ccmaes floor": CCMAES(min_std=0.01),
    "cmaes separable": CMAES(covariance="separable"),
    "cmaes bounds": CMAES(bounds=(-3.0, 3.0)),
    "cmaes adapted rates": CMAES(adapt_rates=True),
    "cmaes limited": CMAES(covariance="limited"),
    "normalized cem": Normalized(CEM()),
    "normalized external": Normalized(External(hopping)),
}


def shipped():
    for name in sorted({*registry.names("strategies", Strategy)} - NEED_TRAJECTORIES):
        settings = NEED_SETTINGS.get(name)
        yield pytest.param(settings or registry.find("strategies", name, Strategy)(), id=name)


class TestEveryStrategy(StrategyConformance):
    @pytest.fixture(params=[*shipped(), *(pytest.param(s, id=n) for n, s in VARIANTS.items())])
    def strategy(self, request):
        return request.param


class TestEveryStrategyWithContexts(StrategyConformance):
    num_contexts = 2

    @pytest.fixture(params=shipped())
    def strategy(self, request):
        return request.param


def test_normalisation_is_an_option_and_not_a_name():
    """`--strategy normalized` would have no strategy to wrap."""
    names = registry.names("strategies", Strategy)
    assert "normalized" not in names
    assert {"cem", "icem", "random_search", "external"} <= set(names)
