"""Reaching a Ray cluster, or starting a private one on this machine."""

from __future__ import annotations

import os
import secrets
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any

import ray

from distes.errors import RunFailed, UsageError
from distes.signals import keep_answer

REACH_S = 5.0  # seconds to wait for a cluster's port: Ray itself would try for minutes, then exit
LOOPBACK = "127.0.0.1"  # only at this address do all of Ray's servers listen on loopback alone


class Connection(Enum):
    """How this process came to its Ray; one it found is not its own to close."""

    FOUND = "found"
    JOINED = "joined"
    STARTED = "started"


def connect(address: str | None, num_cpus: int | None) -> Connection:
    """Connect this process to Ray.

    A Ray that this process uses already is kept. Otherwise the cluster at `address`, or
    at ``RAY_ADDRESS``, is joined; without either, or with ``local``, one is started, which
    has ``num_cpus`` or, with None, the machine's.

    Raises:
        UsageError: the cluster cannot be reached, or Ray is connected to another one.
        RunFailed: Ray cannot be started here.
    """
    if ray.is_initialized():
        _refuse_another(address)
        return Connection.FOUND
    _quieten_ray()
    wanted = address or os.environ.get("RAY_ADDRESS") or "local"
    if wanted == "local":
        _start(num_cpus)
        return Connection.STARTED
    _join(wanted)
    return Connection.JOINED


def disconnect() -> None:
    """Close a connection that `connect` made."""
    ray.shutdown()
    _forget_token()


def _refuse_another(address: str | None) -> None:
    if address in (None, "auto", "local"):
        return
    connected = str(ray.get_runtime_context().gcs_address)
    if _resolve_host(address) != _resolve_host(connected):
        raise UsageError(
            f"address '{address}': this process is connected to Ray at {connected} already; "
            "call ray.shutdown() first, or leave the address out"
        )


def _resolve_host(address: str) -> str:
    host, _, port = address.rpartition(":")
    try:
        return f"{socket.gethostbyname(host)}:{port}"
    except OSError:
        return address


def _join(address: str) -> None:
    if address.startswith("ray://"):
        raise UsageError(
            f"address '{address}' is Ray Client's: give the cluster's own (host:6379 or auto), "
            "or submit the command with `ray job submit`"
        )
    if address.startswith(("http://", "https://")):
        raise UsageError(
            f"address '{address}' is a job server's: send the run there with `distes submit "
            "--address`, or give the cluster's own (host:6379 or auto)"
        )
    if address != "auto":
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise UsageError(f"address '{address}' is not host:port, auto or local")
        try:
            socket.create_connection((host, int(port)), timeout=REACH_S).close()
        except (OSError, OverflowError) as error:
            raise UsageError(f"there is no Ray cluster at '{address}': {error}") from error
    try:
        with keep_answer():
            ray.init(address=address, logging_level="error", log_to_driver=False)
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and error.code == signal.SIGTERM:
            raise  # Ray's own answer to that signal, while it joins
        # A cluster may exit the process that tries to join it, where it finds no token.
        said = f"the Ray cluster at '{address}' cannot be joined: "
        said += str(error).strip().partition("\n")[0]
        if "RAY_AUTH_MODE" not in os.environ:
            said += "; if it wants a token, set RAY_AUTH_MODE=token"
        raise UsageError(said) from error


def _start(num_cpus: int | None) -> None:
    with _private_environment(), _on_loopback(), keep_answer():
        try:
            ray.init(
                address="local",
                num_cpus=num_cpus,
                include_dashboard=False,
                logging_level="error",
                log_to_driver=False,
                _node_ip_address=LOOPBACK,
            )
        except Exception as error:
            raise RunFailed(f"Ray cannot be started on this machine: {error}") from error


@contextmanager
def _private_environment() -> Iterator[None]:
    """Give a Ray started here a token of its own, and leave the environment as it was.

    Other users of this machine reach its servers, so a token there must be. Ray would write
    one to the home directory, which may be read-only, and leave ``RAY_AUTH_MODE=token`` set,
    which would change how this process joins other clusters.
    """
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_USAGE_STATS_ENABLED")
    before = {name: os.environ.get(name) for name in names}
    given = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")
    if not any(name in os.environ for name in given):
        _forget_token()
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _on_loopback() -> Iterator[None]:
    """Let a Ray started here keep `LOOPBACK`, which it replaces by an outward address on Linux."""
    from ray._private import ray_constants

    before = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False  # its own way on macOS and Windows
    try:
        yield
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before


def _quieten_ray() -> None:
    """Leave it to the run to say that a worker was lost: Ray would say it in a paragraph."""
    from ray._private import worker

    shown = getattr(worker, "print_to_stdstream", None)
    if shown is None or getattr(shown, "quiet", False):
        return  # another version of Ray says it elsewhere

    def show(data: dict[str, Any], *more: Any, **named: Any) -> None:
        lines = data.get("lines") or [""]
        if not str(lines[0]).startswith("A worker died or was killed"):
            shown(data, *more, **named)

    show.quiet = True  # type: ignore[attr-defined]
    worker.print_to_stdstream = show


def _forget_token() -> None:
    """Make this process read token settings anew; Ray keeps those it saw first."""
    try:
        from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]
    except ImportError:  # another version of Ray keeps them elsewhere, or does not
        return
    AuthenticationTokenLoader.instance().reset_cache()
    Config.initialize("")
