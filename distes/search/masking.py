"""Secrets in what is recorded and shown: values whose names say so, passwords in addresses."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

MASK = "***"

_SECRET = re.compile(
    r"(^|_)(token|secrets?|password|passwd|passphrase|pwd|credentials?|auth|authorization|bearer"
    r"|cookie|apikey|(api|access|account|auth|private|secret|sas)_key)(_|$)"
)
_PASSWORD = re.compile(r"(?<=://)([^\s/:@]*):[^\s/@]+@")
_BREAK = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|[^A-Za-z0-9]+")


def names_secret(name: str) -> bool:
    """Whether a name says that its value is a secret.

    >>> [names_secret(n) for n in ("hf_token", "apiKey", "--env.DB-PASSWORD", "max_tokens", "key")]
    [True, True, True, False, False]
    """
    return _SECRET.search(_BREAK.sub("_", name).lower()) is not None


def mask_secrets(value: Any) -> Any:
    """Copy a value of JSON with its secrets masked, however deep they are.

    >>> mask_secrets({"size": 3, "server": [{"user": "a", "password": "b"}]})
    {'size': 3, 'server': [{'user': 'a', 'password': '***'}]}
    >>> mask_secrets("postgres://me:abc@host/x")
    'postgres://me:***@host/x'
    """
    if isinstance(value, Mapping):
        return {k: MASK if names_secret(str(k)) else mask_secrets(v) for k, v in value.items()}
    if isinstance(value, str):
        return _PASSWORD.sub(rf"\1:{MASK}@", value)
    return [mask_secrets(each) for each in value] if isinstance(value, list) else value


def mask_arguments(arguments: Sequence[str]) -> list[str]:
    """Copy a command line with its secrets masked.

    >>> mask_arguments(["run", "--env-kwargs", '{"token": "a"}', "--api-key", "b", "pwd=c"])
    ['run', '--env-kwargs', '{"token": "***"}', '--api-key', '***', 'pwd=***']
    """
    masked: list[str] = []
    before = ""
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if before.startswith("-") and "=" not in before and names_secret(before):
            masked.append(MASK)
        elif argument.lstrip().startswith("{"):
            masked.append(_mask_json(argument))
        elif equals and names_secret(name):
            masked.append(f"{name}={MASK}")
        else:
            table = value.lstrip().startswith("{")
            masked.append(f"{name}={_mask_json(value)}" if table else mask_secrets(argument))
        before = argument
    return masked


def _mask_json(text: str) -> str:
    try:
        value = json.loads(text)
    except ValueError:
        return MASK  # whatever it holds
    masked = mask_secrets(value)
    return text if masked == value else json.dumps(masked)
