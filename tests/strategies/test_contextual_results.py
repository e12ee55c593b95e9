"""What CREPS is to reach on our environments, by the examples' own settings."""

from __future__ import annotations

import pytest
from paths import EXAMPLES

from distes.search.config_file import from_config, read_toml
from distes.search.search import Search

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


def scores(example, folder, seeds=10):
    """Of the mean policy over 100 contexts that the search cannot draw."""
    config = read_toml(EXAMPLES / f"{example}.toml")
    for seed in range(seeds):
        out = str(folder / str(seed))
        given = config | {"seed": seed, "workers": 0, "out": out, "reevaluate": 0}
        yield from_config(given, Search).run().score.mean


def test_wall_robot(tmp_path):
    """An environment that is wrong, or a policy that narrows too soon, stays below."""
    assert sum(score >= 235 for score in scores("wall_robot_creps", tmp_path)) >= 9


def test_cartpole(tmp_path):
    assert sum(score >= 195 for score in scores("cartpole_creps", tmp_path)) >= 9
