"""Damaged runs: what is lost or altered is told in a sentence, and never read as if it were not."""

from __future__ import annotations

import io
import json
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from disturbances import differences
from marks import slow
from run_logs import assert_whole, run_to

import distes
from distes.cli import main
from distes.errors import Notice, UsageError
from distes.runs import inventory
from distes.runs.reader import load
from distes.runs.schema import PARTS
from distes.runs.storage.folder import LocalFolder, open_folder
from distes.runs.writer import RunLog
from distes.seeds import strategy_generator

PART = {
    name: f"{name}/part-000001.{'npz' if name == 'populations' else 'parquet'}" for name in PARTS
}


@pytest.fixture(scope="session")
def whole(tmp_path_factory) -> Path:
    """A run of six commits, written once."""
    path = tmp_path_factory.mktemp("damage") / "x"
    log = RunLog.create(path, {"search": {"seed": 3}})
    run_to(log, 0, 6)
    log.close()
    return path


@pytest.fixture
def run(tmp_path, whole) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "x"))


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Path:
    """A finished search of several commits."""
    path = tmp_path_factory.mktemp("damage") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalFolder, "commit_s", 0.0)
        make_search(path).run()
    return path


def make_search(out: Path) -> distes.Search:
    return distes.Search(
        "CartPole-v1", population=10, generations=3, episodes=1, final_episodes=2, seed=1,
        heldout_every=1, heldout_episodes=2, workers=0, engine="loop", out=out,
    )  # fmt: skip


def contents(path: Path) -> dict[str, bytes]:
    return {
        str(each.relative_to(path)): each.read_bytes()
        for each in sorted(path.rglob("*"))
        if each.is_file()
    }


def flip(file: Path, bit: int) -> None:
    data = bytearray(file.read_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    file.write_bytes(data)


def notices(call) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(each.message) for each in caught if issubclass(each.category, Notice)]


@pytest.mark.parametrize("harm", ["deleted", "altered"])
@pytest.mark.parametrize("folder", PARTS)
def test_a_resume_refuses_a_lost_or_altered_part_by_name(run, folder, harm):
    """If wrong: a run goes on, and ends well, with rows lost or falsified in silence."""
    if harm == "deleted":
        (run / PART[folder]).unlink()
    else:
        flip(run / PART[folder], 999)
    before = contents(run)
    for _ in range(2):  # and lets go of it
        with pytest.raises(UsageError, match=PART[folder]) as refused:
            RunLog.resume(run)
    assert "\n" not in str(refused.value)
    assert contents(run) == before


def test_a_resume_refuses_a_part_that_no_commit_wrote(run):
    """If wrong: rows of another run, or doubled ones, are among a run's own."""
    shutil.copy(run / PART["evaluations"], run / "evaluations" / "part-000002.parquet")
    with pytest.raises(UsageError, match=r"part-000002.parquet' is a part that no commit wrote"):
        RunLog.resume(run)


def test_a_resume_refuses_a_run_whose_checkpoints_are_gone(run, capsys):
    """If wrong: all of a run's parts are deleted because a folder was not copied."""
    shutil.rmtree(run / "checkpoints")
    before = contents(run)
    with pytest.raises(UsageError, match="no complete checkpoint"):
        RunLog.resume(run)
    assert contents(run) == before
    assert main(["verify", str(run)]) == 1
    assert "no complete checkpoint" in capsys.readouterr().err


def test_rows_without_a_checkpoint_are_no_whole_run(tmp_path, capsys, monkeypatch):
    """If wrong: a short run that was copied without its checkpoints passes for whole."""
    out = tmp_path / "run"
    monkeypatch.setattr(LocalFolder, "commit_s", 1e9)  # one commit, at the end
    make_search(out).run()
    rows = load(out).evaluations
    shutil.rmtree(out / "checkpoints")
    assert main(["verify", str(out)]) == 1
    told = capsys.readouterr().err
    assert "has no complete checkpoint: a run that goes on begins anew" in told
    assert main(["resume", str(out), "--workers", "0"]) == 0
    assert "has no complete checkpoint" in capsys.readouterr().err
    assert (load(out).evaluations["episode_return"] == rows["episode_return"]).all()


