"""The headers that keep a browser from misusing an answer, on every answer and under the web config's."""

import json
import re
from collections.abc import Mapping
from pathlib import Path

import aiohttp
import pytest

from exporter.web.protection import protective_headers
from tests.running import Running, running, target, write

STRICT = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
ASKED = [
    ("GET", "/metrics", 200),
    ("GET", "/sd", 200),
    ("GET", "/-/healthy", 200),
    ("HEAD", "/metrics", 200),
    ("OPTIONS", "/metrics", 204),
    ("GET", "/probe", 400),
    ("GET", "/nothing", 404),
    ("GET", "/api/nothing", 404),
    ("POST", "/metrics", 405),
    ("POST", "/-/reload", 200),
]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write(tmp_path / "exporter.yaml", target("media", "http://127.0.0.1:1", "bucket"))


async def ask(exporter: Running, method: str, path: str) -> tuple[int, Mapping[str, str], str]:
    async with aiohttp.ClientSession() as session, session.request(method, exporter.url + path) as answer:
        return answer.status, dict(answer.headers), await answer.text()


async def test_every_answer_is_protected(config: Path) -> None:
    async with running(config) as exporter:
        for method, path, status in ASKED:
            answered, headers, _ = await ask(exporter, method, path)
            assert answered == status, path
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert headers["X-Frame-Options"] == "deny"
            assert headers["Content-Security-Policy"] == STRICT
            assert headers["Referrer-Policy"] == "no-referrer"
            assert headers.get("Cache-Control") == ("no-store" if path.startswith("/api/") else None)


async def test_the_page_for_people_may_use_what_it_holds_and_no_more(config: Path) -> None:
    async with running(config) as exporter:
        _, headers, page = await ask(exporter, "GET", "/")
    allowed = dict(part.split(" ", 1) for part in headers["Content-Security-Policy"].split("; "))
    assert allowed["default-src"] == allowed["frame-ancestors"] == allowed["base-uri"] == "'none'"
    own = ("script-src", "style-src", "img-src", "connect-src", "form-action")
    assert {allowed[each] for each in own} == {"'self'"}
    # Trusted types: no text becomes markup or code.
    assert (allowed["require-trusted-types-for"], allowed["trusted-types"]) == ("'script'", "'none'")
    assert len(allowed) == len(own) + 5
    assert not re.search(r"<style\b|<script>|\sstyle=|\son\w+=|javascript:|<(iframe|object|base)\b", page)


async def test_the_web_config_has_the_last_word(config: Path) -> None:
    web_config = config.parent / "web.yml"
    chosen = {"Content-Security-Policy": "default-src 'self'", "X-Frame-Options": "sameorigin"}
    web_config.write_text(json.dumps({"http_server_config": {"headers": chosen}}))
    async with running(config, web_config=web_config) as exporter:
        for path in ("/", "/metrics", "/api/nothing"):
            _, headers, _ = await ask(exporter, "GET", path)
            assert chosen.items() <= headers.items()
            assert headers["X-Content-Type-Options"] == "nosniff"


def test_frames_that_the_web_config_allows_are_not_forbidden_by_the_policy() -> None:
    for path in ("/", "/api/health"):
        policy = protective_headers(path, {"X-Frame-Options": "sameorigin"})["Content-Security-Policy"]
        assert policy.endswith("frame-ancestors 'self'")
