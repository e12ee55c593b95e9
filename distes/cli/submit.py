"""``distes submit``: what ``distes run`` does here, as a job on a cluster."""

from __future__ import annotations

import importlib.metadata
import re
import secrets
import shlex
import signal
import socket
import tempfile
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from distes.cli.package import KEYS, LINK, Project
from distes.cli.run_flags import build_config, spell_flags
from distes.errors import RunFailed, UsageError
from distes.runs.storage.location import URI, locate
from distes.signals import answer, interruptible, leave, say
from distes.views.escapes import escape_controls

if TYPE_CHECKING:
    from distes.cli.job_server import JobServer, Outcome
    from distes.search.settings import Settings

NOT_FOUND = 127
"""The shell's exit code where there is no such command."""

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def submit(
    ctx: click.Context,
    target: str,
    address: str | None,
    storage: str | None,
    name: str | None,
    job_id: str | None,
    *,
    ship_distes: bool,
    dry_run: bool,
    wait: bool,
) -> int:
    """Check, pack, send and follow; the arguments are those of ``distes submit``.

    Returns:
        The driver's exit code, or 128 and a signal's number; 0 after a dry run.

    Raises:
        UsageError: something is wrong that can be seen from here; nothing was sent.
    """
    from distes.cli.job_server import JobServer
    from distes.search import config_file
    from distes.search.search import Search

    search = config_file.from_config(build_config(ctx, target), Search)
    # What is at `out` is the cluster's to see.
    replace(search, out=None).check()
    project, spelled = _gather_project(target, search, ship_distes=ship_distes)
    if dry_run:
        for line in project.survey().describe():
            click.echo(escape_controls(line))
        return 0
    name = _choose_name(name, target, search)
    out = _choose_out(ctx, storage, name, search)
    job_id = job_id or f"{name}-{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    if not _SAFE.fullmatch(job_id):
        raise UsageError(f"--job-id '{job_id}' has other signs than letters, digits, . _ -")
    program = ["python", "-m", "distes"] if ship_distes else ["distes"]
    flags = [flag for flag in spell_flags(ctx) if not flag.startswith("--out=")]
    if search.address is not None:  # from the file: where a laptop finds a cluster
        flags.append("--address=none")
    command = [*program, "run", spelled, *flags, f"--out={out}", "--resume-if-exists"]
    metadata = {"distes": importlib.metadata.version("distes"), "run": name, "out": out}
    server = JobServer(address)
    with tempfile.TemporaryDirectory(prefix="distes-") as folder:
        package = Path(folder) / "project.zip"
        contents = project.pack(package)
        size = package.stat().st_size / 2**20
        click.echo(f"sending {len(contents.files)} files, {size:.1f} MiB packed")
        if kept := [name for name, why in contents.left.items() if why in (KEYS, LINK)]:
            _tell(f"{len(kept)} that may hold keys or lead out of the project stay here: --dry-run")
        try:
            server.submit(job_id, shlex.join(command), package, metadata)
        except KeyboardInterrupt:
            stop = _ray_command("stop", job_id, server)
            _tell(f"if the job was taken already, stop it with: {stop}")
            raise
    click.echo(f"job: {job_id}")
    click.echo(f"run: {out} (on the cluster)")
    click.echo(f"follow: {_ray_command('logs', job_id, server)} --follow")
    click.echo(f"stop: {_ray_command('stop', job_id, server)}")
    return _follow(server, job_id, out) if wait else 0


def _follow(server: JobServer, job_id: str, out: str) -> int:
    # A handler may take no lock, as an event does: the main thread might be holding it.
    wake, bell = socket.socketpair()
    heard: list[int] = []
    status = _ray_command("status", job_id, server)

    def first(number: int) -> None:
        heard.append(number)
        bell.send(b"!")

    def again(number: int) -> None:
        say(f"the job goes on stopping; see {status}")
        leave(number)

    def stop() -> None:
        _tell(f"stopping job {job_id}: it saves its run; once more leaves it to that")
        try:
            server.stop(job_id)
        except RunFailed as error:
            _tell(f"{error}; try {_ray_command('stop', job_id, server)}")

    with wake, bell, interruptible():
        answer(first, again)
        try:
            outcome = server.follow(job_id, lambda text: click.echo(text, nl=False), wake, stop)
        except RunFailed as error:
            raise RunFailed(
                f"{error}; the job may still run: {_ray_command('logs', job_id, server)} --follow"
            ) from error
    code = _read_exit_code(outcome, heard)
    _conclude(outcome, code, job_id, out)
    return code


