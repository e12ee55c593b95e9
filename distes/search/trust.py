"""Whose code a run names, and what is imported for it: docs/security.md is the boundary.

A run that names code, or a Ray cluster, is signed when it begins, with a key that this user
has on this machine. What is signed holds the settings, and where the code lay: neither other
settings nor a file of the same name elsewhere pass for it.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from distes.errors import UsageError
from distes.population import features
from distes.registry import find_origin, list_references, load
from distes.runs.reader import Run
from distes.search.config_file import from_config
from distes.search.settings import Settings, notify
from distes.search.tables import parse_table

S = TypeVar("S", bound=Settings)

KEY_BYTES = 32

_PLACES = {"out", "start_from", "address"}
"""Settings that say where something is, and name no code."""


def list_code(config: Mapping[str, Any]) -> list[str]:
    """List what would be imported to act on a run, as its configuration names it.

    Names of installed parts and ids of registered environments are not among it.
    """
    settings = config["search"]
    named = {key: value for key, value in settings.items() if key not in _PLACES}
    found = list_references([named, config.get("engine")])
    env = settings.get("env")
    # An id is not spelled like a name of Python: module:Id-v0.
    if isinstance(env, str) and ":" in env and not env.startswith("<"):
        found.append(env)
    return sorted(set(found))


def rebuild_settings(run: Run, cls: type[S], *, trust: bool) -> S:
    """Make the settings of a run again, importing what they name if that may be.

    Somebody else's run chooses no Ray cluster: whoever runs one can run code on its drivers.
    A `Notice` says if the settings are not as they were written.

    Args:
        run: where it is.
        cls: what to make.
        trust: import it, and keep the cluster, whoever made the run.

    Raises:
        UsageError: it names code that is not trusted, or can't be rebuilt.
    """
    require_trust(run, list_code(run.config), trust=trust)
    run.warn_of_missing()
    settings = dict(run.config["search"])
    if "address" in settings and not trust and not _is_own(run.config):
        notify(
            f"'{run.path}' is not known to be a run of yours from this machine: the Ray cluster "
            f"that it names, {settings.pop('address')!r}, is joined with trust=True (--trust) alone"
        )
    made = from_config(settings, cls)
    made.chosen = frozenset(run.config.get("chosen", ()))
    return made


def recall_features(run: Run, *, trust: bool | None) -> None:
    """Import the functions that a contextual run's features are; records name them alone.

    Args:
        run: where it is.
        trust: as for `require_trust`.

    Raises:
        UsageError: there are some, and they are not trusted.
    """
    table = parse_table(run.config["search"].get("strategy", {}))
    chosen = {key: value for key, value in table.items() if key.endswith("_features")}
    functions = list_references(chosen)
    require_trust(run, functions, trust=trust)
    features.remember_functions(load("features", each) for each in functions)


def require_trust(run: Run, code: list[str], *, trust: bool | None) -> None:
    """Refuse to import what a run names, or say what the user's word lets in, and from where.

    Of a run of the user's own nothing is said: it is the code that it began with.

    Args:
        run: where it is.
        code: what will be imported; nothing needs no trust.
        trust: whether the user says so; None where there is no way to say it.

    Raises:
        UsageError: neither says the user so, nor was the run begun by this user, on this
            machine, with the code where it is.
    """
    if not code or _is_own(run.config):
        return
    named = ", ".join(f"{each!r} ({find_origin(each) or 'not found here'})" for each in code)
    if not trust:
        how = "" if trust is None else ": if you trust it, say so with trust=True (--trust)"
        raise UsageError(
            f"'{run.path}' is not known to be a run of yours from this machine, and it would "
            f"import {named}{how}"
        )
    notify(f"'{run.path}' imports {named}")


def sign(config: Mapping[str, Any]) -> str | None:
    """Sign the configuration of a run that begins, for `require_trust`.

    Returns:
        None where it names neither code nor a Ray cluster, or where this user can keep no key.
    """
    needed = list_code(config) or config["search"].get("address") is not None
    return _sign(config, _read_key(make=True)) if needed else None


def sign_again(config: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, Any]:
    """Sign a run's changed configuration, if what it was is this user's own.

    Args:
        config: as it was.
        changed: as it is to be.

    Returns:
        The latter with its signature, or without one.
    """
    unsigned = {key: value for key, value in changed.items() if key != "signature"}
    signature = sign(unsigned) if _is_own(config) else None
    return unsigned if signature is None else {**unsigned, "signature": signature}


def _is_own(config: Mapping[str, Any]) -> bool:
    signed, due = config.get("signature"), _sign(config, _read_key())
    if not (isinstance(signed, str) and signed.isascii()) or due is None:
        return False
    return hmac.compare_digest(signed, due)


def _sign(config: Mapping[str, Any], key: bytes | None) -> str | None:
    if key is None:
        return None
    places = [find_origin(each) for each in list_code(config)]
    signed = json.dumps([config["search"], config.get("engine"), places], sort_keys=True)
    return hmac.new(key, signed.encode(), hashlib.sha256).hexdigest()


def _read_key(*, make: bool = False) -> bytes | None:
    """Read this user's key; None where there is none that the user alone can read."""
    asked = Path(os.environ.get("XDG_STATE_HOME", ""))
    try:
        state = asked if asked.is_absolute() else Path.home() / ".local" / "state"
        file = state / "distes" / "key"
        if make and not file.exists():
            _make_key(file)
        with file.open("rb") as opened:
            about = os.fstat(opened.fileno())
            key = opened.read()
    except (OSError, RuntimeError):  # nothing to read or write there, or nobody's home
        return None
    private = about.st_uid == os.getuid() and not about.st_mode & 0o077
    return key if private and len(key) == KEY_BYTES else None


def _make_key(file: Path) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # For the owner alone, and whole when it has its name: another process may make one, too.
    with tempfile.NamedTemporaryFile(dir=file.parent) as written:
        written.write(secrets.token_bytes(KEY_BYTES))
        written.flush()
        with suppress(FileExistsError):
            os.link(written.name, file)
