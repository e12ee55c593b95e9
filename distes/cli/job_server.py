"""Jobs on a Ray cluster: submitted, followed and stopped over HTTP."""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.client import BadStatusLine, HTTPException
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ray.job_submission import JobStatus, JobSubmissionClient

from distes.errors import RunFailed, UsageError

ANSWERS_WITHIN_S = 4.0
"""Seconds in which a job server must answer when it is first asked."""

STOP_WAIT_S = 30
"""Seconds that Ray gives a stopped job to save its run; its own default is 3."""

LOOK_S, LOOK_SHARE, MAX_LOOK_S = 1.0, 20, 10.0
"""Seconds between two looks at a job's log: 20 times what one takes, within these bounds."""

LOST_AFTER_S = 300.0
"""Seconds without an answer after which a job is no longer followed."""

_ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        stopped: somebody asked for it.
        exit_code: of the driver; None where it did not start, or was stopped.
        message: Ray's account.
    """

    stopped: bool
    exit_code: int | None
    message: str


class JobServer:
    """The job server of a cluster.

    Attributes:
        address: where it is, ``http://host:port``.
    """

    def __init__(self, address: str | None = None) -> None:
        """Find the server and see whether it answers.

        Args:
            address: ``http://host:8265``; None is $RAY_API_SERVER_ADDRESS, or $RAY_ADDRESS
                where that is an http address.

        Raises:
            UsageError: there is no address, nothing answers, or it wants another token.
        """
        self.address = _choose_address(address)
        headers = _greet(self.address)
        for each in JobSubmissionClient.__mro__:  # Ray's client would tell of its every step
            logging.getLogger(each.__module__).setLevel(logging.ERROR)
        # To Ray's client they count more than the address that it is given.
        hidden = {name: os.environ.pop(name) for name in _ADDRESSES if name in os.environ}
        try:
            self._client: Any = _Client(self.address, headers=headers)
        finally:
            os.environ.update(hidden)

    def submit(self, job_id: str, entrypoint: str, package: Path, metadata: dict[str, str]) -> None:
        """Send a job; it runs from then on, whether it is followed or not.

        Args:
            job_id: unlike any earlier job's on the cluster.
            entrypoint: a shell command.
            package: a .zip; unpacked, it is the command's working directory.
            metadata: shown with the job.

        Raises:
            UsageError: there is a job of that id already.
            RunFailed: the cluster does not take it.
        """
        environment = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}
        try:
            self._client.submit_job(
                entrypoint=entrypoint,
                submission_id=job_id,
                runtime_env={"working_dir": str(package), "env_vars": environment},
                metadata=metadata,
            )
        except Exception as error:
            if "already exists" in str(error):
                raise UsageError(
                    f"there is a job '{job_id}' on the cluster already: give another --job-id"
                ) from error
            reason = _take_last_line(error)
            raise RunFailed(f"the cluster does not take the job: {reason}") from error

    def stop(self, job_id: str) -> None:
        """Ask a job to save its run and end.

        Raises:
            RunFailed: the server does not answer.
        """
        try:
            self._client.stop_job(job_id)
        except Exception as error:
            reason = _take_last_line(error)
            raise RunFailed(f"job '{job_id}' can't be stopped: {reason}") from error

    def follow(
        self,
        job_id: str,
        say: Callable[[str], None],
        wake: socket.socket,
        woken: Callable[[], None],
    ) -> Outcome:
        """Pass a job's log on as it grows, until the job has ended.

        The log is asked for as a whole each time, and passed on from where it was: what
        lies between (a proxy that closes what is idle, a laptop that sleeps) may break any
        connection, and no line is lost or told twice.

        Args:
            job_id: which.
            say: gets pieces of the log.
            wake: a byte that arrives there, from a signal's handler say, ends a pause.
            woken: called then, from this thread.

        Raises:
            RunFailed: the server has not answered for minutes.
        """
        told, answered = 0, time.monotonic()
        while True:
            began = time.monotonic()
            try:
                # The status first: a log read after the end is whole.
                info = self._client.get_job_info(job_id)
                log = self._client.get_job_logs(job_id)
            except Exception as error:
                if time.monotonic() - answered > LOST_AFTER_S:
                    silent = f"{self.address} has not answered for {LOST_AFTER_S:.0f} s"
                    raise RunFailed(f"{silent}: {_take_last_line(error)}") from error
            else:
                answered = time.monotonic()
                if len(log) > told:
                    say(log[told:])
                    told = len(log)
                if info.status.is_terminal():
                    stopped = info.status == JobStatus.STOPPED
                    return Outcome(stopped, info.driver_exit_code, info.message or "")
            took = time.monotonic() - began
            pause = min(max(LOOK_S, LOOK_SHARE * took), MAX_LOOK_S)
            if select.select([wake], [], [], pause)[0]:
                wake.recv(1)
                woken()


class _Client(JobSubmissionClient):  # type: ignore[misc]
    """Ray's client, which by itself would wait for an answer for ever."""

    def _do_request(self, method: str, endpoint: str, **more: Any) -> Any:
        return super()._do_request(method, endpoint, **{"timeout": (10.0, 120.0), **more})


