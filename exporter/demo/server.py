"""The demo's S3 server: moto, with the story's faults in front. Run by `DemoStorage` as its own process.

Nothing else imports this module, so that moto (about half a second) loads in this process alone.
"""

import argparse
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from itertools import count
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment
from xml.sax.saxutils import escape

from moto.moto_server.werkzeug_app import create_backend_app
from werkzeug.datastructures import Headers
from werkzeug.serving import make_server
from werkzeug.test import Client
from werkzeug.wrappers import Request, Response

from exporter.demo.story import BUCKETS, SCENES, TROUBLED_BUCKET, Fault, Scene, scene_at
from exporter.streams import write_all

HOST = "127.0.0.1"


class StoryPlayer:
    """WSGI middleware that plays the current scene on requests to the troubled bucket.

    It also names moto's request id as S3 does, `x-amz-request-id`.
    """

    def __init__(self, app: WSGIApplication, scene: Callable[[], Scene]) -> None:
        self._app = app
        self._scene = scene
        self._requests = count()

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        request = Request(environ)
        if request.path.split("/")[1] == TROUBLED_BUCKET:
            scene = self._scene()
            time.sleep(scene.delay)
            number = next(self._requests)
            if fault := scene.fault_for(number):
                request.get_data(cache=False)  # an unread body would make the close a connection reset
                return error_response(fault, request.path, f"DEMO{number:012X}")(environ, start_response)
        response = Response.from_app(self._app, environ)
        rename_request_id(response.headers)
        return response(environ, start_response)


def rename_request_id(headers: Headers) -> None:
    if "x-amzn-requestid" in headers:
        headers["x-amz-request-id"] = headers.pop("x-amzn-requestid")


def error_response(fault: Fault, resource: str, request_id: str) -> Response:
    """`fault` as S3 writes an error (https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html)."""
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f"<Error><Code>{fault.code}</Code><Message>{fault.message}</Message>"
        f"<Resource>{escape(resource)}</Resource><RequestId>{request_id}</RequestId></Error>"
    )
    return Response(
        body, fault.status, {"x-amz-request-id": request_id, "Server": "demo"}, mimetype="application/xml"
    )


def storage_app() -> WSGIApplication:
    """Moto's S3 with the demo's buckets in it."""
    app = create_backend_app("s3")
    client = Client(app)
    for bucket in BUCKETS:
        client.put(f"/{bucket}", base_url=f"http://{HOST}")
    return app


def main() -> None:
    """Serve until standard input ends: the parent holds its other end, even a killed one lets go of it.

    The first line of standard output is the endpoint, written once the server answers.
    """
    parser = argparse.ArgumentParser(prog="python -m exporter.demo.server", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="0 takes any free port")
    parser.add_argument("--scene", choices=SCENES, help="hold this scene instead of playing the story")
    options = parser.parse_args()

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server(HOST, options.port, StoryPlayer(storage_app(), _clock(options.scene)), threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    write_all(1, f"http://{HOST}:{server.port}\n".encode())  # a parent that is gone is no error
    with suppress(KeyboardInterrupt):
        sys.stdin.buffer.read()


def _clock(held: str | None) -> Callable[[], Scene]:
    if held is not None:
        return lambda: SCENES[held]
    start = time.monotonic()
    return lambda: scene_at(time.monotonic() - start)


if __name__ == "__main__":
    main()
