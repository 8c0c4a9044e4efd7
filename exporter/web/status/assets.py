"""The page's script, style and icons: read once, and named by what they hold so that they may be kept."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from aiohttp import web

from exporter.web.api.health_models import HealthStatus

_FOLDER = Path(__file__).parent / "static"
_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_FILES = ("status.css", "status.js", *(f"status-{status}.svg" for status in HealthStatus))

CONTENTS: Mapping[str, bytes] = {name: (_FOLDER / name).read_bytes() for name in _FILES}
ADDRESSES: Mapping[str, str] = {
    name: f"{name}?{hashlib.sha256(content).hexdigest()[:12]}" for name, content in CONTENTS.items()
}
"""Relative, so that a proxy may put the page below any path."""


async def asset(request: web.Request) -> web.Response:
    name = request.path.removeprefix("/")
    answer = web.Response(body=CONTENTS[name], content_type=_TYPES[name.rpartition(".")[2]], charset="utf-8")
    answer.headers["Cache-Control"] = "private, max-age=31536000, immutable"
    answer.enable_compression()
    return answer


ROUTES = [web.get(f"/{name}", asset) for name in CONTENTS]