def _choose_address(given: str | None) -> str:
    """Choose and check the address of the job server."""
    address, source = given, "address"
    for name in _ADDRESSES:
        if address is None and os.environ.get(name, "").startswith(("http://", "https://")):
            address, source = os.environ[name], f"${name}"
    if address is None:
        raise UsageError(
            "address is not given: name the cluster's job server, for example "
            "--address http://127.0.0.1:8265, or set RAY_API_SERVER_ADDRESS"
        )
    if "://" not in address:
        address = f"http://{address}"
    try:
        parts = urlsplit(address)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = None
    if not usable:
        raise UsageError(
            f"{source} '{given or address}' is not a job server's: it looks like "
            "http://HOST:8265, the address of the cluster's dashboard"
        )
    return address.rstrip("/")


def _greet(address: str) -> dict[str, str]:
    """Ask the server who it is, and find the headers that it wants."""
    headers: dict[str, str] = {}
    try:
        status, answer = _fetch(f"{address}/api/version", headers)
        if status == 401:
            headers = {"Authorization": f"Bearer {_read_token(address)}"}
            status, answer = _fetch(f"{address}/api/version", headers)
    except (OSError, ValueError, HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        if isinstance(error, BadStatusLine):
            reason = "what listens there does not speak HTTP"
        raise UsageError(
            f"no Ray job server answers at '{address}': {reason} (it is on the port of the "
            "cluster's dashboard, 8265 unless set otherwise)"
        ) from error
    if status in (401, 403):
        raise UsageError(
            f"the job server at '{address}' refuses the token: give the cluster's own in "
            "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH"
        )
    try:
        json.loads(answer)["ray_version"]
    except (ValueError, KeyError, TypeError):
        raise UsageError(
            f"what answers at '{address}' is no Ray job server (status {status}): its port is "
            "that of the cluster's dashboard, 8265 unless set otherwise"
        ) from None
    return headers


def _fetch(url: str, headers: Mapping[str, str]) -> tuple[int, bytes]:
    request = urllib.request.Request(url, headers=dict(headers))  # noqa: S310 - http, checked
    try:
        with urllib.request.urlopen(request, timeout=ANSWERS_WITHIN_S) as answer:  # noqa: S310
            return answer.status, answer.read(65536)
    except urllib.error.HTTPError as error:
        return error.code, b""


def _read_token(address: str) -> str:
    """Find the cluster's token where Ray looks for it."""
    if "RAY_AUTH_TOKEN" in os.environ:
        return os.environ["RAY_AUTH_TOKEN"].strip()
    given = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(given) if given else Path.home() / ".ray" / "auth_token"
    try:
        return path.read_text(encoding="utf-8").strip()
    except (OSError, ValueError):
        raise UsageError(
            f"the job server at '{address}' wants a token, and there is none in RAY_AUTH_TOKEN "
            f"or {path}"
        ) from None


def _take_last_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[-1].strip()
