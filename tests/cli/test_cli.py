import json
import re
import shlex
import signal
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from marks import slow

from distes.cli import main
from distes.engines import choice
from distes.engines.kernels import lookup
from distes.policies import Linear
from distes.search.search import Search
from distes.tasks.environment import Task
from distes.views.observers.terminal import Display

Said = tuple[int, str, str]
"""Exit code, stdout, stderr."""

Command = Callable[..., Said]

ENVIRONMENTS = '''
import gymnasium as gym
import numpy as np
from distes.search.observer import Observer
from distes.strategies.cem import CEM


class Base(gym.Env):
    observation_space = gym.spaces.Box(-1, 1, (2,))
    action_space = gym.spaces.Discrete(2)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, np.float32), {}

    def step(self, action):
        return np.zeros(2, np.float32), float(action), True, False, {}


class Broken(Base):
    def step(self, action):
        raise ArithmeticError("the gearbox is gone")


class Sentences(Base):
    observation_space = gym.spaces.Text(5)


class Leaking(Base):
    """Its own generator is never seeded."""

    def step(self, action):
        return np.zeros(2, np.float32), np.random.random(), True, False, {}


class Counting(Observer):
    """Counts generations."""

    def generation(self, row):
        print("counted", row["generation"])


def worst(table):
    return table.min(axis=1)


class Mine(CEM):
    """Another CEM."""


class Faulty(CEM):
    """Fails in tell."""

    def tell(self, problem, state, population, episodes):
        raise ZeroDivisionError("in my own code")
'''