@pytest.mark.parametrize(
    "name",
    [
        *("checkpoints/000005/state.npz", "checkpoints/000005/done"),
        *("episodes/part-000005.parquet", "populations/part-000005.npz"),
    ],
)
@pytest.mark.parametrize("harm", ["deleted", "altered"])
def test_an_older_commit_that_is_whole_is_gone_on_from(run, name, harm):
    """If wrong: one bad file costs a run, although the last generation can be computed again."""
    if harm == "deleted":
        (run / name).unlink()
    else:
        flip(run / name, 999)
    said = []
    log, found = RunLog.resume(run, say=said.append)
    assert found.generation == 5
    # Without its marker it is not told from a commit that a crash cut short.
    assert (len(said), harm) == (0 if name.endswith("done") and harm == "deleted" else 1, harm)
    for each in said:
        assert name in each
        assert "goes on from commit 4, which is whole" in each
    run_to(log, 5, 7)
    log.close()
    assert_whole(run, 7)
    assert load(run).verify()[0] == []


def test_a_damaged_snapshot_is_read_from_the_commit_before(run):
    """If wrong: the solution of a run is lost with one file, or an older one passes for it."""
    (run / "checkpoints" / "000005" / "state.npz").unlink()
    found = []
    told = notices(lambda: found.append(load(run).snapshot()))
    assert found[0].generation == 5
    assert len(told) == 1
    assert "000005/state.npz' is missing; commit 4 is read instead" in told[0]


@pytest.mark.parametrize("place", ["directory", "memory://damage/lists"])
def test_sums_of_long_runs_are_in_lists(tmp_path, monkeypatch, place):
    """If wrong: each commit writes the names of all before it, or forgets them."""
    monkeypatch.setattr(inventory, "MAX_SUMS", 5)
    place = str(tmp_path / "x") if place == "directory" else place
    folder = open_folder(place)
    log = RunLog.create(place, {}, interval_s=0)
    run_to(log, 0, 9)
    log.close()
    for start in (9, 15):
        log, found = RunLog.resume(place, interval_s=0)
        assert found.generation == start
        run_to(log, start, start + 6)
        log.close()
    assert_whole(place, 21)
    faults, count = load(place).verify()
    lists = [name for name in folder.list_names("checkpoints") if name.endswith("json")]
    parts = [f"{name}/{part}" for name in PARTS for part in folder.list_names(name)]
    assert faults == []
    assert count == len(parts) + len(lists) + 3
    assert max(len(folder.read(f"checkpoints/{n:06d}/done")) for n in (18, 19, 20)) < 1000
    # The first parts are known by the first list alone.
    for lost, said in (
        ("episodes/part-000000.parquet", "missing"),
        (f"checkpoints/{lists[0]}", ""),
    ):
        kept = folder.read(lost)
        folder.delete(lost)
        with pytest.raises(UsageError, match=f"{lost}' is missing"):
            RunLog.resume(place)
        (told,) = notices(lambda: load(place).generations)
        assert f"{lost} is missing{'' if said else ', and with it'}" in told
        folder.write(lost, kept)
    assert load(place).verify()[0] == []


@pytest.mark.parametrize("folder", PARTS)
def test_whoever_reads_is_told_once_what_is_missing(run, folder):
    """If wrong: tables that lack rows look like all there is."""
    (run / PART[folder]).unlink()
    opened = load(run)
    told = notices(lambda: (opened.generations, opened.episodes, opened.population(3)))
    assert len(told) == 1
    assert PART[folder] in told[0]
    assert notices(lambda: load(run).episodes_of(2)) == told


def test_a_flipped_bit_is_never_another_value(run, whole):
    """If wrong: bit rot falsifies whatever is computed from a log, in silence."""
    random = strategy_generator(0, 1)
    tables = {name: getattr(load(whole), name) for name in PARTS[:3]}
    files = [each for name in PARTS for each in sorted((run / name).iterdir())]
    for file in (files[n] for n in random.integers(len(files), size=60)):
        kept = file.read_bytes()
        flip(file, int(random.integers(8 * len(kept))))
        opened = load(run)
        said = ""
        try:
            for name, table in tables.items():
                pd.testing.assert_frame_equal(getattr(opened, name), table)
            for generation in range(6):
                found = opened.population(generation).distribution.mean
                np.testing.assert_array_equal(found, np.full(2, float(generation)))
        except UsageError as error:
            said = str(error)
        assert file.name in said
        (fault,) = load(run).verify()[0]
        assert fault.startswith(f"'{file}' is damaged (")
        file.write_bytes(kept)


