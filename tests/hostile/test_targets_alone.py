"""No request makes the exporter speak with anything but the storages of its configuration."""

import asyncio
import http.client
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic.alias_generators import to_camel

from exporter.config.model import TargetFile
from exporter.overrides import SETTINGS
from tests.hostile.effort import times
from tests.running import Running, running, target, write

LONGEST_ANSWER = 1200


class Bait:
    """A server that nobody has any business with; a storage too, which refuses whatever it is asked."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
        writer.close()


@asynccontextmanager
async def bait() -> AsyncIterator[Bait]:
    it = Bait()
    server = await asyncio.start_server(it.accept, "127.0.0.1", 0)
    it.port = server.sockets[0].getsockname()[1]
    async with server:
        yield it


@asynccontextmanager
async def exporter(folder: Path) -> AsyncIterator[tuple[Running, Bait, Bait]]:
    """One with the target media; what it may speak with, and what it may not."""
    async with bait() as storage, bait() as elsewhere:
        media = target("media", f"http://127.0.0.1:{storage.port}", "media")
        async with running(write(folder / "exporter.yaml", media)) as it:
            yield it, storage, elsewhere


def ask(url: str, method: str, address: str, body: object = None) -> tuple[int, str]:
    """Sends the address as it is, which a client that knows URLs would not."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection._validate_path = lambda _: None  # type: ignore[attr-defined]
    sent = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Connection": "close"}
    connection.request(method, address, sent, headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


HERE = "127.0.0.1:PORT"
URLS = st.builds(
    "{}{}{}{}".format,
    st.sampled_from(
        ["http://", "https://", "//", "", "http:", "HTTP://", "gopher://", "media@", "http://media@"]
    ),
    st.sampled_from([HERE, "169.254.169.254", "localhost:PORT", "[::1]:PORT", "2130706433:PORT", "0:PORT"]),
    st.sampled_from(["", "/", "/media", "/latest/meta-data/", "#media", "?target=media", "/../media"]),
    st.sampled_from(["", "\0", "\r\nHost: x", ",media", " ", "\t", "\x7f"]),
)
NEAR = st.sampled_from(
    [
        *(
            "MEDIA",
            " media",
            "media ",
            "media\0",
            "media\n",
            "media,media",
            "m\u00e9dia",
            "\uff4dedia",
            "media/",
        ),
        *("../media", "%6dedia", "media%00", "*", "{}", "__class__", "<script>alert(1)</script>", "x" * 6000),
    ]
)
NAMES = st.one_of(URLS, NEAR, st.text()).filter(lambda name: name.strip() and name != "media")
OTHER_WORDS = st.sampled_from(["", "&url=", "&endpoint=", "&module=", "&debug=", "&hostname=", "&proxy="])


async def test_a_probe_of_an_unknown_name_reaches_nobody(tmp_path: Path) -> None:
    async with exporter(tmp_path) as (it, storage, elsewhere):

        @settings(max_examples=times(150))
        @given(NAMES, OTHER_WORDS, st.booleans())
        @example("http://169.254.169.254/", "", False)
        def attack(name: str, other: str, raw: bool) -> None:
            name = name.replace("PORT", str(elsewhere.port))
            more = f"{other}http%3A%2F%2F127.0.0.1%3A{elsewhere.port}" if other else ""
            named = quote(name, safe=":/?@[]" if raw else "")
            status, text = ask(it.url, "GET", f"/probe?target={named}{more}")
            assert status in (400, 404), text
            assert len(text) < LONGEST_ANSWER
            assert text.isascii()
            assert text.isprintable()
            assert json.loads(text)["error"]["code"] in ("unknown_target", "missing_target")
            body = {"target": name}
            status, text = ask(it.url, "POST", "/api/health/check", body)
            assert status in (400, 404, 429), text
            assert len(text) < LONGEST_ANSWER

        await asyncio.to_thread(attack)  # Hypothesis is not async
        assert (storage.connections, elsewhere.connections) == (0, 0)


@pytest.mark.parametrize(
    "query",
    [
        "target=media&target=URL",
        "target=URL&target=media",
        "target=media&%74arget=URL",
        "target=media&debug=1&debug=0",
    ],
)
async def test_a_probe_with_a_parameter_twice_is_refused(tmp_path: Path, query: str) -> None:
    """Which of the two counts would be for each proxy on the way to guess."""
    async with exporter(tmp_path) as (it, storage, elsewhere):
        url = quote(f"http://127.0.0.1:{elsewhere.port}", safe="")
        status, text = await it.get(f"/probe?{query.replace('URL', url)}")
        assert (status, json.loads(text)["error"]["code"]) == (400, "repeated_parameter")
        assert (storage.connections, elsewhere.connections) == (0, 0)
        await it.get("/probe?target=media")
        assert storage.connections > 0


@pytest.mark.parametrize("line", ["http://HERE/probe?target=media", "http://HERE/", "//HERE/probe?target=x"])
async def test_it_is_no_proxy(tmp_path: Path, line: str) -> None:
    async with exporter(tmp_path) as (it, _, elsewhere):
        await asyncio.to_thread(ask, it.url, "GET", line.replace("HERE", f"127.0.0.1:{elsewhere.port}"))
        with suppress(http.client.HTTPException, ConnectionError):
            await asyncio.to_thread(ask, it.url, "CONNECT", f"127.0.0.1:{elsewhere.port}")
        assert elsewhere.connections == 0


FIELDS = sorted({*TargetFile.model_fields} - {"probe", "breaker", "alerts"})
FORBIDDEN = st.sampled_from(
    [*FIELDS, *map(to_camel, FIELDS), "probe", "breaker", "alerts", "keyPrefix", "targets", "__proto__"]
).filter(lambda name: name not in ("target", *SETTINGS))
GIVEN: list[Any] = ["http://169.254.169.254", "other-bucket", "AKIAATTACKER", None, True, 1, [], {}]
VALUES = st.sampled_from(GIVEN) | st.text(max_size=20)
GOOD: dict[str, Any] = {"timeout": 500, "checkInterval": 3_600_000, "serviceName": "media"}
CHANGING = (("PUT", "/api/health/config"), ("POST", "/api/health/check"))


async def test_no_change_over_the_api_touches_where_a_target_is_and_its_keys(
    tmp_path: Path, unlimited_writes: None
) -> None:
    async with exporter(tmp_path) as (it, storage, elsewhere):

        def place() -> list[object]:
            now = it.app.targets["media"].settings
            return [now.model_copy(update={"probe": None}), now.probe.key_prefix, now.probe.object_size]

        before = place()

        @settings(max_examples=times(100))
        @given(st.dictionaries(FORBIDDEN, VALUES, min_size=1, max_size=3), st.sampled_from([*GOOD]))
        def attack(wrong: dict[str, Any], good: str) -> None:
            parameters = "&".join(f"{name}=x" for name in wrong)
            for method, path in CHANGING:
                for body in ({good: GOOD[good], **wrong}, {good: GOOD[good], "settings": wrong}, [wrong]):
                    assert ask(it.url, method, path, body)[0] == 400
                assert ask(it.url, method, f"{path}?{parameters}", {})[0] == 400
            assert place() == before

        await asyncio.to_thread(attack)
        # What may be changed is changed, and nothing besides.
        assert (await asyncio.to_thread(ask, it.url, "PUT", CHANGING[0][1], {"timeout": 700}))[0] == 200
        assert it.app.targets["media"].settings.probe.timeout == 0.7
        assert place() == before
        assert (storage.connections, elsewhere.connections) == (0, 0)
