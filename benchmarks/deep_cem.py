"""What Deep CEM costs, beside the same method with scikit-learn.

- One fit to the same elites: `DeepCEM`'s Adam epoch against `MLPClassifier.partial_fit`.
- CartPole until the mean return of a generation's sessions is above 190: this project in
  one process, with either engine, against a loop with scikit-learn's network as the policy,
  one session after the other, as the method is usually listed.
- Bytes from two Ray workers to the driver, pickled as they travel: results of all sessions,
  and the elites' trajectories.

    python benchmarks/deep_cem.py
"""

from __future__ import annotations

import pickle
import time
import warnings
from typing import Any

import gymnasium as gym
import numpy as np
from common import in_turn, keep, options, ratio
from sklearn.neural_network import MLPClassifier
from threadpoolctl import threadpool_limits

import distes
from distes.engines.wire import Chunk
from distes.population.records import RunKey
from distes.search.evaluator import compile_ahead, make_evaluator
from distes.strategies.deep_cem import DeepCEM, Pairs

SESSIONS, PERCENTILE, SOLVED, MOST = 100, 70, 190.0, 100
GENERATIONS_SENT = 10


def network(seed: int) -> MLPClassifier:
    """scikit-learn's network as the method uses it: 20-20 tanh, Adam, L2 1e-4."""
    return MLPClassifier((20, 20), activation="tanh", random_state=seed)


def fits(pairs: int) -> dict[str, Any]:
    """One pass over the same elites."""
    generator = np.random.default_rng(0)
    observations = generator.standard_normal((6000, 4))
    choices = (observations @ generator.standard_normal(4) > 0).astype(np.int64)
    search = distes.Search("CartPole-v0", strategy=DeepCEM(), workers=0)
    problem, strategy = search.check(), DeepCEM()
    state = strategy.init(problem)
    theirs = network(0)
    theirs.partial_fit(observations, choices, classes=[0, 1])
    used = (Pairs(observations, choices),)
    with threadpool_limits(1):
        timed = in_turn(
            lambda: strategy._fit(problem, state, used, {}),
            lambda: theirs.partial_fit(observations, choices),
            pairs,
        )
    return {
        "measure": "one epoch over 6,000 pairs: seconds of scikit-learn / ours",
        "value": ratio(timed)["ratio_median"],
        "ours_s": float(np.median([a for a, _ in timed])),
        "theirs_s": float(np.median([b for _, b in timed])),
        "count": pairs,
    }


def ours(seed: int, engine: str) -> tuple[float, int]:
    """Seconds and generations until the sessions' mean return is above 190."""
    strategy = DeepCEM()
    search = distes.Search(
        "CartPole-v0", strategy=strategy, population=SESSIONS, workers=0, seed=seed, engine=engine
    )
    began = time.perf_counter()
    problem = search.check()
    problem.evaluator = evaluator = make_evaluator(search, 0)
    state = strategy.init(problem)
    with threadpool_limits(1):
        for generation in range(MOST):
            problem.begin(generation)
            population = strategy.ask(problem, state)
            episodes = evaluator.submit(population, RunKey(seed, generation)).result().episodes
            if episodes.episode_return.mean() > SOLVED:
                break
            state = strategy.tell(problem, state, population, episodes)
    return time.perf_counter() - began, generation + 1


def theirs(seed: int) -> tuple[float, int]:
    """The same with scikit-learn's network, asked for one action at a time."""
    began = time.perf_counter()
    env, generator, agent = (
        gym.make("CartPole-v0").unwrapped,
        np.random.default_rng(seed),
        network(seed),
    )
    agent.partial_fit([env.reset(seed=seed)[0]] * 2, [0, 1], classes=[0, 1])
    with threadpool_limits(1):
        for generation in range(MOST):  # noqa: B007 - the count is used after the loop
            sessions = []
            for _ in range(SESSIONS):
                observation, _ = env.reset()
                seen, done, total = [], [], 0.0
                for _ in range(200):
                    shares = agent.predict_proba([observation])[0]
                    action = int(generator.choice(2, p=shares))
                    seen.append(observation)
                    done.append(action)
                    observation, reward, terminated, _, _ = env.step(action)
                    total += float(reward)
                    if terminated:
                        break
                sessions.append((total, seen, done))
            returns = np.array([total for total, _, _ in sessions])
            if returns.mean() > SOLVED:
                break
            least = np.percentile(returns, PERCENTILE)
            elite = [each for each in sessions if each[0] >= least]
            agent.partial_fit(
                np.concatenate([seen for _, seen, _ in elite]),
                np.concatenate([done for _, _, done in elite]),
            )
    return time.perf_counter() - began, generation + 1


def travels() -> dict[str, Any]:
    """Bytes of whole answers of two workers, against the elites' share of all trajectories."""
    strategy = DeepCEM()
    search = distes.Search("CartPole-v0", strategy=strategy, population=SESSIONS, workers=2)
    problem = search.check()
    problem.evaluator = evaluator = make_evaluator(search, 2)
    sent: list[int] = []
    steps: list[int] = []
    from_wire = Chunk.from_wire

    def measured(wire: Any) -> Chunk:
        chunk = from_wire(wire)
        sent.append(len(pickle.dumps((0.25, *wire), 5)))  # an answer begins with its seconds
        if chunk.trajectories is not None:
            steps.append(int(chunk.trajectories.lengths.sum()))
        return chunk

    state, beyond = strategy.init(problem), []
    Chunk.from_wire = measured  # type: ignore[method-assign, assignment]
    try:
        for generation in range(GENERATIONS_SENT):
            sent.clear()
            steps.clear()
            problem.begin(generation)
            population = strategy.ask(problem, state)
            episodes = evaluator.submit(population, RunKey(0, generation)).result().episodes
            state = strategy.tell(problem, state, population, episodes)
            share = sum(steps) * 8 * (4 + 1)  # observation and choice of each step
            beyond.append((sum(sent) - share) / SESSIONS)
    finally:
        Chunk.from_wire = from_wire  # type: ignore[method-assign]
        evaluator.close()
    return {
        "measure": "bytes an episode beyond the elites' trajectories, most of any generation",
        "value": max(beyond),
        "ours_s": float("nan"),
        "theirs_s": float("nan"),
        "count": len(beyond),
    }


def main() -> None:
    given = options(__doc__).parse_args()
    warnings.filterwarnings("ignore", category=DeprecationWarning)
    rows = [fits(31), travels()]
    compile_ahead(distes.Search("CartPole-v0", strategy=DeepCEM(), engine="compiled"))
    slow = [theirs(seed) for seed in range(3)]
    for engine in ("loop", "compiled"):
        runs = [ours(seed, engine) for seed in range(3)]
        both = list(zip(runs, slow, strict=True))
        rows += [
            {
                "measure": f"CartPole-v0 until sessions return 190, {engine} engine: seconds of "
                "scikit-learn / ours",
                "value": float(np.median([b[0] / a[0] for a, b in both])),
                "ours_s": float(np.median([a[0] for a in runs])),
                "theirs_s": float(np.median([b[0] for b in slow])),
                "count": len(runs),
            },
            {
                "measure": f"generations of 100 sessions until then, {engine} engine: "
                "scikit-learn / ours",
                "value": float(np.median([b[1] / a[1] for a, b in both])),
                "ours_s": float("nan"),
                "theirs_s": float("nan"),
                "count": len(runs),
            },
        ]
    keep("deep_cem", rows, given.out)


if __name__ == "__main__":
    main()