def test_plain_readers_can_verify_pages(whole):
    """If wrong: who reads the log without distes cannot know that it is as it was written."""
    for part in sorted((whole / "episodes").iterdir()):
        column = pq.ParquetFile(part).metadata.row_group(0).column(4)
        data = bytearray(part.read_bytes())
        data[column.data_page_offset + column.total_compressed_size - 1] ^= 1
        with pytest.raises(OSError, match="CRC"):
            pq.read_table(io.BytesIO(data), page_checksum_verification=True)


def test_verify_tells_by_its_exit_code(run, capsys):
    """If wrong: a copy that lost files passes for a good one."""
    assert main(["verify", str(run)]) == 0
    assert capsys.readouterr().out == f"'{run}' is whole: 24 files are as they were committed\n"
    (run / PART["episodes"]).unlink()
    config = (run / "config.json").read_text()
    (run / "config.json").write_text(config.replace('"seed": 3', '"seed": 7'))
    flip(run / "checkpoints" / "000004" / "state.npz", 400)
    shutil.copy(run / PART["evaluations"], run / "evaluations" / "part-000002.parquet")
    assert main(["verify", str(run)]) == 1
    seen, errors = capsys.readouterr()
    assert seen == ""
    assert errors.splitlines() == [
        f"distes: '{run}/config.json' is damaged",
        f"distes: '{run}/{PART['episodes']}' is missing (6 rows)",
        f"distes: '{run}/evaluations/part-000002.parquet' is a part that no commit wrote",
        f"distes: '{run}/checkpoints/000004/state.npz' is damaged",
    ]


COMMANDS = ("info {}", "plot {} --out {}.png", "verify {}", "resume {} --workers 0")


def assert_told(capsys, command: str, run: Path) -> str:
    """A command ends without a traceback; a refusal is one sentence. Gives what was said."""
    code = main([word.format(run) for word in command.split()])
    said = capsys.readouterr().err
    assert all(line.startswith("distes: ") for line in said.splitlines())
    assert code == 0 or said
    return said


def harm_file(file: Path, harm: str, random: np.random.Generator) -> None:
    if harm == "deleted":
        file.unlink()
    elif harm == "cut":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    elif file.stat().st_size:
        flip(file, int(random.integers(8 * file.stat().st_size)))


@pytest.mark.parametrize("harm", [slow("deleted"), slow("cut"), "flipped"])
def test_commands_say_what_is_wrong_with_a_damaged_run(finished, tmp_path, capsys, harm):
    """If wrong: who has a damaged run gets a traceback, or nothing that says so."""
    random = strategy_generator(1, 1)
    newest = max(finished.glob("checkpoints/*/state.npz"))
    parts = [max((finished / folder).iterdir()) for folder in PARTS]
    for number, file in enumerate([finished / "config.json", *parts, newest]):
        name = str(file.relative_to(finished))
        run = Path(shutil.copytree(finished, tmp_path / str(number)))
        harm_file(run / name, harm, random)
        said = "".join(assert_told(capsys, command, run) for command in COMMANDS)
        assert name in said or "schema version" in said
        if file == newest:  # the commit before it was gone on from
            assert not differences(run, finished)


def list_places(node: object, place: tuple = ()) -> list[tuple]:
    """Name every value in a tree of JSON by the keys that lead to it."""
    items = node.items() if isinstance(node, dict) else ()
    return [place, *(found for key, value in items for found in list_places(value, (*place, key)))]


def test_commands_refuse_wrong_types_in_a_configuration(finished, tmp_path, capsys):
    """If wrong: a configuration that was edited or damaged ends in a traceback."""
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    config = json.loads((run / "config.json").read_text())
    random = strategy_generator(2, 1)
    places = [place for place in list_places(config) if place not in {(), ("schema_version",)}]
    values = [None, 7, "x", [1], {}, True, 0.5]
    cases = [(place, value) for place in places for value in [*values, "deleted"]]
    for place, value in (cases[n] for n in random.choice(len(cases), 24, replace=False)):
        damaged = json.loads(json.dumps(config))
        owner = damaged
        for key in place[:-1]:
            owner = owner[key]
        if value == "deleted":
            del owner[place[-1]]
        else:
            owner[place[-1]] = value
        if json.dumps(damaged) == json.dumps(config):
            continue
        (run / "config.json").write_text(json.dumps(damaged))
        for command in ("info {}", "resume {} --workers 0"):
            assert "config.json" in assert_told(capsys, command, run) or "resume" in command


