"""A bucket full of other people's objects: moto, by HTTP, which writes down what it is asked to change.

python -m tests.hostile.warehouse STOCK
"""

import hashlib
import json
import logging
import random
import select
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from moto.moto_server.werkzeug_app import create_backend_app
from moto.s3.models import FakeKey, s3_backends
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

ACCOUNT, PARTITION = "123456789012", "aws"
DELAY = 0.02
"""Seconds that an answer takes at most, so that a kill finds something under way."""


@dataclass(slots=True)
class Asked:
    """What it was asked to change, as method and path, and the places that sweeps have listed to the end."""

    changes: list[tuple[str, str]] = field(default_factory=list)
    sweeps: list[str] = field(default_factory=list)


class Warehouse:
    """WSGI middleware that takes notes, and shows them and the objects to who asks for /-/."""

    def __init__(self, app: WSGIApplication) -> None:
        self._app = app
        self._asked = Asked()
        self._one_at_a_time = threading.Lock()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        if request.path.startswith("/-/"):
            told: dict[str, Callable[[], object]]
            told = {"objects": objects, "present": present, "asked": lambda: asdict(self._asked)}
            shown = told[request.path.removeprefix("/-/")]()
            return Response(json.dumps(shown))(environ, start_response)
        if request.method not in ("GET", "HEAD"):
            self._asked.changes.append((request.method, environ["RAW_URI"]))
        # time.sleep() breaks when the clock is moved meanwhile.
        select.select((), (), (), random.uniform(0, DELAY))
        with self._one_at_a_time:  # moto's listing breaks when a key goes meanwhile
            answer = Response.from_app(self._app, environ)
            if "encoding-type" in request.args and b"<IsTruncated>false" in answer.data:
                self._asked.sweeps.append(f"{request.path.strip('/')}/{request.args['prefix']}")
            return answer(environ, start_response)


def fill(stock: Mapping[str, Any]) -> None:
    """Makes the buckets, with objects of all ages; the one that is called versioned keeps old versions."""
    backend, chance = s3_backends[ACCOUNT][PARTITION], random.Random(stock["seed"])
    for bucket, names in stock["buckets"].items():
        versioned = bucket == "versioned"
        backend.create_bucket(bucket, "us-east-1")
        if versioned:
            backend.put_bucket_versioning(bucket, "Enabled")
        for name in names:
            for _ in range(chance.choice((1, 1, 2)) if versioned else 1):
                made = backend.put_object(bucket, name, chance.randbytes(chance.randrange(64)))
                age = chance.choice((0, 0, 3599, 3601, 86_400, 10**9))
                made.last_modified = datetime.fromtimestamp(time.time() - age, UTC).replace(tzinfo=None)
            if versioned and chance.random() < 0.1:
                backend.delete_object(bucket, name)


def objects() -> dict[str, list[list[str]]]:
    """All that is stored, while nobody writes: each version of a key with its time, bytes' hash and ETag."""
    return {key: [_version(each) for each in versions] for key, versions in _stored()}


def present() -> list[str]:
    """The keys that a GET would find: of the others a delete marker is the last version."""
    return [key for key, versions in _stored() if isinstance(versions[-1], FakeKey)]


def _stored() -> list[tuple[str, list[Any]]]:
    buckets = s3_backends[ACCOUNT][PARTITION].buckets
    return [
        (f"{name}/{key}", versions)
        for name, bucket in buckets.items()
        for key, versions in list(dict.items(bucket.keys))
    ]


def _version(each: Any) -> list[str]:
    told = [each.version_id, str(each.last_modified)]
    return [*told, hashlib.sha256(each.value).hexdigest(), each.etag] if isinstance(each, FakeKey) else told


def main() -> None:
    """Serves until standard input ends. The first line of standard output is the endpoint."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    fill(json.loads(Path(sys.argv[1]).read_text()))
    server = make_server("127.0.0.1", 0, Warehouse(create_backend_app("s3")), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdout.write(f"http://127.0.0.1:{server.port}\n")
    sys.stdout.flush()
    sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