@pytest.fixture(scope="module", autouse=True)
def _compiled_before() -> None:
    """A machine's first run says that it compiles, which is not what these tests listen for."""
    if lookup.is_numba_installed():
        task = Task("CartPole-v1")
        choice.make("compiled", task, task.build_policy(Linear())).prepare()


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Command:
    """Run a command line in an empty folder of its own."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (tmp_path / "cli_things.py").write_text(ENVIRONMENTS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(sys.modules, "cli_things", None)
    del sys.modules["cli_things"]

    def run(line: str, *more: str) -> Said:
        code = main([*shlex.split(line), *more])
        out, err = capfd.readouterr()
        return code, out, err

    return run


BAD = [
    ("run CartPloe-v1", "environment 'CartPloe-v1': did you mean 'CartPole-v1'?"),
    ("run no_such_module:Env-v0", "there is no module 'no_such_module'"),
    ("run CartPole-v1 --strategy icme", "strategy 'icme': did you mean 'icem'?"),
    ("run CartPole-v1 --strategy cli_things:worst", "'worst' in cli_things is not a subclass"),
    ("run CartPole-v1 --strategy deepcem", "snes, tabular_cem, xnes."),
    ("run CartPole-v1 --observer promtheus", "observer 'promtheus': did you mean 'prometheus'?"),
    ("run CartPole-v1 --observer cli_things:worst", "'worst' in cli_things is not a subclass"),
    ("resume nowhere --observer prometheus", "nowhere"),
    ("run cli_things:worst", "is searched from Python, as a distes.FunctionTask"),
    ("run CartPole-v1 --policy liner", "policy 'liner': did you mean 'linear'?"),
    ("run CartPole-v1 --engine lop", "did you mean 'loop'? Accepted: auto, compiled, loop"),
    ("run CartPole-v1 --sede 3", "flag '--sede': did you mean '--seed'?"),
    ("run CartPole-v1 --elite-fraction 0.2", "did you mean '--strategy.elite-fraction'?"),
    ("run CartPole-v1 --strategy.elite-fractoin 0.2", "did you mean '--strategy.elite-fraction'?"),
    (
        "run CartPole-v1 --strategy random_search --strategy.elite-fraction 0.2",
        "belongs to strategy cem and icem, and this run's is random_search",
    ),
    (
        "run CartPole-v1 --policy.hidden 8",
        "sigmoid and softmax, and no policy is named: say which, for example --policy mlp",
    ),
    ("run CartPole-v1 --population 2", "a population of 2"),
    ("run CartPole-v1 --population 0", "population 0 is not between 1"),
    (f"run CartPole-v1 --population {10**30}", "is not between 1 and 100,000,000"),
    ("run CartPole-v1 --population 99999 --episodes 99999", "9,999,800,001 episodes in a"),
    ("run CartPole-v1 --strategy :x", "':x' is not of the form package.module:name"),
    ("run CartPole-v1 --strategy .:x", "'.:x' is not of the form package.module:name"),
    ("run CartPole-v1 --strategy creps --strategy.epsilon 800", "a smaller epsilon"),
    ("run CartPole-v1 --log-info \udced", "log_info '\\udced' is not a name"),
    (f"run CartPole-v1 --out {'x' * 300}", "a name is too long"),
    (f"info {'x' * 300}", "a name is too long"),
    ("run CartPole-v1 --seed x", "--seed 'x' is not a whole number"),
    ("run CartPole-v1 --generations ten", "'ten' is not a whole number or auto or none"),
    ("run CartPole-v1 --target nan", "--target 'nan' is not finite"),
    ("run CartPole-v1 --reward-shift inf", "--reward-shift 'inf' is not finite"),
    (
        "run CartPole-v1 --strategy cem --strategy.initial-std nan",
        "--strategy.initial-std 'nan' is not finite",
    ),
    ("run CartPole-v1 --strategy cem --strategy.covariance fll", "did you mean 'full'?"),
    ("run CartPole-v1 --policy mlp --policy.hidden 8,x", "whole numbers separated by commas"),
    ("run CartPole-v1 --env-kwargs {a:1}", "is not JSON"),
    ("""run CartPole-v1 --env-kwargs '{"gravty": 1}'""", "gravty"),
    ("run CartPole-v1 --fitness men", "fitness 'men' is not one of mean, min, cvar"),
    ("run CartPole-v1 --max-episode-steps 0", "max_episode_steps 0 is not at least 1"),
    ("run CartPole-v1 --start-from nothing", "there is no run directory 'nothing'"),
    ("run CartPole-v1 --start-from nothing.npy", "nothing.npy does not exist"),
    ("run CartPole-v1 --episode-timeout 5", "episode_timeout_s 5 needs workers"),
    ("run CartPole-v1 --episode-timeout 0", "episode_timeout_s 0.0 is not a finite number > 0"),
    ("run CartPole-v1 --episode-timout 5", "did you mean '--episode-timeout'?"),
    ("run CartPole-v1 --min-workers 3", "min_workers 3 is more than workers 0"),
    ("run CartPole-v1 --min-workers 0", "min_workers 0 is not at least 1"),
    ("run CartPole-v1 --seed", "--seed"),
    ("run CartPole-v1 Pendulum-v1", "Pendulum-v1"),
    ("run cli_things:Sentences", "Text"),
    ("run nothing.toml", "there is no configuration file nothing.toml"),
    ("run", "ENV|CONFIG.toml"),
    ("rnu CartPole-v1", "command 'rnu': did you mean 'run'?"),
    ("list strtegies", "'strtegies': did you mean 'strategies'?"),
    ("resume nothing", "there is no run directory 'nothing'"),
    ("resume nothing --workers many", "--workers 'many' is not a whole number or auto"),
    ("evaluate nothing", "there is no run directory 'nothing'"),
    ("evaluate nothing --episodes 0", "--episodes '0' is not a whole number of at least 1"),
    ("evaluate nothing --seed x", "--seed 'x' is not a whole number of at least 0"),
    ("run folder/my_env.py", "is a file: name what it registers, my_env:ID, or a class"),
    ("evaluate nothing --epsiodes 3", "did you mean '--episodes'?"),
    ("plot a --out b.png --x sceonds", "did you mean 'seconds'?"),
    ("info nothing", "there is no run directory 'nothing'"),
    ("check CartPloe-v1", "did you mean 'CartPole-v1'?"),
]


@pytest.mark.parametrize(("line", "said"), BAD, ids=[line for line, _ in BAD])
def test_a_mistake_is_one_sentence_and_nothing_is_written(
    command: Command, line: str, said: str
) -> None:
    workers = " --workers 0" if line.startswith("run ") and line != "run" else ""
    code, out, err = command(line + workers if "--seed" not in line[-7:] else line)
    assert code == 2
    assert out == ""
    assert err.startswith("distes: ")
    assert err.count("\n") == 1
    assert said in err
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sede = 1", "key 'sede': did you mean 'seed'?"),
        ("[strategy]\nname = 'cem'\nelite_share = 0.1", "key of strategy cem 'elite_share'"),
        ("[strategy]\nname = 'icme'", "did you mean 'icem'?"),
        ("population = 'many'", "population 'many' is not a whole number or none"),
        ("population = 2.5", "population 2.5 is not a whole number or none"),
        ("strategy = 3", "strategy in bad.toml is neither a name nor a table"),
        ("population = ", "bad.toml is not TOML"),
        ("target = nan", "is not finite"),
    ],
)
def test_a_mistake_in_a_file_is_one_sentence(command: Command, text: str, said: str) -> None:
    Path("bad.toml").write_text("env = 'CartPole-v1'\nworkers = 0\n" + text)
    code, out, err = command("run bad.toml")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert said in err
    assert [path.name for path in Path().iterdir()] == ["bad.toml"]


def test_an_out_that_is_in_use_is_refused_and_left_alone(command: Command) -> None:
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years of work")
    code, _, err = command("run CartPole-v1 --workers 0 --out mine")
    assert code == 2
    assert "mine" in err
    assert err.count("\n") == 1
    assert [path.name for path in Path("mine").iterdir()] == ["thesis.txt"]


def resolved(command: Command, line: str) -> dict[str, object]:
    code, out, err = command(line + " --dry-run")
    assert (code, err) == (0, "")
    return tomllib.loads(out)


def test_dry_run_prints_what_gives_the_same_run_again(command: Command) -> None:
    line = (
        "run Pendulum-v1 --strategy icem --policy mlp --policy.hidden 8,4 --episodes 2 "
        "--strategy.elite-fraction 0.3 --max-seconds 1.5 --generations none --seed 7 "
        "--normalize-observations --common-seeds --log-info a,b --target -200 --out x "
        "--reuse-env --fitness cvar:0.5 --cpus-per-worker 0.5 --max_env_steps 9"
    )
    code, out, err = command(line, "--env-kwargs", '{"g": 9.5}', "--dry-run")
    assert code == 0
    assert "its kernel gives no info 'a'" in err
    Path("again.toml").write_text(out)
    assert command("run again.toml --dry-run") == (0, out, err)
    config = tomllib.loads(out)
    assert config["env_kwargs"] == {"g": 9.5}
    assert config["generations"] == "none"
    assert config["log_info"] == ["a", "b"]
    assert config["max_env_steps"] == 9
    assert (config["common_seeds"], config["normalize_observations"]) == (True, True)
    assert config["policy"]["hidden"] == [8, 4]
    assert config["strategy"]["name"] == "icem"
    assert config["strategy"]["elite_fraction"] == 0.3
    assert [path.name for path in Path().iterdir()] == ["again.toml"]


def test_none_says_no_hidden_layers(command: Command) -> None:
    """As the help has it."""
    line = "run CartPole-v1 --strategy deep_cem --policy softmax --policy.hidden none"
    assert resolved(command, line)["policy"]["hidden"] == []  # type: ignore[index]
    code, _, err = command("run CartPole-v1 --policy mlp --policy.hidden none")
    assert code == 2
    assert "hidden () is not one or more whole numbers" in err


def test_flags_override_the_file(command: Command) -> None:
    Path("c.toml").write_text(
        "env = 'CartPole-v1'\nseed = 1\nepisodes = 3\ncommon_seeds = true\n"
        "[strategy]\nname = 'icem'\nelite_fraction = 0.3\nddof = 1\n"
    )
    config = resolved(
        command, "run c.toml --seed 5 --no-common-seeds --strategy.elite-fraction 0.4"
    )
    assert (config["seed"], config["episodes"], config["common_seeds"]) == (5, 3, False)
    assert config["strategy"]["name"] == "icem"
    assert config["strategy"]["elite_fraction"] == 0.4
    assert config["strategy"]["ddof"] == 1

    other = resolved(command, "run c.toml --strategy cem")["strategy"]
    assert other == resolved(command, "run CartPole-v1 --strategy cem")["strategy"]


def test_a_users_own_strategy_environment_and_fitness(command: Command) -> None:
    config = resolved(
        command,
        "run cli_things:Base --strategy cli_things:Mine --strategy.elite-fraction 0.25 "
        "--fitness cli_things:worst",
    )
    assert config["env"] == "cli_things:Base"
    assert config["fitness"] == "cli_things:worst"
    assert config["strategy"]["name"] == "cli_things:Mine"
    assert config["strategy"]["elite_fraction"] == 0.25


def test_help_shows_the_fields_of_what_was_chosen(command: Command) -> None:
    code, out, _ = command("run --help --strategy icem --policy mlp")
    assert code == 0
    text = re.sub(r"\s+", " ", out)
    assert "Strategy icem:" in text
    assert "--strategy.population-decay X" in text
    assert "--policy.hidden N,N,..." in text
    assert "generations between held-out scores (10)" in text
    assert "--strategy.population-decay" not in command("run --help")[1]
    Path("c.toml").write_text("env = 'CartPole-v1'\nstrategy = 'icem'\n")
    assert "--strategy.population-decay" in command("run c.toml --help")[1]


def test_list_names_and_describes(command: Command) -> None:
    for what, some in (("strategies", {"cem", "icem", "random_search"}), ("policies", {"mlp"})):
        code, out, _ = command(f"list {what}")
        assert code == 0
        lines = [line.split(maxsplit=1) for line in out.splitlines()]
        assert some <= {line[0] for line in lines}
        assert all(len(line) == 2 for line in lines)


def test_help_and_list_do_not_wait_for_ray_or_parquet() -> None:
    """They would take seconds otherwise."""
    script = (
        "import sys; from distes.cli import main; main(['--help']); main(['list', 'strategies']);"
        "main(['--version']); print(sorted({'ray', 'pyarrow', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


SMALL = "run CartPole-v1 --workers 0 --population 20 --generations 3 --max-episode-steps 30"


def test_a_run_is_shown_line_by_line_and_can_be_evaluated(command: Command) -> None:
    code, out, err = command(SMALL + " --out one --heldout-every 1 --final-episodes 50")
    assert (code, err) == (0, "")
    lines = [line for line in out.splitlines() if line.startswith("generation")]
    log = pd.read_parquet("one/generations").sort_values("generation")
    assert len(lines) == len(log) == 3
    for line, mean in zip(lines, log["episode_return_mean"], strict=True):
        assert f"mean {mean:8.1f}" in line
    assert "held-out        -" in lines[0]
    assert "held-out        -" not in lines[1]
    assert "\x1b" not in out
    assert "stopped: 3 generations" in out
    assert re.search(r"score: \S+, 95% confidence interval \S+ to \S+, 50 unseen episodes", out)
    assert "winner's curse" in out
    assert "run: one" in out
    assert "distes plot one" in out
    assert "distes replay one --out solution.mp4" in out

    code, out, _ = command("evaluate one --episodes 7 --seed 3 --json")
    assert code == 0
    score = json.loads(out)
    assert score["episodes"] == 7
    assert score["low"] <= score["mean"] <= score["high"]
    again = json.loads(command("evaluate one --episodes 7 --seed 3 --json")[1])
    assert again == score
    code, out, _ = command("evaluate one --episodes 1 --json")
    assert json.loads(out)["std"] is None
    code, out, _ = command("evaluate one --episodes 7 --seed 3")
    assert "7 unseen episodes" in out


def test_replay_is_offered_where_there_is_something_to_see(command: Command) -> None:
    """And a function that makes environments is named as it was given."""
    code, out, _ = command(
        "run cli_things:Base --workers 0 --population 20 --generations 1 --final-episodes 2"
    )
    assert code == 0
    assert "distes plot" in out
    assert "distes replay" not in out
    assert out.startswith("cli_things:Base, cmaes (auto: initial std 0.3), mlp ")


def test_a_warning_is_shown_once(command: Command, recwarn: pytest.WarningsRecorder) -> None:
    """Gymnasium says of CartPole-v0 that it is old wherever it looks at it."""
    warnings.simplefilter("always", DeprecationWarning)
    assert command(SMALL.replace("v1", "v0") + " --out old")[0] == 0
    said = [str(each.message) for each in recwarn]
    assert sum("CartPole-v0 is out of date" in each for each in said) == 1


def test_plot_writes_the_image(command: Command) -> None:
    command(SMALL + " --out one")
    assert command("plot one --out curve.png --x env-steps") == (0, "curve.png\n", "")
    assert Path("curve.png").read_bytes().startswith(b"\x89PNG")


def test_info_says_what_ran_and_how_it_went(command: Command) -> None:
    command(SMALL + " --out one")
    code, out, _ = command("info one")
    assert code == 0
    assert "CartPole-v1" in out
    assert "3 generations" in out


def test_without_out_every_run_gets_a_directory_of_its_own(command: Command) -> None:
    said = [command(SMALL) for _ in range(2)]
    assert [code for code, _, _ in said] == [0, 0]
    assert len(list(Path("runs").iterdir())) == 2
    episodes = [pd.read_parquet(path / "episodes") for path in sorted(Path("runs").iterdir())]
    assert np.array_equal(episodes[0]["episode_return"], episodes[1]["episode_return"])


def test_what_is_finished_or_from_the_future_is_refused(command: Command) -> None:
    command(SMALL + " --out done")
    code, _, err = command("resume done --workers 0")
    assert (code, err.count("\n")) == (2, 1)
    assert "finished" in err
    config = json.loads(Path("done/config.json").read_text())
    config["schema_version"] += 1
    Path("done/config.json").write_text(json.dumps(config))
    code, _, err = command("evaluate done")
    assert (code, err.count("\n")) == (2, 1)
    assert "newer" in err


def test_an_environment_that_always_fails_shows_its_own_traceback(command: Command) -> None:
    code, _, err = command("run cli_things:Broken --workers 0")
    assert code == 1
    assert "ArithmeticError: the gearbox is gone" in err


def test_a_fault_in_a_users_strategy_passes_through(command: Command) -> None:
    """The console script then ends with Python's traceback and exit code 1."""
    with pytest.raises(ZeroDivisionError, match="in my own code"):
        command("run CartPole-v1 --workers 0 --strategy cli_things:Faulty")


