"""What others see of a run on Ray: Prometheus, Grafana, Ray's dashboard."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from itertools import combinations
from typing import ClassVar

import environments
import pytest
from paths import ROOT, SUPPORT

import distes
from distes.runs.reader import load
from distes.search.observer import Observer
from distes.views import scores
from distes.views.observers import prometheus

DASHBOARD = ROOT / "clusters" / "grafana" / "distes.json"

WATCHED_RUN = '''
"""A search on a Ray of its own, seen through what Ray serves; prints what was seen."""

import json, sys, time, urllib.request

import ray
from ray.util.state import list_actors

import distes
import environments
from distes.search.observer import Observer

directory, out = sys.argv[1:]
linux = sys.platform == "linux"
host = "127.0.0.2" if linux else "127.0.0.1"
context = ray.init(
    address="local",
    num_cpus=2,
    include_dashboard=True,
    dashboard_host=host,
    logging_level="error",
    log_to_driver=False,
    object_store_memory=100_000_000,
    _node_ip_address=host if linux else None,
    _temp_dir=directory,
    _system_config={"metrics_report_interval_ms": 500},
)
# Without an address Ray asks the cluster that was started last, whoever started it.
dashboard = f"http://{context.dashboard_url}"
port = ray.nodes()[0]["MetricsExportPort"]


def scrape():
    page = urllib.request.urlopen(f"http://{host}:{port}/metrics", timeout=10).read().decode()
    return [line for line in page.splitlines() if "ray_distes_" in line.split("{")[0]]


class Look(Observer):
    def generation(self, row):
        if row["generation"] == 1:
            self.actors = [vars(actor) for actor in list_actors(dashboard, detail=True)]


look = Look()
task = distes.FunctionTask(environments.watched_sphere, 2)
settings = dict(population=20, episodes=2, generations=4, heldout_every=2, seed=3)
settings |= dict(heldout_episodes=5, final_episodes=5, workers=2, out=out, observers=[look])
distes.Search(task, **settings).run()

deadline = time.monotonic() + 120
while True:
    page = scrape()
    done = any(l.startswith("ray_distes_generations{") and l.endswith(" 4.0") for l in page)
    if done or time.monotonic() > deadline:
        break
    time.sleep(0.2)
ended = [actor.state for actor in list_actors(dashboard)]
print(json.dumps({"page": page, "actors": look.actors, "ended": ended}))
ray.shutdown()
'''


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """A run on Ray, the metrics page after it, and Ray's list of actors during it."""
    out = tmp_path_factory.mktemp("runs") / "the run"
    directory = tempfile.mkdtemp(prefix="r", dir="/tmp")
    try:
        done = subprocess.run(
            [sys.executable, "-c", WATCHED_RUN, directory, str(out)],
            cwd=SUPPORT,
            stdout=subprocess.PIPE,
            timeout=400,
            check=True,
        )
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return load(out), json.loads(done.stdout)


def samples(page):
    """Read a metrics page: (name, value of the tag phase) -> value, and name -> type."""
    values, types = {}, {}
    for line in page:
        if line.startswith("# TYPE"):
            types[line.split()[2]] = line.split()[3]
        elif not line.startswith("#"):
            name, tags = re.match(r"(\w+)\{(.*)\} ", line).groups()
            tags = dict(re.findall(r'(\w+)="([^"]*)"', tags))
            assert tags["run"] == "the run"
            values[name, tags.get("phase")] = float(line.rpartition(" ")[2])
    return values, types


def assert_figures_of_the_log(values, run, scored):
    """Compare figures, (name, phase) -> value, with a run whose newest score is of ``scored``."""
    rows = run.generations
    for name, (_, column) in prometheus.COUNTERS.items():
        total = rows[column].sum() if column in rows else 0
        assert values[name, None] == pytest.approx(total), name
    for phase, column in prometheus.PHASES.items():
        seconds = values[prometheus.PHASE_SECONDS, phase]
        assert seconds == pytest.approx(rows[column].sum(), rel=1e-6)
    last = rows.iloc[-1]
    expected = {
        prometheus.GENERATIONS: len(rows),
        prometheus.BEST: rows["episode_return_max"].max(),
        prometheus.MEAN: last["episode_return_mean"],
        # The score at the run's end is in its result.
        prometheus.HELDOUT: scores.score_heldout(run)[scored].mean,
    }
    for name in (prometheus.WORKERS, prometheus.UTILISATION):
        expected |= {name: last[name_of(name)]} if name_of(name) in last else {}
    found = {name: value for (name, _), value in values.items() if name in prometheus.GAUGES}
    assert found == pytest.approx(expected)