def _read_exit_code(outcome: Outcome, heard: list[int]) -> int:
    if outcome.stopped:
        return 128 + (heard[0] if heard else signal.SIGTERM)
    if outcome.exit_code is None:
        return 1 if outcome.message else 0
    # A driver that was killed has its signal as a negative number.
    return outcome.exit_code if outcome.exit_code >= 0 else 128 - outcome.exit_code


def _conclude(outcome: Outcome, code: int, job_id: str, out: str) -> None:
    """Say how it ended, and what to do next."""
    again = f"to go on, submit the same command again (or, where {out} can be reached: "
    again += f"distes resume {shlex.quote(out)})"
    if outcome.stopped:
        _tell(f"job {job_id} was stopped; {again}")
    elif outcome.exit_code is None and code:
        _tell(f"job {job_id} failed before or without its driver: {outcome.message.strip()}")
    elif code == NOT_FOUND:
        _tell(
            f"job {job_id} failed: distes is not installed on the cluster's head; install it "
            "there (in the image, say), or try --ship-distes, which sends this one along"
        )
    elif code == 2:
        _tell(f"job {job_id} was refused; the reason is above")
    elif code:
        _tell(f"job {job_id} failed with exit code {code}; {again}")


def _choose_name(given: str | None, target: str, search: Settings) -> str:
    from distes.search.settings import path_name

    if given is None:
        toml = target.endswith(".toml")
        return path_name(f"{Path(target).stem}-{search.seed}") if toml else search.name
    if not _SAFE.fullmatch(given):
        raise UsageError(f"--name '{given}' has other signs than letters, digits, . _ -")
    return given


def _choose_out(ctx: click.Context, storage: str | None, name: str, search: Settings) -> str:
    """Decide where the run is written: a place that is there when the job is gone."""
    if storage is None:
        out = None if search.out is None else str(search.out)
        if out is None or not _outlives_job(out):
            raise UsageError(
                (f"out {out} is relative, and" if out else "storage is not given:")
                + " a job's working directory is a temporary copy: say where the cluster keeps "
                "runs, for example --storage s3://bucket/runs or --storage /shared/runs"
            )
        return out
    if ctx.params.get("_out") is not None:
        raise UsageError("--out and --storage both say where the run is written: give one")
    if not _outlives_job(storage):
        raise UsageError(
            f"--storage {storage} is neither an absolute path nor a URI: name storage that the "
            "cluster's head reaches, for example s3://bucket/runs or /shared/runs"
        )
    return str(locate(storage) / name)


def _outlives_job(given: str) -> bool:
    place = locate(given)
    return isinstance(place, URI) or place.is_absolute()


def _gather_project(target: str, search: Settings, *, ship_distes: bool) -> tuple[Project, str]:
    """Say what to send, and how the job spells its target."""
    here = Project(Path.cwd())
    needed, spelled = [], target
    if target.endswith(".toml"):
        spelled = here.within(target, "configuration")
        needed.append(here.root / spelled)
    begin = None if search.start_from is None else str(search.start_from)
    if begin is not None and not _outlives_job(begin):
        needed.append(here.root / here.within(begin, "start_from"))
    added = (Path(__file__).parents[1],) if ship_distes else ()
    return replace(here, needed=tuple(needed), added=added), spelled


def _ray_command(verb: str, job_id: str, server: JobServer) -> str:
    return f"ray job {verb} {job_id} --address {server.address}"


def _tell(text: str) -> None:
    click.echo(f"distes: {text}", err=True)
