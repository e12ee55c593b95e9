"""The commands. Heavy libraries are imported by the commands that need them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from distes.cli.completion import complete_runs, complete_targets, complete_words
from distes.cli.options import read_values
from distes.cli.parameters import (
    FORCE,
    NAMED,
    OBSERVERS,
    QUIET,
    RUN,
    TRUST,
    AtLeast,
    NameOption,
    add_choices,
    locate_run,
)
from distes.cli.run_flags import RunCommand, build_config, spell_flags
from distes.cli.submit import submit as submit_job
from distes.errors import UsageError, unknown
from distes.signals import Interrupted, interruptible
from distes.views.escapes import escape_controls

if TYPE_CHECKING:
    from distes.runs.storage.location import Location
    from distes.search.result import Result
    from distes.views.observers.terminal import Display

SETTINGS = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
    "token_normalize_func": lambda token: token.replace("_", "-"),
}


@click.group(context_settings=SETTINGS)
@click.version_option(package_name="distes", message="distes %(version)s")
def distes() -> None:
    """Search for policies by population, on all cores or a Ray cluster."""


@distes.command(cls=RunCommand)
@click.argument("target", metavar="ENV|CONFIG.toml", shell_complete=complete_targets)
@add_choices
@click.option("--dry-run", is_flag=True, help="print the resolved configuration, run nothing")
@click.option(
    "--resume-if-exists",
    is_flag=True,
    help="go on with the run in --out, if there is one: for jobs that are retried",
)
@QUIET
@click.pass_context
def run(
    ctx: click.Context,
    /,
    target: str,
    *,
    dry_run: bool,
    resume_if_exists: bool,
    quiet: bool,
    **_: Any,
) -> None:
    """Search for a policy for an environment, or run what a TOML file describes.

    ENV is a Gymnasium id (CartPole-v1, module:Id-v0) or module:function, a function that
    makes an environment. A file says all that the flags say; flags override it.
    """
    from distes.registry import name_of
    from distes.search import config_file
    from distes.search.search import Search
    from distes.views.text import describe_search

    search = config_file.from_config(build_config(ctx, target), Search)
    if resume_if_exists and search.out is None:
        raise UsageError("--resume-if-exists needs --out: name the run directory")
    if dry_run:
        search.check()
        config = config_file.to_config(search)
        if search.observers:  # no setting of the run: another session may have others
            config["observers"] = [name_of("views.observers", type(o)) for o in search.observers]
        click.echo(f"# {escape_controls(describe_search(search))}")
        click.echo(config_file.to_toml(config), nl=False)
        return

    def start(display: Display) -> Result:
        search.observers = (display, *(search.observers or ()))
        return search.run(resume_if_exists=resume_if_exists)

    _run_displayed(start, quiet=quiet)


@distes.command(cls=RunCommand, without="address")
@click.argument("target", metavar="ENV|CONFIG.toml", shell_complete=complete_targets)
@click.option("--address", metavar="URL", help="http://HOST:8265 ($RAY_API_SERVER_ADDRESS)")
@click.option("--storage", metavar="PATH|URI", help="where the cluster keeps runs")
@click.option("--name", metavar="NAME", help="of the run, below --storage")
@click.option("--job-id", metavar="ID", help="of the job; a new one by default")
@click.option("--ship-distes", is_flag=True, help="send this distes along, too")
@click.option("--dry-run", is_flag=True, help="list what would be sent and what not, send nothing")
@click.option("--wait/--no-wait", default=True, help="follow the job until it ends (wait)")
@add_choices
@click.pass_context
def submit(ctx: click.Context, /, target: str, **given: Any) -> int:
    """Run on a Ray cluster, as a job: send the project, follow the log.

    The current directory is sent, without runs, environments, what .gitignore and .rayignore
    name, files that may hold keys, and what links find elsewhere: --dry-run lists it. Ctrl-C
    stops the job, which saves its run; the same command goes on with it. The exit code is
    that of the run.
    """
    own = ("address", "storage", "name", "job_id", "ship_distes", "dry_run", "wait")
    return submit_job(ctx, target, **{name: given[name] for name in own})


@distes.command()
@RUN
@click.option("--workers", metavar="N|auto", help="0 for this process")
@click.option("--min-workers", metavar="N", help="how many of them to wait for")
@click.option("--cpus-per-worker", metavar="X", help="may be a fraction")
@click.option("--episode-timeout", "episode_timeout_s", metavar="X", help="seconds")
@click.option("--address", metavar="TEXT", help="of a Ray cluster")
@click.option("--generations", metavar="N|none", help="stop after so many in all")
@click.option("--max-episodes", metavar="N|none", help="likewise, search episodes")
@click.option("--max-env-steps", metavar="N|none", help="likewise, search steps")
@click.option("--max-seconds", metavar="X|none", help="likewise, seconds")
@click.option("--target", metavar="X|off", help="held-out return at which to stop")
@OBSERVERS
@TRUST
@QUIET
def resume(
    run: Location,
    *,
    observers: tuple[str, ...],
    trust: bool,
    quiet: bool,
    **flags: str | None,
) -> None:
    """Go on with an interrupted run, exactly, on any number of workers.

    What is not given is as the run was started. With later limits a finished run goes on, too,
    as if they had been asked for at first: --generations 200 --target off.
    """
    from distes.search.config_file import search_settings
    from distes.search.search import Search

    changed = read_values(search_settings(), flags)

    def start(display: Display) -> Result:
        return Search.resume(run, observers=(display, *observers), trust=trust, **changed)

    _run_displayed(start, quiet=quiet)


@distes.command()
@RUN
@click.option("--episodes", type=AtLeast(1), help="100; 20 each for several contexts")
@click.option("--seed", type=AtLeast(0), default=0, show_default=True)
@click.option("--workers", type=AtLeast(0), default=0, help="0, the default: in-process")
@click.option("--context", multiple=True, metavar="X,X,...", help="to impose; may be repeated")
@click.option("--grid", type=AtLeast(1), help="points along each component of the context")
@click.option("--json", "as_json", is_flag=True, help="print JSON: an object, or one per context")
@TRUST
def evaluate(
    run: Location,
    context: tuple[str, ...],
    grid: int | None,
    episodes: int | None,
    *,
    as_json: bool,
    **asked: Any,
) -> None:
    """Score a run's solution on episodes that no search has seen.

    With --context or --grid: at these contexts, all on the same episode seeds. The
    environment must take them up: reset(options={"context": ...}).
    """
    from distes.search import solution
    from distes.views.text import format_context_table, format_score

    if not context and grid is None:
        found = solution.evaluate(run, episodes=episodes or 100, **asked)
        text = f"{format_score(found)}, standard deviation {found.std:.6g}"
        click.echo(_to_json(asdict(found)) if as_json else text)
        return
    contexts = _parse_contexts(context) if context else None
    table = solution.evaluate_contexts(run, contexts, grid=grid, episodes=episodes, **asked)
    if as_json:
        click.echo("[" + ",\n ".join(map(_to_json, table.to_dict("records"))) + "]")
    else:
        click.echo(escape_controls(format_context_table(table)))


@distes.command()
@RUN
@click.option(
    "--generation",
    type=int,
    help="of a logged candidate, from 0 as everywhere",
)
@click.option("--candidate", type=int, help="its number within the generation, from 0")
@click.option(
    "--best",
    is_flag=True,
    help="the candidate with the greatest logged return, of --generation or of all",
)
@click.option("--episodes", type=AtLeast(1), help="1; of a candidate all, at most 10")
@click.option("--out", type=locate_run, metavar="FILE", help="video to write, .mp4 or .gif")
@click.option("--show", is_flag=True, help="open a window instead")
@click.option("--context", metavar="X,X,...", help="to impose on the solution")
@click.option("--seed", type=AtLeast(0), help="gives the solution other episodes (0)")
@FORCE
@TRUST
@click.pass_context
def replay(ctx: click.Context, /, run: Location, *, context: str | None, **asked: Any) -> None:
    """Watch a run's policy: in a video, which needs no display, or in a window.

    Exactly one of --out and --show is needed. The solution is shown on episodes that no
    search has seen; a candidate, named by --generation and --candidate or found by --best, on
    its own, to the returns that were logged. Exit code 1 if these differ.
    """
    from distes.views.replay.replay import replay as watch

    imposed = None if context is None else _parse_contexts((context,))[0]
    seen = watch(run, context=imposed, **asked)
    for line in seen.lines():
        click.echo(escape_controls(line))
    if seen.differences is not None:
        click.echo(f"distes: {escape_controls(seen.differences)}", err=True)
        ctx.exit(1)


@distes.command()
@click.argument("runs", nargs=-1, required=True, type=locate_run, shell_complete=complete_runs)
@click.option(
    "--out",
    required=True,
    type=locate_run,
    metavar="PATH",
    help="image to write: .png, .svg, .pdf, or .html, a page that needs nothing besides",
)
@click.option(
    "--x", metavar="AXIS", help="of learning curves: episodes, env_steps or seconds (episodes)"
)
@click.option(
    "--over",
    cls=NameOption,
    kind="figures",
    metavar="NAME",
    help="what to draw: {} or module:Class; see distes list figures (learning_curves)",
)
@click.option("--components", metavar="N,N,...", help="of the context, with --over (all)")
@click.option("--log-x", is_flag=True, help="of learning curves: a logarithmic horizontal axis")
@click.option("--log-y", is_flag=True, help="of learning curves: logarithmic vertical axes")
@click.option("--title", metavar="TEXT", help="in place of the heading")
@click.option("--size", metavar="WxH", help="in inches, for example 9x5")
@FORCE
def plot(
    runs: tuple[Location, ...],
    out: Location,
    x: str | None,
    components: str | None,
    size: str | None,
    **how: Any,
) -> None:
    """Draw learning curves of one or more runs; with --over, one run in another way."""
    from distes.views.figures.learning_curves import AXES
    from distes.views.figures.plot import plot as draw

    axis = x and x.replace("-", "_")
    if axis is not None and axis not in AXES:
        raise unknown("value of --x", str(x), AXES)
    try:
        chosen = None if components is None else [int(part) for part in components.split(",")]
    except ValueError:
        said = f"--components '{components}' is not whole numbers separated by commas"
        raise UsageError(said) from None
    try:
        ends = None if size is None else [float(part) for part in size.lower().split("x")]
    except ValueError:
        raise UsageError(
            f"--size '{size}' is not WIDTHxHEIGHT in inches: for example 9x5"
        ) from None
    draw(runs, out, axis, components=chosen, size=ends, **how)
    click.echo(out)


@distes.command()
@RUN
@click.option("--follow", is_flag=True, help="tell of each generation until the run is finished")
def info(run: Location, *, follow: bool) -> None:
    """Sum up a run: settings, progress, results, events.

    With --follow the exit code is 0 when the run is finished, 1 when it has stopped.
    """
    if follow:
        from distes.views.follow import follow as tell

        tell(run, click.echo)
        return
    from distes.views.report import describe_run

    click.echo(describe_run(run))


@distes.command()
@RUN
@click.pass_context
def verify(ctx: click.Context, /, run: Location) -> None:
    """Read all files of a run, and name those that are missing or damaged.

    Exit code 0 if every file is as it was committed, 1 if one is not.
    """
    from distes.runs.reader import load

    faults, num_files = load(run).verify()
    for each in faults:
        click.echo(f"distes: {escape_controls(each)}", err=True)
    if not faults:
        known = f"{num_files:,} files are as they were" if num_files else "nothing is"
        click.echo(f"'{run}' is whole: {known} committed")
    ctx.exit(1 if faults else 0)


@distes.command()
@click.argument("env", shell_complete=complete_targets)
@click.option("--env-kwargs", metavar="JSON", help="passed to the environment")
@click.option("--context", metavar="TEXT", help="where contexts come from, as in distes run")
@click.option("--context-low", metavar="X,X,...", help="least contexts")
@click.option("--context-high", metavar="X,X,...", help="greatest contexts")
@click.option("--episodes", type=AtLeast(1), default=10, show_default=True)
@click.option("--histories", type=AtLeast(1), default=20, show_default=True)
@click.pass_context
def check(
    ctx: click.Context, /, env: str, *, episodes: int, histories: int, **flags: str | None
) -> None:
    """Try whether an environment leaks from one episode into the next.

    With --context, contexts are compared, too, and whether an environment heeds those that
    are sampled for it. Exit code 0 if runs of it are reproducible, 1 if they are not.
    """
    from distes.policies.linear import Linear
    from distes.registry import settings_of
    from distes.search.config_file import environment
    from distes.tasks.environment import Task
    from distes.tasks.purity import check as check_purity

    task = Task(env=environment(env), **read_values(settings_of(Task), flags))
    _ = task.num_contexts
    report = check_purity(task, histories=histories, episodes=episodes)
    click.echo(str(report))
    try:
        task.build_policy(Linear())
    except UsageError as refusal:
        click.echo(f"but no policy fits it: {refusal}")
    ctx.exit(0 if report.reproducible else 1)


@distes.command(cls=RunCommand, without="out")
@click.argument(
    "target", metavar="[ENV|CONFIG.toml]", required=False, shell_complete=complete_targets
)
@add_choices
@click.pass_context
def warmup(ctx: click.Context, /, target: str | None, **_: Any) -> None:
    """Compile ahead what a run would compile when it starts, for images of machines.

    Takes what distes run takes. Without an environment, all that have a kernel are compiled
    with the policy that a run without a flag would have.
    """
    from distes.engines import choice
    from distes.engines.kernels import lookup
    from distes.search import config_file
    from distes.search.evaluator import compile_ahead
    from distes.search.search import Search

    if not lookup.is_numba_installed():
        raise UsageError(f"numba is not installed: {lookup.INSTALL}")
    if target is not None:
        searches = [config_file.from_config(build_config(ctx, target), Search)]
        if searches[0].engine not in ("auto", "compiled"):
            raise UsageError(f"engine '{searches[0].engine}' compiles nothing ahead")
    elif flags := spell_flags(ctx):
        raise UsageError(f"warmup needs an environment for {' '.join(flags)}")
    else:
        searches = [Search(name) for name in lookup.covered_environments()]
    for search in searches:
        task: Any = search.task
        choice.resolve("compiled", task, search.built_policy())
        spent = compile_ahead(search)
        if not lookup.ready(task, search.built_policy()):
            raise UsageError(
                f"{task.name} was compiled and could not be kept: the cache, $XDG_CACHE_HOME or "
                "~/.cache, must be writable for its owner alone, and the kernel in a package that "
                "is installed"
            )
        said = "compiled before" if spent is None else f"compiled in {spent:.1f} s"
        click.echo(f"{task.name}: {said}")


@distes.command("list")
@click.argument("what", metavar="|".join(NAMED), shell_complete=complete_words(NAMED))
def list_names(what: str) -> None:
    """List what --strategy, --policy, --engine, --observer or --over accepts."""
    from distes.registry import find_all, load

    if what not in NAMED:
        raise unknown("name", what, NAMED)
    folder, base = NAMED[what]
    found = find_all(folder, load("base", base))
    width = max(map(len, found))
    for name, cls in found.items():
        about = (cls.__doc__ or "").partition("\n")[0]
        click.echo(f"{name:{width}}  {about}")


def _parse_contexts(texts: tuple[str, ...]) -> list[list[float]]:
    """Read contexts, one a flag."""
    found = []
    for text in texts:
        try:
            found.append([float(part) for part in text.split(",")])
        except ValueError:
            raise UsageError(f"--context '{text}' is not numbers separated by commas") from None
    if len({len(each) for each in found}) > 1:
        raise UsageError(f"--context {' and '.join(texts)} are of different lengths")
    return found


def _to_json(figures: Mapping[Any, Any]) -> str:
    """Write figures; JSON has no NaN: one that does not exist is null."""
    return json.dumps({k: None if v != v else v for k, v in figures.items()})  # noqa: PLR0124


def _run_displayed(start: Callable[[Display], Result], *, quiet: bool) -> None:
    """Run a search with a display, listening for signals."""
    from distes.runs.storage.location import shorten
    from distes.views.observers.terminal import Display

    display = Display(quiet=quiet)
    try:
        with interruptible():
            start(display)
    except Interrupted as interruption:
        display.close()
        click.echo(f"distes: stopped by {interruption}", err=True)
        if display.path is not None:
            click.echo(f"go on with: distes resume {shlex.quote(shorten(display.path))}", err=True)
        raise
    finally:
        display.close()