def name_of(gauge):
    return gauge.removeprefix("distes_").removesuffix("_ratio")


@pytest.mark.slow  # the same without Ray is below
def test_prometheus_sees_what_the_log_has(seen):
    """A figure on a dashboard that is not the log's would be believed all the same."""
    run, answers = seen
    values, types = samples(answers["page"])
    assert values["ray_distes_failed_episodes_total", None] > 0
    assert values["ray_distes_workers", None] == 2
    ours = {(name.removeprefix("ray_"), phase): each for (name, phase), each in values.items()}
    assert_figures_of_the_log(ours, run, scored=1)
    for name, kind in types.items():
        assert kind == ("counter" if name.endswith("_total") else "gauge")
    assert types.keys() == prometheus.EXPORTED


@pytest.mark.slow
def test_workers_can_be_told_apart_on_the_dashboard(seen):
    """With names of Ray's making, nobody finds the worker that a log speaks of."""
    _, answers = seen
    actors = answers["actors"]
    assert {actor["state"] for actor in actors} == {"ALIVE"}
    for number, actor in enumerate(sorted(actors, key=lambda each: each["name"])):
        assert re.fullmatch(rf"distes-\w+-worker-{number}", actor["name"])
        assert actor["repr_name"].startswith(f"distes worker {number}")
        assert "Worker" in actor["class_name"]
    assert answers["ended"] == ["DEAD", "DEAD"]


class Recorder:
    """In place of Ray's counters and gauges: remembers sums, and the last value."""

    values: ClassVar[dict] = {}

    def __init__(self, name, description, tag_keys):
        self.name = name

    def set_default_tags(self, tags):
        self.tags = tags
        return self

    def set(self, value):
        self.values[self.name, None] = value

    def inc(self, value, tags=None):
        assert value > 0  # as Ray does
        key = self.name, (tags or {}).get("phase")
        self.values[key] = self.values.get(key, 0) + value


class Stop(Observer):
    def generation(self, row):
        if row["generation"] == 4:
            raise KeyboardInterrupt


def search(out, **settings):
    defaults = {"population": 10, "generations": 8, "heldout_every": 2, "heldout_episodes": 4}
    defaults |= {"final_episodes": 4, "workers": 0, "out": out}
    defaults |= {"task": distes.FunctionTask(environments.noisy_sphere, 2, noisy=True)}
    return distes.Search(**(defaults | settings))


@pytest.fixture
def recorded(monkeypatch):
    """What is exported, (name, phase) -> value."""
    monkeypatch.setattr(prometheus, "is_ray_connected", lambda: True)
    monkeypatch.setattr("ray.util.metrics.Counter", Recorder)
    monkeypatch.setattr("ray.util.metrics.Gauge", Recorder)
    monkeypatch.setattr(Recorder, "values", {})
    return Recorder.values


def test_what_is_exported_is_what_the_log_has(tmp_path, recorded):
    """A figure on a dashboard that is not the log's would be believed all the same."""
    task = distes.FunctionTask(environments.watched_sphere, 2)
    settings = {"task": task, "heldout_every": 3, "observers": [prometheus.Metrics()]}
    run = search(tmp_path / "run", **settings).run().run
    assert run.generations["failed"].sum() > 0
    assert_figures_of_the_log(recorded, run, scored=5)


def test_what_was_before_ray_is_exported_when_it_comes(tmp_path, recorded, monkeypatch):
    """If wrong: a run that begins without workers lacks its first generations on the dashboard."""
    task = distes.FunctionTask(environments.watched_sphere, 2)
    settings = {"task": task, "heldout_every": 3}
    monkeypatch.setattr(prometheus, "is_ray_connected", lambda: False)
    metrics = prometheus.Metrics()

    class Come(Observer):
        def generation(self, row):
            if row["generation"] == 5:
                assert not recorded
                monkeypatch.setattr(prometheus, "is_ray_connected", lambda: True)

    run = search(tmp_path / "run", observers=[Come(), metrics], **settings).run().run
    assert_figures_of_the_log(recorded, run, scored=5)


