"""Chains of mutations: what they stand for, whoever rebuilds it from whatever is known."""

import numpy as np
import pytest

from distes.errors import UsageError
from distes.population import lineages as module
from distes.population.lineages import UNCHANGED, Lineages
from distes.seeds import noise, noise_key

D, SEED = 4, 7
START = np.linspace(-1.0, 1.0, D)


def make(chains=((3, 5), (2, UNCHANGED)), parents=(0, 1, 1, 0), **changes):
    given = {
        "start": START,
        "seed": SEED,
        "deviations": np.array([1.0, 0.5, 0.1]),
        "chains": np.array(chains, dtype=np.int64),
        "parents": np.array(parents),
        "num_unchanged": 1,
    }
    return Lineages(**{**given, **changes})


def mutation(generation, row):
    return noise(noise_key(SEED, generation), np.array([row]), D)[0]


@pytest.fixture(autouse=True)
def nothing_known():
    module._ANCESTORS.clear()


def test_a_candidate_is_the_sum_of_its_mutations():
    """If wrong: a child is not near its parent, and nothing is inherited."""
    drawn = make().draw(np.arange(4))
    first = START + mutation(0, 3) + 0.5 * mutation(1, 5)
    second = START + mutation(0, 2)
    assert np.array_equal(drawn[0], first)
    assert np.array_equal(drawn[1], second + 0.1 * mutation(2, 1))
    assert np.array_equal(drawn[2], second + 0.1 * mutation(2, 2))
    assert np.array_equal(drawn[3], first + 0.1 * mutation(2, 3))


@pytest.mark.parametrize("kept", [0, 40 * D])
def test_bits_do_not_depend_on_what_is_known(kept, monkeypatch):
    """If wrong: a worker that has joined late draws others' candidates otherwise."""
    fresh = make().draw(np.arange(4))
    monkeypatch.setattr(module, "KEPT_BYTES", kept)
    assert np.array_equal(make().draw(np.arange(4)), fresh)
    older = make(chains=((3,), (2,)), deviations=np.array([1.0, 0.5]))
    older.draw(np.arange(4))
    for one in (3, 0, 2, 1):
        assert np.array_equal(make().draw(np.array([one]))[0], fresh[one])
    assert len(module._ANCESTORS) <= max(1, kept // (8 * D))


@pytest.mark.parametrize(
    "changes",
    [{"seed": 8}, {"start": START + 1}, {"deviations": np.array([1.0, 0.4, 0.1])}],
    ids=["seed", "start", "deviations"],
)
def test_others_ancestors_are_not_taken(changes):
    """If wrong: two searches in one process share candidates."""
    make().draw(np.arange(4))
    other = make(**changes).draw(np.arange(1))
    module._ANCESTORS.clear()
    assert np.array_equal(make(**changes).draw(np.arange(1)), other)


def test_the_next_generation_goes_on_from_chains():
    """If wrong: parents are not whom the generation before has tried."""
    chosen = np.array([2, 0])
    now = make()
    chains = now.extend(chosen)
    assert chains.tolist() == [[2, UNCHANGED, 2], [3, 5, UNCHANGED]]
    then = make(chains, (0, 1), deviations=np.array([1.0, 0.5, 0.1, 0.1]), num_unchanged=2)
    assert np.array_equal(then.draw(np.arange(2)), now.draw(chosen))


def test_a_missing_ancestor_is_refused():
    """If wrong: a chain that was cut stands for somebody else."""
    with pytest.raises(UsageError, match="a chain of 1 mutations in generation 2: an ancestor"):
        make(chains=((3,), (2,)))
    with pytest.raises(UsageError, match="a child of parent 2 of 2: an ancestor is missing"):
        make(parents=(0, 2))
