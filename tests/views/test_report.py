"""The report of a run: true at every stage of it."""

import re
import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

import distes
from distes.cli import main
from distes.errors import Notice, UsageError
from distes.population.records import Status
from distes.runs import inventory
from distes.runs.reader import load
from distes.runs.storage.folder import open_folder
from distes.runs.writer import RunLog
from distes.search import solution
from distes.search.observer import Observer
from distes.strategies.cem import CEM
from distes.views import report
from distes.views.report import WIDTH, describe_run


def hill(parameters, seed):
    value = -float(np.sum((parameters - 1) ** 2)) + np.random.default_rng(seed).normal()
    if int(abs(parameters[0]) * 1e6) % 7 == 0:
        raise RuntimeError("the hill is closed")
    return value


def search(out, **settings):
    defaults = {
        "population": 20,
        "generations": 4,
        "heldout_every": 2,
        "heldout_episodes": 5,
        "final_episodes": 6,
        "workers": 0,
    }
    task = distes.FunctionTask(hill, 3, noisy=True)
    return distes.Search(task, out=out, **{**defaults, **settings})


class Watcher(Observer):
    """Reads the report from within the search, and may end it."""

    def __init__(self, out, stop_after=None):
        self.out, self.stop_after, self.seen = out, stop_after, []

    def started(self, search, path, resumed_at):
        self.seen.append(describe_run(self.out))

    def generation(self, row):
        self.seen.append(describe_run(self.out))
        if row["generation"] == self.stop_after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "hill"
    return search(out, strategy=CEM(elite_fraction=0.5), seed=3).run()


def fields(text):
    """Read the report back: name -> text."""
    found, name = {}, ""
    column = re.search(r"^state\s+", text, re.MULTILINE).end()
    column -= re.search(r"^state", text, re.MULTILINE).start()
    for line in text.splitlines():
        name = line[:column].strip() or name
        found[name] = f"{found.get(name, '')} {line[column:].strip()}".strip()
    return found


def test_finished_run_is_summed_up(finished):
    """Each figure must be the log's: this is what people quote."""
    run = load(finished.path)
    found = fields(describe_run(finished.path))
    assert found["run"] == str(finished.path)
    assert found["strategy"] == "cem, elite_fraction 0.5"
    assert found["seed"] == "3"
    assert found["engine"] == "function"
    assert found["parameters"] == "3"
    assert "20 candidates (given)" in found["generation"]
    assert found["generation"] == "20 candidates (given) x 1 episode"
    assert found["deployed"] == finished.deployed
    assert f"numpy {np.__version__}" in found["versions"]
    assert found["state"] == "finished: 4 generations"
    assert found["generations"] == "4"
    failed = int((run.episodes["status"] != "ok").sum())
    assert failed > 0
    assert found["episodes"] == f"80, {failed} failed ({failed} error)"
    assert found["env steps"].startswith(f"{run.episodes['episode_length'].sum()},")
    assert f"{finished.score.episodes} unseen episodes" in found["final score"]
    assert f"{finished.score.mean:.4g}"[:5] in found["final score"]
    assert f"a gap of {finished.reevaluation.gap:.5g}" in found["selection"]
    assert found["first error"] == "RuntimeError: the hill is closed"
    assert found["events"].endswith("episode_error")
    assert "distes resume" not in found["next"]
    assert f"distes plot {finished.path} --out hill.png" in found["next"]


def test_best_heldout_is_the_best_of_the_log(finished):
    """The newest score in place of the best would hide that a run got worse."""
    rows = load(finished.path).evaluations.query("purpose == 'heldout'")
    means = rows.groupby("generation")["episode_return"].mean()
    best = min(int(means.idxmax()), 3)
    found = fields(describe_run(finished.path))
    assert found["best held-out"].startswith(f"{means.max():.5g} (")
    assert found["best held-out"].endswith(f"after generation {best}")
    newest = min(int(means.dropna().index.max()), 3)
    assert ("last held-out" in found) == (best != newest)


def test_lines_are_aligned_and_fit_a_terminal(finished):
    """A wrapped line that starts in the first column reads as another field."""
    text = describe_run(finished.path)
    head = text.partition("\nnext")[0]
    assert max(map(len, head.splitlines())) <= max(WIDTH, len(str(finished.path)) + 20)
    columns = {re.match(r"(?:\S+ )*\S+ {2,}|\s+", line).end() for line in text.splitlines() if line}
    assert len(columns) == 1


def test_run_in_progress_says_so(tmp_path):
    """Called interrupted, a run that goes on would be resumed into itself."""
    watcher = Watcher(tmp_path / "run")
    search(tmp_path / "run", observers=[watcher]).run()
    begun = fields(watcher.seen[0])
    assert begun["state"] == "running, before its first generation was written"
    assert begun["next"].startswith("distes info")
    assert "final score" not in begun
    for text in watcher.seen[1:]:
        assert fields(text)["state"].startswith("running, ")
        assert "distes resume" not in text


def test_interrupted_run_names_the_way_on(tmp_path):
    """Whoever finds a broken-off run needs to know how far it is and how to go on."""
    out = tmp_path / "my run"
    with pytest.raises(KeyboardInterrupt):
        search(out, observers=[Watcher(out, stop_after=2)]).run()
    found = fields(describe_run(out))
    assert found["state"] == "interrupted after generation 2"
    assert found["generations"] == "3"
    assert found["next"].startswith(f"distes resume '{out}'")
    resumed = search(out)
    resumed.proceed()
    found = fields(describe_run(out))
    assert found["resumed"] == "1 time"
    assert found["state"] == "finished: 4 generations"


