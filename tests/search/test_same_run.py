"""Evolution strategies through whole runs: the same on any workers, and through any loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import environments
import pytest
from marks import slow
from searches import StopAt, assert_same_run

from distes import Search, Task
from distes.strategies import ARS, CMAES, GA, PGPE, SNES, XNES, OpenAIES
from distes.strategies.base import Strategy

DIES_AT = 40
"""Steps of one worker: of two generations, 280 at least, one of five has as many."""

STRATEGIES: dict[str, Strategy[Any]] = {
    "cmaes": CMAES(restarts="bipop", adapt_rates=True, bounds=(-3.0, 3.0)),
    "cmaes, separable": CMAES(covariance="separable", restarts="ipop"),
    "cmaes, limited": CMAES(covariance="limited"),
    "snes": SNES(),
    "xnes": XNES(),
    "pgpe": PGPE(),
    "openai_es": OpenAIES(),
    "ars": ARS(top_directions=4),
    "ga": GA(parents=3, contender_episodes=3),
}
QUICK = {"cmaes", "ars", "ga"}
NAMES = [name if name in QUICK else slow(name) for name in STRATEGIES]


def search(out: Path, name: str, once: Path, **changes: Any) -> Search:
    task = Task(
        environments.Deadly,
        env_kwargs={"once": str(once), "at": DIES_AT},
        max_episode_steps=50,
        reuse_env=True,
    )
    settings: dict[str, Any] = {"population": 16, "generations": 4, "seed": 5, "workers": 0}
    settings |= {"heldout_episodes": 3, "final_episodes": 4, "reevaluate": 2, "target": "off"}
    settings |= {"normalize_observations": name in {"ars", "cmaes, separable"}}
    return Search(task, strategy=STRATEGIES[name], out=out, **{**settings, **changes})


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("first", "then"), [(2, 1), slow(5, 2)])
def test_neither_workers_nor_deaths_nor_resuming_change_it(
    tmp_path: Path, ray_local: Any, name: str, first: int, then: int
) -> None:
    """If wrong: what is learnt depends on who was there, and who died."""
    nobody = tmp_path / "nobody"
    nobody.touch()  # nothing dies of it any more
    search(tmp_path / "serial", name, nobody).run()
    once = tmp_path / "once"
    cut = search(tmp_path / "ray", name, once, workers=first, observers=(StopAt(1),))
    with pytest.raises(KeyboardInterrupt):
        cut.run()
    assert once.exists(), "no worker was killed"
    Search.resume(tmp_path / "ray", workers=then)
    assert_same_run(tmp_path / "ray", tmp_path / "serial")