def test_check_tells_by_its_exit_code(command: Command) -> None:
    code, out, _ = command("check CartPole-v1 --histories 2 --episodes 2")
    assert code == 0
    assert "CartPole-v1" in out
    code, out, _ = command("check cli_things:Leaking --histories 2 --episodes 2")
    assert code == 1
    assert "not pure" in out


@pytest.mark.parametrize("number", [signal.SIGINT, slow(signal.SIGTERM)], ids=["SIGINT", "SIGTERM"])
def test_an_interrupted_run_says_so_and_goes_on(tmp_path: Path, number: int) -> None:
    program = [sys.executable, "-m", "distes"]
    limits = (
        "--workers 0 --population 20 --max-episode-steps 20 --generations 150 --target 99 "
        "--strategy cem --strategy.min-std 0.1"
    )
    out = tmp_path / "cut"
    child = subprocess.Popen(
        [*program, "run", "CartPole-v1", *limits.split(), "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    for line in child.stdout:  # arrives while the run goes on: every line is flushed
        if line.startswith("generation"):
            break
    child.send_signal(number)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 128 + number
    assert f"distes resume {out}" in err
    assert "Traceback" not in err

    done = subprocess.run(
        [*program, "resume", str(out), "--workers", "0"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    generations = pd.read_parquet(out / "generations")["generation"]
    assert sorted(generations) == list(range(150))


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_sees_figures_live_and_the_outcome_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    display = Display(stream)
    result = Search(
        "CartPole-v1",
        workers=0,
        population=20,
        generations=4,
        heldout_every=2,
        out=tmp_path / "run",
        observers=[display],
    ).run()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "4 of 4" in text
    assert "target 475" in text
    assert re.search("[▁▂▃▄▅▆▇█]{4}", text)
    assert f"score: {result.score.mean:.1f}" in text.rpartition("stopped:")[2]


def test_modules_beside_the_user_are_found(tmp_path: Path) -> None:
    """The installed command does not look in the current directory by itself."""
    (tmp_path / "besides.py").write_text(
        "import gymnasium as gym\ndef make():\n    return gym.make('CartPole-v1')\n"
    )
    command = Path(sys.executable).with_name("distes")
    done = subprocess.run(
        [command, "run", "besides:make", "--dry-run", "--out", "named.toml"],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert 'env = "besides:make"' in done.stdout


def test_check_warns_of_spaces_that_no_policy_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Pure is not enough: the run would be refused, and the user should know now."""
    (tmp_path / "wordy.py").write_text(
        "import gymnasium as gym\n"
        "class Env(gym.Env):\n"
        "    observation_space = gym.spaces.Text(5)\n"
        "    action_space = gym.spaces.Discrete(2)\n"
        "    def reset(self, *, seed=None, options=None):\n"
        "        return 'a', {}\n"
        "    def step(self, action):\n"
        "        return 'b', 1.0, True, False, {}\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    main(["check", "wordy:Env", "--episodes", "2", "--histories", "2"])
    assert "but no policy fits it: observation space Text" in capfd.readouterr().out


def test_observers_are_named_on_the_command_line_and_in_files(command: Command) -> None:
    """If wrong: a user's own observer is told only of searches that are started from Python."""
    short = "--population 10 --generations 2 --workers 0 --final-episodes 2 --heldout-episodes 2"
    code, out, err = command(f"run cli_things:Base {short} --observer cli_things:Counting --out a")
    assert code == 0, err
    assert out.count("counted") == 2
    assert "generation    1" in out, "the display is told, too"
    assert "observers" not in json.loads(Path("a/config.json").read_text())["search"]
    Path("b.toml").write_text('env = "cli_things:Base"\nobservers = ["cli_things:Counting"]\n')
    code, out, err = command(f"run b.toml {short} --out b")
    assert code == 0, err
    assert out.count("counted") == 2
    code, out, _ = command(f"run b.toml {short} --dry-run")
    assert 'observers = ["cli_things:Counting"]\n' in out
    code, out, _ = command("run --help")
    assert "notebook, prometheus, terminal or module:Class" in re.sub(r"\s+", " ", out)
    for where in ("a", "b"):
        code, _, err = command(f"resume {where} --observer cli_things:Counted")
        assert code == 2
        assert "cli_things has no 'Counted'" in err