@pytest.mark.parametrize("place", ["num_candidates", "search.episodes"])
@pytest.mark.parametrize("value", ["x", []])
def test_a_number_that_is_none_is_said(finished, tmp_path, capsys, place, value):
    """If wrong: what is said of a run's size ends in a traceback."""
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    config = json.loads((run / "config.json").read_text())
    owner = config["search"] if place.startswith("search.") else config
    owner[place.removeprefix("search.")] = value
    (run / "config.json").write_text(json.dumps(config))
    assert f"config.json' is damaged: {place} is" in assert_told(capsys, "info {}", run)


def test_a_damaged_configuration_stops_a_resume(run):
    """If wrong: a run goes on with another seed, and its rows do not belong together."""
    config = (run / "config.json").read_text()
    (run / "config.json").write_text(config.replace('"seed": 3', '"seed": 7'))
    with pytest.raises(UsageError, match=r"config.json' is damaged$|config.json' is damaged;"):
        RunLog.resume(run)
    (told,) = notices(lambda: load(run).generations)
    assert "config.json is not as it was written" in told


@pytest.mark.parametrize("act", [distes.evaluate, distes.load_policy])
def test_who_acts_on_an_altered_configuration_is_told(finished, tmp_path, act):
    """If wrong: a solution is scored in another environment than it was found for."""
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    config = (run / "config.json").read_text()
    altered = config.replace('"env_kwargs": {}', '"env_kwargs": {"sutton_barto_reward": true}')
    (run / "config.json").write_text(altered)
    (told,) = notices(lambda: act(run))
    assert "config.json is not as it was written" in told


def test_lines_that_are_no_events_are_left_out(finished, tmp_path, capsys):
    """If wrong: one line ends whatever looks at a run, and the rest is not seen."""
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    events = load(run).events
    lines = ["7", "[]", "null", '"x"', "{}", '{"kind": 3}', '{"kind": "x", "generation": "y"}', "{"]
    with (run / "events.jsonl").open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))
    (told,) = notices(lambda: load(run).events)
    assert told.startswith("7 lines are no events")
    assert load(run).events == events
    for command in COMMANDS[:2]:
        assert_told(capsys, command, run)


def test_a_finished_run_whose_score_is_lost_is_refused(finished, tmp_path):
    """If wrong: what is started again after a failure ends in a traceback."""
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    for text in ("", '{"kind": "finished", "score": 3}\n'):
        (run / "events.jsonl").write_text(text)
        with pytest.raises(UsageError, match="distes evaluate"):
            make_search(run).run(resume_if_exists=True)


@pytest.mark.parametrize("name", ["config.json", "events.jsonl", "checkpoints", *PARTS, "²"])
def test_what_is_no_file_or_no_folder_is_said(finished, tmp_path, capsys, name):
    """If wrong: a folder where a file is due, or one that others may not read, is a traceback."""
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    place = max((run / name).iterdir()) if name in PARTS else run / name
    place = run / "checkpoints" / name if name == "²" else place
    if place.is_dir():
        shutil.rmtree(place)
        place.touch()
    else:
        place.unlink(missing_ok=True)
        place.mkdir()
    for command in ("info {}", "verify {}", "resume {} --workers 0"):
        assert_told(capsys, command, run)


@pytest.mark.parametrize("name", ["config.json", "events.jsonl", "generations"])
def test_nobody_waits_for_a_pipe(finished, tmp_path, capsys, name):
    """If wrong: a pipe in a file's place holds every command up for good."""
    run = Path(shutil.copytree(finished, tmp_path / "run"))
    place = max((run / name).iterdir()) if name == "generations" else run / name
    place.unlink()
    os.mkfifo(place)
    for command in ("info {}", "verify {}"):
        assert_told(capsys, command, run)