def test_gauges_of_a_resumed_run_begin_where_it_stopped(tmp_path, recorded):
    """A best return that falls on resume would look like lost work."""
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "run", observers=[Stop()]).run()
    prometheus.Metrics().started(None, tmp_path / "run", 5)
    for thread in threading.enumerate():  # the log is read beside the search
        if thread.name == "distes-metrics":
            thread.join()
    run = load(tmp_path / "run")
    held = scores.score_heldout(run)
    assert len(held) > 1
    gauges = {name: value for (name, _), value in recorded.items() if name in prometheus.GAUGES}
    assert gauges == {
        prometheus.GENERATIONS: 5,
        prometheus.BEST: run.generations["episode_return_max"].max(),
        prometheus.HELDOUT: held[max(held)].mean,
    }


def test_a_fault_of_the_exporter_leaves_the_run_alone(tmp_path, monkeypatch):
    """A day of search must not be lost to its dashboard."""

    class Faulty(Recorder):
        def set(self, value):
            if self.name == prometheus.BEST:
                raise ConnectionError("the exporter is gone")

    plain = search(tmp_path / "plain").run()
    monkeypatch.setattr(prometheus, "is_ray_connected", lambda: True)
    monkeypatch.setattr("ray.util.metrics.Counter", Recorder)
    monkeypatch.setattr("ray.util.metrics.Gauge", Faulty)
    watched = search(tmp_path / "watched", observers=[prometheus.Metrics()]).run()
    assert watched.score == plain.score
    (event,) = [each for each in watched.run.events if each["kind"] == "observer_failed"]
    assert event["observer"] == "Metrics"
    assert "the exporter is gone" in event["traceback"]


def panels():
    """All panels of the dashboard but the rows that only hold others."""
    return [p for p in json.loads(DASHBOARD.read_text())["panels"] if p["type"] != "row"]


@pytest.mark.parametrize("panel", panels(), ids=lambda panel: panel["title"])
def test_every_panel_can_be_read(panel):
    """A panel of numbers without unit, source or explanation says nothing."""
    assert panel["title"]
    assert panel["description"]
    assert panel["fieldConfig"]["defaults"]["unit"]
    for part in (panel, *panel["targets"]):
        assert part["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    for target in panel["targets"]:
        assert target["legendFormat"]
        assert set(re.findall(r"\bray_\w+", target["expr"])) <= prometheus.EXPORTED
        # Each query has the run's series alone, of however many runs a cluster has.
        assert target["expr"].count("ray_") == target["expr"].count('{run=~"$run"}')
        counters = re.findall(r"\bray_\w+_total", target["expr"])
        assert len(counters) == len(re.findall(r"\b(?:rate|increase)\(ray_", target["expr"]))


def test_dashboard_shows_every_metric_in_panels_of_their_own_place():
    """A metric nobody shows is one nobody looks at; panels that overlap hide each other."""
    shown = {n for p in panels() for t in p["targets"] for n in re.findall(r"ray_\w+", t["expr"])}
    assert shown == prometheus.EXPORTED
    dashboard = json.loads(DASHBOARD.read_text())
    everything = dashboard["panels"]
    assert len({panel["id"] for panel in everything}) == len(everything)
    for panel in everything:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
    for one, other in combinations([panel["gridPos"] for panel in everything], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above, f"{one} overlaps {other}"
    variables = {each["name"]: each for each in dashboard["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    assert re.findall(r"ray_\w+", variables["run"]["definition"]) == ["ray_distes_generations"]
    # Imported into any Grafana: no identity of the one it was made in.
    assert dashboard["id"] is None


def test_every_metric_is_explained():
    """A name that the page does not have is looked up in the source, or guessed at."""
    page = (DASHBOARD.parents[2] / "docs" / "monitoring.md").read_text()
    assert set(re.findall(r"`(ray_\w+)`", page)) == prometheus.EXPORTED
