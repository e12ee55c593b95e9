"""Watching runs: what is seen is what was logged, and the file can be played."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import environments
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image
from searches import StopAt

import distes
from distes.cli import main
from distes.errors import UsageError
from distes.policies import Linear
from distes.policies.gaussian import GaussianNoise
from distes.population.records import Rerun
from distes.search.search import Search
from distes.strategies import CEM, CREPS
from distes.strategies.deep_cem import DeepCEM
from distes.strategies.reinforce import Reinforce
from distes.tasks.environment import Task
from distes.tasks.function import FunctionTask
from distes.views.replay import video as videos
from distes.views.replay.recording import Camera, find_rendering
from distes.views.replay.replay import watch_episodes
from distes.views.replay.video import Limits, Video

WINDS: Any = {"context_low": (-1.0, -1.0), "context_high": (1.0, 1.0)}


def without_episodes(run: Path) -> Path:
    """Copy a run as someone does who finds its episodes too large."""
    copy = run.with_name("emptied")
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("episodes"))
    return copy


def search(out: Path, task: Any, **changes: Any) -> Path:
    settings: dict[str, Any] = {"population": 6, "generations": 3, "seed": 5, "workers": 0}
    settings |= {"heldout_every": 2, "final_episodes": 3, "heldout_episodes": 3, "out": out}
    settings |= {"strategy": CEM(elite_fraction=0.5)}
    if not isinstance(task, FunctionTask):
        settings |= {"policy": "linear"}
    return Path(Search(task, **(settings | changes)).run().path)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    walk = Task(environments.painted)
    cartpole = search(folder / "cartpole", "CartPole-v1", episodes=2)
    sampled: dict[str, Any] = {"policy": GaussianNoise(), "episodes": 3}
    return {
        "deterministic": search(folder / "deterministic", walk, episodes=3),
        "normalised": search(folder / "normalised", walk, episodes=2, normalize_observations=True),
        "contextual": search(
            folder / "contextual",
            Task(environments.painted, context="info"),
            strategy=CREPS(),
            policy=Linear(),
            population=30,
            normalize_observations=True,
        ),
        "uniform": search(
            folder / "uniform", Task(environments.painted, context="uniform", **WINDS), episodes=2
        ),
        "stochastic": search(folder / "stochastic", walk, strategy=DeepCEM(), **sampled),
        "same start": search(
            folder / "same start", walk, strategy=DeepCEM(same_start=True), **sampled
        ),
        "gradient": search(
            folder / "gradient", walk, strategy=Reinforce(), normalize_observations=True, **sampled
        ),
        "common": search(folder / "common", walk, episodes=2, common_seeds=True),
        "limited": search(folder / "limited", Task(environments.painted, max_episode_steps=7)),
        "anew": search(folder / "anew", Task(environments.painted, reuse_env=True), episodes=2),
        "cartpole": cartpole,
        "emptied": without_episodes(cartpole),
        "fragile": search(
            folder / "fragile",
            Task(environments.painted, env_kwargs={"fail_above": 0.7}),
            population=20,
            episodes=2,
            max_failed_fraction=1.0,
        ),
        "moody": search(folder / "moody", Task(environments.Moody)),
        "function": search(folder / "function", FunctionTask(environments.sphere, 2)),
        "unseen": search(folder / "unseen", Task(environments.windy)),
        "never": search(folder / "never", Task(environments.never_painted)),
        "always": search(folder / "always", Task(environments.always_painted)),
        "blank": search(folder / "blank", Task(environments.Blank)),
        "smudged": search(folder / "smudged", Task(environments.Smudged)),
    }


def frames_of(path: Path) -> tuple[dict[str, Any], list[Any]]:
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    width, height = meta["size"]
    return meta, [np.frombuffer(each, np.uint8).reshape(height, width, 3) for each in reader]


@pytest.mark.parametrize(
    "name",
    [
        "deterministic",
        "normalised",
        "contextual",
        "uniform",
        "stochastic",
        "same start",
        "gradient",
        "common",
        "limited",
        "anew",
        "cartpole",
        "fragile",
        "always",
    ],
)
def test_a_logged_candidate_has_its_logged_returns(
    runs: dict[str, Path], name: str, tmp_path: Path
) -> None:
    """A wrong seed, start, context, statistic, limit or draw of the policy would change them."""
    rows = distes.load(runs[name]).episodes
    for number, (generation, candidate) in enumerate([(0, 1), (2, 4)]):
        seen = distes.replay(
            runs[name], out=tmp_path / f"{number}.mp4", generation=generation, candidate=candidate
        )
        logged = rows[(rows["generation"] == generation) & (rows["candidate"] == candidate)]
        assert len(logged)
        for column in ("episode", "seed", "episode_return", "episode_length", "terminated"):
            np.testing.assert_array_equal(seen.episodes[column], logged[column])
        np.testing.assert_array_equal(seen.episodes["truncated"], logged["truncated"])
        assert seen.episodes["status"].tolist() == logged["status"].tolist()
        if "context_0" in seen.episodes:
            contexts = seen.episodes[["context_0", "context_1"]].to_numpy()
            np.testing.assert_array_equal(contexts, np.stack(logged["context"].to_list()))
        assert seen.differences is None


def test_failed_episodes_fail_again(runs: dict[str, Path], tmp_path: Path) -> None:
    """Nothing is as worth watching; NaN must not count as another return."""
    rows = distes.load(runs["fragile"]).episodes
    failed = rows[rows["status"] == "error"].iloc[0]
    seen = distes.replay(
        runs["fragile"],
        out=tmp_path / "a.mp4",
        generation=int(failed["generation"]),
        candidate=int(failed["candidate"]),
    )
    assert seen.differences is None
    assert "error" in seen.episodes["status"].tolist()
    assert seen.fault is not None
    assert "off the table" in seen.fault
    assert "off the table" in " ".join(seen.lines())
    assert seen.frames > 5


def test_the_solution_meets_the_episodes_it_is_scored_on(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    """A video of other episodes would not explain a score."""
    for name in ("normalised", "stochastic"):
        seen = distes.replay(runs[name], out=tmp_path / f"{name}.mp4", episodes=3, seed=7)
        score = distes.evaluate(runs[name], episodes=3, seed=7)
        assert seen.episodes["episode_return"].mean() == pytest.approx(score.mean, rel=1e-12)
        other = distes.replay(runs[name], out=tmp_path / f"{name} 8.mp4", episodes=3, seed=8)
        assert set(seen.episodes["seed"]).isdisjoint(other.episodes["seed"])
        assert (seen.episodes["seed"] >= 2**62).all()


def test_a_context_is_imposed(runs: dict[str, Path], tmp_path: Path) -> None:
    seen = distes.replay(runs["contextual"], out=tmp_path / "a.mp4", context=[0.5, -1.0])
    assert seen.episodes[["context_0", "context_1"]].to_numpy().tolist() == [[0.5, -1.0]]
    score = distes.evaluate_contexts(runs["contextual"], [0.5, -1.0], episodes=1)
    assert seen.episodes["episode_return"].tolist() == score["mean"].tolist()


class Reel:
    """A film that keeps everything."""

    def __init__(self) -> None:
        self.taken: list[tuple[Any, str, int]] = []

    def add(self, frame: Any, caption: str, times: int = 1) -> bool:
        self.taken.append((frame, caption, times))
        return True


@pytest.mark.parametrize("every", [1, 3])
@pytest.mark.parametrize("name", ["deterministic", "limited"])
def test_frames_are_the_states_of_the_episode(runs: dict[str, Path], name: str, every: int) -> None:
    """A frame too late, or the end left out, would show something else than happened."""
    run = distes.load(runs[name])
    rows = run.episodes.query("generation == 2 and candidate == 1")
    limit = 7 if name == "limited" else None
    task = Task(environments.painted, max_episode_steps=limit)
    policy = distes.load_policy(runs[name], generation=2, candidate=1)
    expected = []
    for seed in rows["seed"]:
        env = environments.Painted()
        observation, _ = env.reset(seed=int(seed))
        positions, total, ended = [env.position], [0.0], False
        while not ended:
            observation, reward, ended, *_ = env.step(policy(observation))
            ended |= len(positions) == limit
            positions.append(env.position)
            total.append(total[-1] + float(reward))
        kept = [*range(0, len(positions), every), len(positions) - 1]
        expected += [(positions[t], f"{total[t]:.2f}") for t in kept]
    reel = Reel()
    again = Rerun(
        *(rows[column].to_numpy(np.int64) for column in ("candidate", "episode", "seed", "seed"))
    )
    built = task.build_policy(Linear())
    how = find_rendering(task, "rgb_array")
    camera = Camera(reel.add, 10.0, every, len(rows))
    watch_episodes(task, how, built, replace(run.population(2), rerun=again), camera)
    assert len(reel.taken) == len(expected)
    for (frame, caption, _), (position, total) in zip(reel.taken, expected, strict=True):
        np.testing.assert_array_equal(frame, environments.painted_frame(position))
        assert caption.endswith((f"return {total}", "return 0"))
    assert [times for *_, times in reel.taken].count(7) == len(rows)
    if len(rows) > 1:
        assert reel.taken[-1][1].startswith(f"episode {len(rows)} of {len(rows)} ")


def test_a_video_can_be_played(runs: dict[str, Path], tmp_path: Path) -> None:
    """At the environment's own pace, each step in a frame, and the caption below."""
    seen = distes.replay(runs["deterministic"], out=tmp_path / "new folder" / "a.mp4", episodes=2)
    steps = int(seen.episodes["episode_length"].sum())
    meta, frames = frames_of(tmp_path / "new folder" / "a.mp4")
    assert meta["fps"] == pytest.approx(10)
    assert meta["codec"] == "h264"
    assert meta["pix_fmt"].startswith("yuv420p")
    assert len(frames) == seen.frames == steps + 2 * (1 + 7)
    assert seen.seconds == pytest.approx(len(frames) / 10)
    height, width = frames[0].shape[:2]
    assert (width, height) == (240, 144 + 22)
    picture, strip = frames[5][:144], frames[5][144:]
    column = int((picture[72].mean(axis=-1) < 100).argmax())
    assert abs(column // 6 - int((frames[4][72].mean(axis=-1) < 100).argmax()) // 6) <= 3
    assert strip.min() < 100 < strip.max()  # text on a light ground
    assert [p.name for p in (tmp_path / "new folder").iterdir()] == ["a.mp4"]


def test_a_gif_skips_frames_and_keeps_its_pace(runs: dict[str, Path], tmp_path: Path) -> None:
    """CartPole makes 50 steps a second, which no browser plays as a GIF."""
    seen = distes.replay(runs["cartpole"], out=tmp_path / "a.gif", generation=2, candidate=1)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.size == (480, 320 + 32)
        durations = []
        for number in range(gif.n_frames):  # type: ignore[attr-defined]
            gif.seek(number)
            durations.append(gif.info["duration"])
        assert gif.info["loop"] == 0
    assert set(durations[:3]) == {40}
    assert sum(durations) == seen.frames * 40
    lengths = seen.episodes["episode_length"]
    assert sum(durations) == pytest.approx(20 * lengths.sum() + 2 * 700, abs=200)


def test_long_videos_end_early_and_say_so(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Episodes without end would fill the disk."""
    monkeypatch.setitem(videos.FORMATS, ".mp4", Limits(fps=60, frames=8, side=100))
    seen = distes.replay(runs["deterministic"], out=tmp_path / "a.mp4", episodes=2)
    assert seen.cut
    assert len(frames_of(tmp_path / "a.mp4")[1]) == seen.frames == 8
    assert (seen.episodes["episode_length"] == 10).all()
    assert "fewer episodes" in seen.lines()[-1]


def test_frames_of_any_size_make_a_film(tmp_path: Path) -> None:
    """Odd sides are none of H.264's; an environment may change its size."""
    for suffix in (".mp4", ".gif"):
        place = videos.locate_video(tmp_path / f"a{suffix}")
        with Video(place, 5, Limits(60, 100, 200)) as film:
            for size in ((301, 401), (7, 9), (300, 400)):
                assert film.add(np.zeros((*size, 3), np.uint8), "caption")
        assert place.stat().st_size > 500
    _, frames = frames_of(tmp_path / "a.mp4")
    assert {each.shape[1] for each in frames} == {200}
    assert len(frames) == 3


def test_a_film_that_fails_leaves_nothing(tmp_path: Path) -> None:
    """Half a file looks like a whole one."""
    for suffix in (".mp4", ".gif"):
        film = Video(tmp_path / f"a{suffix}", 5)
        film.add(np.zeros((40, 40, 3), np.uint8), "caption")
        film.__exit__(ZeroDivisionError, ZeroDivisionError(), None)
        with Video(tmp_path / f"b{suffix}", 5):
            pass
    assert list(tmp_path.iterdir()) == []


def test_returns_that_differ_are_said(
    runs: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """To show another episode as if it were the logged one would mislead."""
    monkeypatch.setattr(environments.Moody, "mood", 1.0)
    line = ["replay", str(runs["moody"]), "--generation", "1", "--candidate", "2", "--out"]
    assert main([*line, str(tmp_path / "a.mp4")]) == 1
    out, error = capfd.readouterr()
    assert "logged" in out
    assert "as logged" not in out
    assert error.startswith("distes: the returns of these episodes differ from the log: 0 (")
    assert error.count("\n") == 1
    assert "distes check" in error
    monkeypatch.undo()
    assert main([*line, str(tmp_path / "b.mp4")]) == 0
    out, error = capfd.readouterr()
    assert ", as logged, 10 steps" in out
    assert error == ""


@pytest.mark.parametrize(
    ("name", "flags", "said"),
    [
        ("function", "--out a.mp4", "sphere is a function of the parameters"),
        ("unseen", "--out a.mp4", "windy does not render as rgb_array: it has none"),
        ("never", "--out a.mp4", "never_painted takes no render_mode"),
        ("blank", "--out a.mp4", "Blank's render gives None"),
        ("smudged", "--out a.mp4", "Smudged can't be rendered: the canvas is wet"),
        ("cartpole", "", "say where to watch"),
        ("cartpole", "--show --out a.mp4", "say where to watch"),
        ("cartpole", "--out a.avi", "unknown video format '.avi': accepted are .gif, .mp4"),
        ("cartpole", "--out a", "unknown video format 'a'"),
        ("cartpole", "--out .mp4", "'.mp4' has no name before its format"),
        ("cartpole", "--out a.mp4 --best --candidate 1", "leave out candidate"),
        ("cartpole", "--out a.mp4 --best --generation 9", "no episodes of generation 9, counted"),
        ("cartpole", "--out a.mp4 --best --seed 3", "leave out seed"),
        ("emptied", "--out a.mp4 --generation 1 --candidate 1", "holds no episode of candidate 1"),
        ("emptied", "--out a.mp4 --best", "emptied holds no episodes"),
        ("cartpole", "--out s3://bucket/a.mp4", "is a URI: a video is written to a local path"),
        ("cartpole", "--out there.mp4", "'there.mp4' is there already"),
        ("cartpole", "--out file/a.mp4", "'file/a.mp4' can't be written"),
        ("cartpole", "--out a.mp4 --generation 1", "by generation and candidate, both"),
        ("cartpole", "--out a.mp4 --candidate 1", "by generation and candidate, both"),
        ("cartpole", "--out a.mp4 --generation 3 --candidate 0", "is not one of the 3 of"),
        ("cartpole", "--out a.mp4 --generation -1 --candidate 0", "generation -1 is not at least"),
        ("cartpole", "--out a.mp4 --generation 0 --candidate 6", "not one of the 6 of generation"),
        ("cartpole", "--out a.mp4 --generation 0 --candidate 0 --episodes 3", "has 2 logged episo"),
        ("cartpole", "--out a.mp4 --generation 0 --candidate 0 --seed 3", "leave out seed"),
        ("contextual", "--out a.mp4 --generation 0 --candidate 0 --context 1,1", "out context"),
        ("contextual", "--out a.mp4 --context 1", "has 2 numbers"),
        ("cartpole", "--out a.mp4 --context 1", "has no contexts"),
        (
            "cartpole",
            "--out a.mp4 --episodes 0",
            "--episodes '0' is not a whole number of at least 1",
        ),
        ("missing", "--out a.mp4", "unknown run in"),
    ],
)
def test_mistakes_are_one_sentence_and_nothing_is_written(
    runs: dict[str, Path],
    name: str,
    flags: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there.mp4").write_text("something")
    (tmp_path / "file").write_text("something")
    path = runs.get(name, runs["cartpole"].parent / "cartpool")
    assert main(["replay", str(path), *shlex.split(flags)]) == 2
    out, error = capfd.readouterr()
    assert out == ""
    assert error.startswith("distes: ")
    # Of what is missing a notice says so first.
    assert error.count("\n") == (2 if name == "emptied" else 1)
    assert said in error
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "there.mp4"]
    assert (tmp_path / "there.mp4").read_text() == "something"


def test_a_video_is_overwritten_if_asked(runs: dict[str, Path], tmp_path: Path) -> None:
    """If wrong: who makes a video again has to remove the last one first."""
    (tmp_path / "there.gif").write_text("something")
    flags = ["--out", str(tmp_path / "there.gif"), "--force"]
    assert main(["replay", str(runs["cartpole"]), *flags]) == 0
    assert (tmp_path / "there.gif").read_bytes().startswith(b"GIF")


def test_a_missing_extra_is_named(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(UsageError, match=r"pip install 'distes\[video\]'"):
        distes.replay(runs["cartpole"], out=tmp_path / "a.mp4")
    assert list(tmp_path.iterdir()) == []


def test_candidates_that_would_take_this_process_down_are_refused(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for status, what in (("crashed", "killed its worker"), ("timeout", "outlived")):

        def crashed(self: Any, generation: int, status: str = status) -> Any:
            rows = self.episodes[self.episodes["generation"] == generation].copy()
            rows["status"] = status
            return rows

        monkeypatch.setattr(distes.runs.reader.Run, "episodes_of", crashed)
        with pytest.raises(UsageError, match=f"candidate 1 of generation 2 {what}"):
            distes.replay(runs["cartpole"], out=tmp_path / "a.mp4", generation=2, candidate=1)


def test_a_window_needs_a_display(
    runs: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """SDL's dummy driver stands for a window; without it there is a sentence."""
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    line = ["replay", str(runs["cartpole"]), "--show"]
    assert main(line) == 2
    assert "there is no display" in capfd.readouterr().err
    # Nothing answers there, and SDL would draw into memory without a word.
    monkeypatch.setenv("DISPLAY", ":4242")
    assert main(line) == 2
    out, error = capfd.readouterr()
    assert out == ""
    assert "there is no display" in error
    assert error.count("\n") == 1
    assert "SDL_VIDEODRIVER" not in os.environ
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    assert main([*line, "--generation", "0", "--candidate", "1"]) == 0
    assert capfd.readouterr().out.count(", as logged, ") == 2
    assert main(["replay", str(runs["deterministic"]), "--show"]) == 0  # frames, in a window


def test_the_best_candidate_is_found(runs: dict[str, Path], tmp_path: Path) -> None:
    """By its mean: the luckiest episode may be of a poor candidate; and never a failed one."""
    for name in ("fragile", "stochastic"):
        for generation in (None, 1):
            rows = distes.load(runs[name]).episodes
            rows = rows[rows["generation"].isin(range(3) if generation is None else [generation])]
            found: dict[tuple[int, int], list[float]] = {}
            for row in rows.to_dict("records"):
                key = (row["generation"], row["candidate"])
                found.setdefault(key, []).append(row["episode_return"])
            whole = {key: np.mean(all_) for key, all_ in found.items() if np.isfinite(all_).all()}
            best = max(sorted(whole), key=lambda key: whole[key])
            out = tmp_path / f"{name}{generation}.gif"
            seen = distes.replay(runs[name], out=out, best=True, generation=generation)
            assert seen.played.startswith(f"generation {best[0]}, ")
            assert f"candidate {best[1]}, mean return {whole[best]:.10g} of " in seen.played
            assert seen.differences is None


def test_there_is_no_best_of_those_that_failed(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = distes.load(runs["fragile"]).episodes
    failed = rows[rows["status"] == "error"]
    monkeypatch.setattr(distes.runs.reader.Run, "read", lambda *_, **options: failed)
    with pytest.raises(UsageError, match=r"each candidate of .*fragile has a failed episode"):
        distes.replay(runs["fragile"], out=tmp_path / "a.mp4", best=True)


def test_what_is_played_is_said_first(
    runs: dict[str, Path], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """If wrong: the user watches another candidate than the one that the log names."""
    line = ["replay", str(runs["limited"]), "--out"]
    assert main([*line, str(tmp_path / "a.gif")]) == 0
    assert capfd.readouterr().out.startswith("the solution, on new episodes\n")
    named = ["--generation", "2", "--candidate", "4"]
    assert main([*line, str(tmp_path / "b.gif"), *named]) == 0
    rows = distes.load(runs["limited"]).episodes.query("generation == 2 and candidate == 4")
    (total,) = rows["episode_return"]
    said = capfd.readouterr().out.splitlines()[0]
    assert said == f"generation 2, candidate 4, return {total:.10g}"


def test_the_help_says_how_generations_count_and_what_is_needed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert main(["replay", "--help"]) == 0
    said = re.sub(r"\s+", " ", capfd.readouterr().out)
    assert "of a logged candidate, from 0 as everywhere" in said
    assert "Exactly one of --out and --show is needed" in said


def test_a_run_in_progress_is_shown(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        search(tmp_path / "run", Task(environments.painted), observers=(StopAt(1),))
    seen = distes.replay(tmp_path / "run", out=tmp_path / "a.mp4")
    assert seen.episodes["episode_length"].tolist() == [10]
