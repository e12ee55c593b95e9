"""An S3 server for tests, on the loopback interface, that can be told to misbehave."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Answer = Callable[[dict[str, Any]], str | None]

THROTTLED = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>"


class Server:
    """A moto server; `misbehave` decides per request.

    Attributes:
        endpoint: its URL.
        misbehave: takes the WSGI environment, gives ``throttle``, ``lose`` (do it, but answer
            with an error) or None.
        requests: how many there were, by method.
    """

    def __init__(self) -> None:
        # Of `dev`: what the default run imports must do without them.
        from moto.server import DomainDispatcherApplication, create_backend_app
        from werkzeug.serving import make_server

        self.misbehave: Answer = lambda environ: None
        self.requests: dict[str, int] = {}
        inner = DomainDispatcherApplication(create_backend_app)

        def app(environ: dict[str, Any], start: Any) -> Any:
            method = environ["REQUEST_METHOD"]
            self.requests[method] = self.requests.get(method, 0) + 1
            fault = self.misbehave(environ)
            if fault == "lose":
                for _ in inner(environ, lambda *_: None):
                    pass
            if fault is not None:
                environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
                length = ("Content-Length", str(len(THROTTLED)))
                start("503 Slow Down", [("Content-Type", "application/xml"), length])
                return [THROTTLED]
            return inner(environ, start)

        self._server = make_server("127.0.0.1", 0, app, threaded=True)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def client(self) -> Any:
        """Make a plain client, none of ours."""
        import boto3

        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="k",
            aws_secret_access_key="s",  # noqa: S106 - of a server that takes any
        )

    def keys(self, bucket: str, prefix: str) -> list[str]:
        pages = (
            self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        )
        return [one["Key"] for page in pages for one in page.get("Contents", [])]

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def every(server: Server, number: int, fault: str) -> Iterator[None]:
    """Misbehave at every n-th request."""
    count = itertools.count(1)
    server.misbehave = lambda environ: fault if next(count) % number == 0 else None
    try:
        yield
    finally:
        server.misbehave = lambda environ: None
