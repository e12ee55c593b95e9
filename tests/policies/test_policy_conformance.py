"""Every policy that the registry finds, and variants of our own, keep to the suite."""

from __future__ import annotations

import pytest

from distes import registry
from distes.errors import UsageError
from distes.policies import MLP, Linear
from distes.policies.base import PolicySpec
from distes.testing.policies import PolicyConformance

FOUND = registry.names("policies", PolicySpec)


def supports(spec, spaces):
    try:
        spec.build(*spaces)
    except UsageError:
        return False
    return True


@pytest.mark.parametrize("name", FOUND)
class TestRegistered(PolicyConformance):
    """A new file in policies/ is tested without an edit here."""

    @pytest.fixture(autouse=True)
    def _choose(self, name):
        self.spec = registry.find("policies", name, PolicySpec)()
        self.spaces = [pair for pair in PolicyConformance.spaces if supports(self.spec, pair)]
        assert self.spaces, f"{name} supports none of the common spaces"


class TestLinearWithoutBias(PolicyConformance):
    spec = Linear(bias=False)


class TestLinearScaled(PolicyConformance):
    spec = Linear(scale_observations=True)


class TestMLPOneUnit(PolicyConformance):
    """A layer of one unit is padded inside; nothing of that may show."""

    spec = MLP(hidden=(3, 1), activation="relu", scale_observations=True)


class TestMLPWithoutBias(PolicyConformance):
    spec = MLP(hidden=(1,), bias=False)


def test_registry_finds_both():
    """Otherwise --policy linear or mlp is unknown, and the suite above tests nothing."""
    assert {"linear", "mlp"} <= set(FOUND)


@pytest.mark.parametrize("spec", [Linear(), MLP(hidden=(4,))])
def test_all_common_spaces_are_supported(spec):
    """Otherwise TestRegistered leaves out a space in silence."""
    for pair in PolicyConformance.spaces:
        assert supports(spec, pair), pair


class ForgetfulPolicy:
    """Keeps state between episodes, as no policy may."""

    num_parameters, observation_size, stochastic = 1, 4, False

    def __init__(self):
        self.calls = 0

    def encode(self, observation):
        return observation.astype("f8")

    def initial(self, generator):
        return generator.normal(size=1)

    def bind(self, parameters):
        def act(observation, generator):
            self.calls += 1
            return self.calls % 3

        return act


class ForgetfulSpec(PolicySpec):
    def build(self, observation_space, action_space):
        return ForgetfulPolicy()


def test_the_suite_notices_a_leak_between_episodes():
    """Otherwise a user's stateful policy passes the suite and breaks reproducibility."""
    suite = PolicyConformance()
    suite.spec = ForgetfulSpec()
    suite.spaces = PolicyConformance.spaces[:1]
    with pytest.raises(AssertionError):
        suite.test_an_episode_is_a_function_of_its_arguments()


def test_the_suite_notices_what_is_not_refused():
    """Otherwise unsupported spaces fail only on the workers."""
    suite = PolicyConformance()
    suite.spec = ForgetfulSpec()
    with pytest.raises(AssertionError, match="was accepted"):
        suite.test_unsupported_spaces_are_refused()