def test_hopeless_run_gives_its_reason(tmp_path):
    """A run that failed at once must not look like one that may be resumed happily."""

    def broken(parameters):
        raise ValueError("no hill")

    task = distes.FunctionTask(broken, 2)
    with pytest.raises(distes.RunFailed):
        distes.Search(task, workers=0, out=tmp_path / "run").run()
    found = fields(describe_run(tmp_path / "run"))
    assert found["state"] == "failed: every episode of the first generation failed"
    assert found["first error"] == "ValueError: no hill"


def test_finish_without_its_scores_is_not_finished(finished, tmp_path):
    """Killed between the event and the last commit, a run is still to be resumed."""
    log = RunLog.create(tmp_path / "run", {"search": {"env": "CartPole-v1"}})
    log.add_event("finished", reason="4 generations")
    log.close()
    assert fields(describe_run(tmp_path / "run"))["state"].startswith("interrupted")


def test_workers_lost_and_retries_are_counted(tmp_path):
    """Trouble that changed no result still costs time, and is worth knowing."""
    problem = search(tmp_path / "plain")
    watched = problem.run()
    population = watched.run.population(0)
    log = RunLog.create(tmp_path / "run", watched.run.config)
    evaluated = evaluate(problem, population)
    for generation in range(2):
        key = distes.population.records.RunKey(0, generation)
        row = watched.run.generations.iloc[generation].to_dict()
        row |= {"retries": 2, "duplicates": generation, "workers": 3, "utilisation": 0.5}
        events = ({"kind": "worker_lost", "worker": 1}, {"kind": "worker_joined", "worker": 2})
        log.add_generation(row, key, population, replace(evaluated, events=events))
    log.commit(None, now=True)
    log.close()
    found = fields(describe_run(tmp_path / "run"))
    assert found["retries"] == "4 chunks ran again, with equal results"
    assert found["duplicates"].startswith("1 chunk ran twice")
    assert found["workers"] == (
        "3 in the last generation, 50% of their time in episodes; 2 joined, 2 lost"
    )
    assert found["events"] == "2 worker_lost"


def test_reason_of_an_earlier_session_is_not_the_runs_state(tmp_path):
    """A run that was resumed after a failure, and then interrupted, did not fail."""
    log = RunLog.create(tmp_path / "run", {"search": {"env": "CartPole-v1"}})
    log.add_event("failed", reason="every worker died")
    log.add_event("resumed", generation=0)
    log.close()
    assert fields(describe_run(tmp_path / "run"))["state"].startswith("interrupted")


def evaluate(problem, population):
    from distes.search.evaluator import make_evaluator

    evaluator = make_evaluator(problem, 0)
    try:
        answer = evaluator.submit(population, distes.population.records.RunKey(0, 0)).result()
    finally:
        evaluator.close()
    assert (answer.episodes.status == Status.OK).any()
    return answer


def test_what_is_no_run_is_refused(tmp_path):
    """An empty report of a mistyped path would look like an empty run."""
    with pytest.raises(UsageError, match="is not a run directory"):
        describe_run(tmp_path)


def test_a_terminal_obeys_no_run(tmp_path, capsys, monkeypatch):
    """If wrong: looking at somebody's run rewrites what the terminal shows, or types into it."""
    bad = "\x1b]0;owned\x07\x9b2J\u202e\udcff"
    search = {"env": bad, "strategy": {"name": bad}, "policy": {"name": "linear", bad: bad}}
    search |= {"env_kwargs": {"api_token": "s3cret", bad: 1}}
    path = tmp_path / "x"
    log = RunLog.create(path, {"search": search, "engine": bad, "git_revision": bad})
    log.add_event("worker_lost", worker=1, node=f"{bad}\ngeneration 1", error=f"{bad}\nscore: 1")
    log.add_event("failed", reason=bad, traceback=bad)
    log.close()
    for line in (["info"], ["info", "--follow"], ["plot", "--out", str(tmp_path / "x.png")]):
        main([line[0], str(path), *line[1:]])
        shown = "".join(capsys.readouterr())
        assert shown
        assert [each for each in shown if not each.isprintable() and each != "\n"] == []
        assert "s3cret" not in shown
        assert "\nscore" not in shown
    monkeypatch.setattr(report, "describe_run", lambda _: warnings.warn(bad, Notice, 2) or "")
    assert main(["info", str(path)]) == 0
    assert capsys.readouterr().err == r"distes: \x1b]0;owned\x07\x9b2J\u202e\udcff" + "\n"


def test_a_terminal_obeys_no_names_of_a_run(tmp_path, capsys, monkeypatch):
    """If wrong: names that somebody's run gives its files or contexts are obeyed."""
    bad = "\x1b]0;owned\x07\u202e"
    sums = {f"episodes/{bad}.parquet": inventory.FileSum(1, 2, 3)}
    path = tmp_path / "x"
    RunLog.create(path, {"search": {}}).close()
    open_folder(path).write("checkpoints/000000/done", inventory.encode(sums))
    assert main(["verify", str(path)]) == 1
    told = capsys.readouterr().err
    table = pd.DataFrame({f"context_{bad}": [1.0], "mean": 1.0, "low": 1.0, "high": 1.0})
    table = table.assign(episodes=1, failed=0)
    monkeypatch.setattr(solution, "evaluate_contexts", lambda *_, **__: table)
    assert main(["evaluate", str(path), "--grid", "1"]) == 0
    for shown in (told, capsys.readouterr().out):
        assert r"\x1b]0;owned\x07\u202e" in shown
        assert [each for each in shown if not each.isprintable() and each != "\n"] == []
