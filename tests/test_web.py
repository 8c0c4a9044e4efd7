"""The web side over real sockets: formats, /probe, /sd, errors, and who may call."""

import asyncio
import base64
import gzip
import json
import re
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from html import unescape
from pathlib import Path
from urllib.parse import urlencode, urljoin

import aiohttp
import bcrypt
import pytest
import trustme
from aiohttp import web
from prometheus_client import Metric
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from structlog.testing import capture_logs
from structlog.typing import EventDict
from yarl import URL

from exporter.outcome import Operation
from exporter.web import metrics
from exporter.web.connection import Patience
from exporter.web.errors import as_json
from exporter.web.server import Server
from tests.running import (
    DEADLINE,
    LOOPBACK,
    SECRET,
    SESSION_TOKEN,
    Running,
    Samples,
    demo_server,
    gate,
    new_bucket,
    objects_in,
    running,
    target,
    until,
    write,
)

OPENMETRICS = "application/openmetrics-text; version=1.0.0,text/plain;q=0.5"
ALL = {"interval": "1d", "operations": ["put", "get", "head", "list", "delete"]}
HEADERS = {
    "Content-Security-Policy": "default-src 'self'",
    "X-Frame-Options": "deny",
    "X-Content-Type-Options": "nosniff",
    "X-XSS-Protection": "1; mode=block",
    "Strict-Transport-Security": "max-age=31536000",
}
HOSTILE = "<script>alert('x')</script>&\"'{% x %}é%2F?#"


# prometheus_client's parser of OpenMetrics has no types of its own.
parse_openmetrics: Callable[[str], Iterable[Metric]] = openmetrics.text_string_to_metric_families


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    with demo_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def slow_storage() -> Iterator[str]:
    with demo_server("slow") as endpoint:
        yield endpoint


@pytest.fixture
def config(tmp_path: Path, storage: str) -> Path:
    """One target, `media`, that is probed with all operations when asked."""
    media = target("media", storage, new_bucket(storage), probe=ALL, session_token=SESSION_TOKEN)
    return write(tmp_path / "exporter.yaml", media)


# --- /metrics ---


async def test_metrics_in_prometheus_text(config: Path) -> None:
    async with running(config) as exporter, aiohttp.ClientSession() as session:
        await exporter.get("/probe?target=media")
        async with session.get(exporter.url + "/metrics") as answer:
            page = await answer.text()
            assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    families = {family.name for family in parse_text(page)}
    assert {"r2_probes", "r2_probe_duration_seconds", "r2_target_up", "process_cpu_seconds"} <= families
    samples = Samples.of(page)
    for operation in Operation:
        assert samples("r2_probes_total", target="media", operation=operation, result="success") == 1


async def test_metrics_in_openmetrics_with_the_request_id_as_exemplar(config: Path) -> None:
    async with running(config) as exporter, aiohttp.ClientSession() as session:
        _, report = await exporter.get("/probe?target=media&debug=true")
        async with session.get(exporter.url + "/metrics", headers={"Accept": OPENMETRICS}) as answer:
            page = await answer.text()
            assert answer.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert page.endswith("# EOF\n")
    families = {family.name: family for family in parse_openmetrics(page)}
    exemplars = [
        sample.exemplar.labels["request_id"]
        for sample in families["r2_probe_duration_seconds"].samples
        if sample.exemplar
    ]
    assert sorted(exemplars) == sorted(re.findall(r"< x-amz-request-id: (\S+)", report))
    assert len(exemplars) == len(Operation)


@pytest.mark.parametrize(
    ("accept_encoding", "compressed"),
    [
        ("gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("GZIP ; q=1", True),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
        ("identity", False),
        ("x-not-gzip", False),
    ],
)
@pytest.mark.parametrize("accept", ["text/plain", OPENMETRICS])
async def test_gzip_where_asked(config: Path, accept: str, accept_encoding: str, compressed: bool) -> None:
    headers = {"Accept": accept, "Accept-Encoding": accept_encoding}
    async with (
        running(config) as exporter,
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.get(exporter.url + "/metrics", headers=headers) as answer,
    ):
        body = await answer.read()
        assert answer.headers.get("Content-Encoding") == ("gzip" if compressed else None)
    page = (gzip.decompress(body) if compressed else body).decode()
    assert "r2_config_threshold" in page


@pytest.mark.parametrize("path", ["/metrics", "/", "/sd", "/-/healthy", "/probe?target=media"])
async def test_head_answers_as_get_without_a_body(config: Path, path: str) -> None:
    async with running(config) as exporter:
        asked = f"HEAD {path} HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\nConnection: close\r\n\r\n"
        head, _, body = (await raw(exporter, asked)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert body == b""


async def test_many_scrapes_at_once_are_all_whole(config: Path) -> None:
    async with running(config) as exporter:
        scrapes = [exporter.get("/metrics", Accept=OPENMETRICS if n % 2 else "text/plain") for n in range(40)]
        pages = await asyncio.gather(exporter.get("/probe?target=media"), *scrapes)
    for number, (status, page) in enumerate(pages[1:]):
        assert status == 200
        families = {f.name for f in (parse_openmetrics if number % 2 else parse_text)(page)}
        assert {"r2_probes", "process_cpu_seconds"} <= families


async def test_promtool_finds_nothing(config: Path) -> None:
    promtool = shutil.which("promtool")
    assert promtool, "promtool is needed: apt-get install prometheus"
    async with running(config) as exporter:
        for path in ("/probe?target=media", "/metrics"):
            _, page = await exporter.get(path)
            assert await asyncio.to_thread(_complaints, promtool, page) == (0, "", "")


def _complaints(promtool: str, page: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [promtool, "check", "metrics"], input=page, text=True, capture_output=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


async def test_a_scraper_that_leaves_in_the_middle_is_no_error(tmp_path: Path, storage: str) -> None:
    many = [target(f"target-{n}", storage, "bucket", probe=ALL) for n in range(400)]
    async with running(write(tmp_path / "many.yaml", *many)) as exporter:
        with capture_logs() as logs:
            for _ in range(3):
                reader, writer = await asyncio.open_connection(*address(exporter), limit=1)
                writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                await reader.read(10)
                writer.transport.abort()
            status, _ = await exporter.get("/metrics")
        # Of so many targets the turn of one's sweep may come meanwhile.
        said = [entry for entry in logs if entry["event"] != "leftovers not swept"]
        assert (status, said) == (200, [])


# --- /probe ---


async def test_a_probe_returns_the_series_of_its_target_alone(storage: str, tmp_path: Path) -> None:
    bucket = new_bucket(storage)
    targets = [target(name, storage, bucket, probe=ALL) for name in ("media", "backups")]
    async with running(write(tmp_path / "two.yaml", *targets)) as exporter:
        for accept, parse in (("text/plain", parse_text), (OPENMETRICS, parse_openmetrics)):
            status, page = await exporter.get("/probe?target=media", Accept=accept)
            samples = [sample for family in parse(page) for sample in family.samples]
            assert status == 200
            assert {sample.labels.get("target") for sample in samples} == {"media"}
        metrics = await exporter.metrics()
    assert metrics("r2_probe_success", target="media") == len(Operation)
    assert metrics("r2_probes_total", target="backups") == 0
    assert objects_in(storage, bucket) == 0


@pytest.mark.parametrize(
    ("query", "status", "code", "words"),
    [
        ("", 400, "missing_target", "/sd"),
        ("?target=", 400, "missing_target", "/sd"),
        ("?target=nobody", 404, "unknown_target", "nobody"),
        ("?target=MEDIA", 404, "unknown_target", "MEDIA"),
        ("?target=media&operations=get,copy,move", 400, "unknown_operation", "copy, move"),
        ("?target=media&operations=GET", 400, "unknown_operation", "put, get, head, list, delete"),
    ],
)
async def test_what_cannot_be_probed(config: Path, query: str, status: int, code: str, words: str) -> None:
    async with running(config) as exporter:
        answered, text = await exporter.get(f"/probe{query}")
        error = json.loads(text)["error"]
        assert (answered, error["code"], error["details"]) == (status, code, [])
        assert words in error["message"]
        assert (await exporter.metrics())("r2_probes_total") == 0


async def test_a_subset_of_operations(config: Path) -> None:
    async with running(config) as exporter:
        assert (await exporter.get("/probe?target=media&operations=list,%20head"))[0] == 200
        metrics = await exporter.metrics()
    assert [metrics("r2_probes_total", operation=o) for o in ("list", "head", "put")] == [1, 1, 0]


async def test_an_operation_that_is_not_configured_is_probed_on_demand(tmp_path: Path, storage: str) -> None:
    media = target("media", storage, new_bucket(storage))
    async with running(write(tmp_path / "exporter.yaml", media)) as exporter:
        _, page = await exporter.get("/probe?target=media&operations=list")
    assert Samples.of(page)("r2_probes_total", operation="list", result="success") == 1


async def test_debug_shows_phases_and_headers_and_no_secret(config: Path) -> None:
    async with running(config) as exporter:
        status, report = await exporter.get("/probe?target=media&debug=true")
    assert status == 200
    for operation in Operation:
        assert f"\n{operation}: success after " in report
    for phase in ("connect", "processing", "transfer"):
        assert f"\n  phase {phase}: " in report
    assert report.count("\n  > Authorization: ***") == len(Operation)
    assert report.lower().count("\n  > x-amz-security-token: ***") == len(Operation)
    assert re.search(r"\n  < HTTP 200, \d+ bytes\n", report)
    assert "\n  < x-amz-request-id: " in report
    for secret in (SECRET, SESSION_TOKEN, "Signature", "AWS4-HMAC-SHA256"):
        assert secret not in report


async def test_debug_tells_why_it_failed_and_what_to_check(tmp_path: Path, storage: str) -> None:
    absent = target("media", storage, "no-such-bucket")
    async with running(write(tmp_path / "exporter.yaml", absent)) as exporter:
        status, report = await exporter.get("/probe?target=media&debug=1&operations=put")
    assert status == 200
    assert "put: FAILURE client after " in report
    assert "NoSuchBucket" in report
    assert "\n  hint: " in report


async def test_many_callers_at_once_cost_one_probe(tmp_path: Path, storage: str) -> None:
    async with gate(storage) as front:
        media = target("media", front.url, new_bucket(storage))
        async with running(write(tmp_path / "exporter.yaml", media)) as exporter:
            front.close()
            names = ["", "&operations=put,get,delete", "&operations=delete,put,get", "&debug=true"]
            asking = [
                asyncio.create_task(exporter.get(f"/probe?target=media{names[n % 4]}")) for n in range(40)
            ]
            await until(lambda: front.held == 1)
            await asyncio.wait_for(exporter.get("/metrics"), 30)  # nobody else waits for the storage
            front.open()
            answers = await asyncio.gather(*asking)
            assert {status for status, _ in answers} == {200}
            assert len(front.requests) < 40 * 3
            runs = (await exporter.metrics())("r2_probes_total", operation="put")
            assert runs * 3 == len(front.requests)
            assert runs <= 2  # a connection that came late may have found the first run over


async def test_different_operations_are_different_probes(tmp_path: Path, storage: str) -> None:
    async with gate(storage) as front:
        media = target("media", front.url, new_bucket(storage))
        async with running(write(tmp_path / "exporter.yaml", media)) as exporter:
            front.close()
            asking = [
                asyncio.create_task(exporter.get(f"/probe?target=media&operations={operation}"))
                for operation in ("get", "list")
            ]
            await until(lambda: front.held == 2)
            front.open()
            pages = [Samples.of(page) for _, page in await asyncio.gather(*asking)]
    assert pages[0]("r2_probes_total", operation="get") == 1
    assert pages[1]("r2_probes_total", operation="list") == 1


async def test_the_scrape_timeout_bounds_the_whole_run(tmp_path: Path, slow_storage: str) -> None:
    # Each request to this storage takes 0.8 s: of three, the second is cut short and the third not sent.
    media = target("media", slow_storage, "media")
    async with running(write(tmp_path / "exporter.yaml", media)) as exporter:
        header = {"X-Prometheus-Scrape-Timeout-Seconds": "1.8"}
        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{exporter.url}/probe?target=media", headers=header) as answer,
        ):
            samples = Samples.of(await answer.text())
        assert samples("r2_probe_success", operation="put") == 1
        # What the scrape left no time for says nothing of the storage.
        for operation in ("get", "delete"):
            assert samples("r2_probes_skipped_total", operation=operation, reason="overrun") == 1
            assert samples("r2_probes_total", operation=operation) == 0
        assert samples("r2_target_up", target="media") == 1
        assert samples("r2_probe_duration_seconds_sum", target="media") < 1.8
    assert objects_in(slow_storage, "media") == 0


@pytest.mark.parametrize("value", ["", "soon", "0", "-1", "nan", "inf", "1e999"])
async def test_a_scrape_timeout_that_says_nothing_bounds_nothing(config: Path, value: str) -> None:
    async with running(config) as exporter, aiohttp.ClientSession() as session:
        headers = {"X-Prometheus-Scrape-Timeout-Seconds": value}
        async with session.get(f"{exporter.url}/probe?target=media", headers=headers) as answer:
            samples = Samples.of(await answer.text())
    assert samples("r2_probe_success") == len(Operation)


async def test_a_client_that_leaves_in_the_middle_of_a_probe_harms_nothing(
    tmp_path: Path, storage: str
) -> None:
    async with gate(storage) as front:
        bucket = new_bucket(storage)
        async with running(write(tmp_path / "exporter.yaml", target("media", front.url, bucket))) as exporter:
            front.close()
            with capture_logs() as logs:
                _, writer = await asyncio.open_connection(*address(exporter))
                writer.write(b"GET /probe?target=media HTTP/1.1\r\nHost: x\r\n\r\n")
                await until(lambda: front.held == 1)
                patient = asyncio.create_task(exporter.get("/probe?target=media"))
                writer.transport.abort()
                await asyncio.sleep(0.05)
                front.open()
                status, _ = await patient
                await until(lambda: len(front.requests) >= 3)
            assert (status, logs) == (200, [])
            assert (await exporter.metrics())("r2_probes_total", result="failure") == 0
        assert objects_in(storage, bucket) == 0


# --- /sd ---


async def test_sd_lists_the_targets_as_reached_and_labelled(tmp_path: Path, storage: str) -> None:
    media = target("media", storage, "bucket", labels={"team": "web", "tier": "1"})
    other = target(HOSTILE, storage, "bucket")
    async with (
        running(write(tmp_path / "exporter.yaml", media, other)) as exporter,
        aiohttp.ClientSession() as session,
        session.get(exporter.url + "/sd", headers={"Host": "r2.example.org:8443"}) as answer,
    ):
        assert answer.content_type == "application/json"
        entries = await answer.json()
    assert entries == [
        {
            "targets": ["r2.example.org:8443"],
            "labels": {
                "team": "web",
                "tier": "1",
                "__metrics_path__": "/probe",
                "__param_target": "media",
                "instance": "media",
            },
        },
        {
            "targets": ["r2.example.org:8443"],
            "labels": {"__metrics_path__": "/probe", "__param_target": HOSTILE, "instance": HOSTILE},
        },
    ]


# --- / and life ---


async def test_a_hostile_name_is_text_on_the_status_page_and_its_links_work(
    tmp_path: Path, storage: str
) -> None:
    bucket = new_bucket(storage)
    config = write(tmp_path / "exporter.yaml", target(HOSTILE, storage, bucket))
    async with running(config) as exporter:
        await exporter.get("/probe?" + urlencode({"target": HOSTILE}))
        _, page = await exporter.get("/?" + urlencode({"open": HOSTILE}))
        assert HOSTILE not in page
        links = {unescape(href) for href in re.findall(r'href="([^"#]+)"', page)}
        assert {"metrics", "sd", "api/health", "api/openapi.json"} <= links
        for link in links:
            status, text = await exporter.get(urljoin("/", link))
            assert status == 200, link
            if link.startswith("probe?"):
                assert f"target {HOSTILE}: bucket {bucket}" in text


@pytest.mark.parametrize("path", ["/metrics", "/-/ready", "/nothing"])
async def test_while_it_stops_a_connection_has_one_more_answer(config: Path, path: str) -> None:
    async with running(config) as exporter:
        exporter.app.ready = False
        host, port = exporter.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode() * 20)
        async with asyncio.timeout(DEADLINE):
            answer = await reader.read()
        writer.close()
    assert answer.count(b"HTTP/1.1 ") == 1
    assert answer.count(b"\r\nConnection: close\r\n") == 1


async def test_ready_while_it_probes_and_not_before_or_after(config: Path) -> None:
    async with running(config) as exporter:
        assert (await exporter.get("/-/ready"))[0] == 200
        exporter.app.ready = False
        assert (await exporter.get("/-/ready"))[0] == 503
        exporter.app.ready = True
        await exporter.app.stop()
        assert (await exporter.get("/-/ready"))[0] == 503
        assert (await exporter.get("/-/healthy"))[0] == 200
        status, text = await exporter.get("/probe?target=media")
        assert (status, json.loads(text)["error"]["code"]) == (503, "stopping")
        assert (await exporter.get("/metrics"))[0] == 200


async def test_a_probe_under_way_at_the_stop_is_told_so_and_cleaned_up(tmp_path: Path, storage: str) -> None:
    async with gate(storage) as front:
        bucket = new_bucket(storage)
        async with running(write(tmp_path / "exporter.yaml", target("media", front.url, bucket))) as exporter:
            front.close()
            asking = asyncio.create_task(exporter.get("/probe?target=media"))
            await until(lambda: front.held == 1)
            stopping = asyncio.create_task(exporter.app.stop())
            status, text = await asking
            front.open()
            await stopping
            assert (status, json.loads(text)["error"]["code"]) == (503, "stopping")
        assert objects_in(storage, bucket) == 0


# --- errors ---


@pytest.mark.parametrize(
    ("method", "path", "status", "code", "allow"),
    [
        ("GET", "/nothing", 404, "not_found", None),
        ("GET", "/metrics/", 404, "not_found", None),
        ("GET", "//metrics", 404, "not_found", None),
        ("POST", "/nothing/%3Cscript%3E", 404, "not_found", None),
        ("POST", "/metrics", 405, "method_not_allowed", "GET, HEAD, OPTIONS"),
        ("DELETE", "/probe?target=media", 405, "method_not_allowed", "GET, HEAD, OPTIONS"),
        ("GET", "/-/reload", 405, "method_not_allowed", "OPTIONS, POST"),
        ("OPTIONS", "/nothing", 404, "not_found", None),
        ("GET", "/api/nothing", 404, "not_found", None),
    ],
)
async def test_errors_are_json(
    config: Path, method: str, path: str, status: int, code: str, allow: str | None
) -> None:
    async with running(config) as exporter:
        response = await raw(
            exporter, f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        )
    head, _, body = response.partition(b"\r\n\r\n")
    error = json.loads(body)["error"]
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"Content-Type: application/json" in head
    assert (error["code"], error["details"]) == (code, [])
    assert error["message"]
    found = re.search(rb"\r\nAllow: ([^\r]+)", head)
    assert (found.group(1).decode() if found else None) == allow


async def test_options_answers_with_the_methods(config: Path) -> None:
    async with running(config) as exporter, aiohttp.ClientSession() as session:
        for path, allow in (("/", "GET, HEAD, OPTIONS"), ("/-/reload", "OPTIONS, POST")):
            async with session.options(exporter.url + path) as answer:
                assert (answer.status, answer.headers["Allow"], await answer.read()) == (204, allow, b"")


async def test_too_large_a_body_and_a_defect_are_json_too(config: Path) -> None:
    async def fail(_request: web.Request) -> web.Response:
        raise ValueError("a detail for the log alone")

    application = web.Application(middlewares=[as_json])
    application.router.add_post("/fail", fail)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    async with aiohttp.ClientSession() as session:
        with capture_logs() as logs:
            async with session.post(url + "/fail") as answer:
                status, text = answer.status, await answer.text()
    await runner.cleanup()
    async with running(config) as exporter, aiohttp.ClientSession() as session:
        async with session.post(exporter.url + "/-/reload", data=b"x" * 65_537) as answer:
            assert (answer.status, (await answer.json())["error"]["code"]) == (413, "content_too_large")
        async with session.post(exporter.url + "/-/reload", data=b"x" * 65_000) as answer:
            assert answer.status == 200
    assert (status, json.loads(text)["error"]["code"]) == (500, "internal_error")
    assert "detail for the log" not in text
    assert [line["event"] for line in logs] == ["a request failed unexpectedly"]


@pytest.mark.parametrize(
    ("junk", "status"),
    [
        (b"\x00\xff\x16\x03\x01junk\r\n\r\n", 400),
        (b"GET /metrics HTTP/9.9\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: -5\r\n\r\n", 400),
        (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n", 414),
    ],
    ids=["binary", "version", "length", "long"],
)
async def test_junk_gets_an_error_in_json_and_harms_nobody(config: Path, junk: bytes, status: int) -> None:
    async with running(config) as exporter:
        reader, writer = await asyncio.open_connection(*address(exporter))
        writer.write(junk)
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode()
        writer.transport.abort()
        assert head.startswith(f"HTTP/1.0 {status} ")
        assert "Content-Type: application/json" in head
        assert "X-Content-Type-Options: nosniff" in head
        assert (await exporter.get("/-/healthy"))[0] == 200


async def test_a_client_that_is_slow_with_its_head_or_its_body_is_let_go(config: Path) -> None:
    async with running(config) as exporter:
        server = Server(exporter.app, LOOPBACK, None, Patience(head=0.3, body=0.3, linger=0.1))
        try:
            await server.start()
            impatient = Running(exporter.app, server)
            assert await raw(impatient, "GET /metrics HTTP/1.1\r\nHost: x\r\nX-") == b""
            head = "POST /-/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n"
            answer = await raw(impatient, head + "half")
            assert answer.startswith(b"HTTP/1.1 408 ")
            assert b'"code": "request_timeout"' in answer
            assert (await impatient.get("/-/healthy"))[0] == 200
        finally:
            await server.stop()


# --- who may call ---


async def test_writes_are_refused_beyond_loopback_without_a_token(config: Path) -> None:
    async with running(config, listen=[("0.0.0.0", 0)]) as exporter:
        local = exporter.url.replace("0.0.0.0", "127.0.0.1")
        async with aiohttp.ClientSession() as session:
            async with session.post(local + "/-/reload") as answer:
                error = (await answer.json())["error"]
                assert (answer.status, error["code"]) == (403, "writes_disabled")
                assert "R2_EXPORTER_API_TOKEN" in error["message"]
            async with session.get(local + "/metrics") as answer:
                assert answer.status == 200


async def test_writes_with_the_token(config: Path) -> None:
    env = {"R2_EXPORTER_API_TOKEN": "token-for-writes"}
    async with running(config, listen=[("0.0.0.0", 0)], env=env) as exporter:
        exporter.url = exporter.url.replace("0.0.0.0", "127.0.0.1")
        assert (await exporter.post("/-/reload"))[0] == 401
        assert (await exporter.post("/-/reload", Authorization="Bearer wrong"))[0] == 401
        assert (await exporter.post("/-/reload", Authorization="Bearer token-for-writes"))[0] == 200
        assert (await exporter.get("/metrics"))[0] == 200


async def test_a_login_by_the_web_config_which_a_reload_changes(config: Path) -> None:
    web_config = config.parent / "web.yml"
    hashed = bcrypt.hashpw(b"correct horse", bcrypt.gensalt(4)).decode()
    save(web_config, f"basic_auth_users: {{alice: {hashed}}}")
    good = "Basic " + base64.b64encode(b"alice:correct horse").decode()
    async with running(config, web_config=web_config) as exporter:
        for path in ("/", "/metrics", "/sd", "/probe?target=media", "/-/healthy", "/nothing"):
            status, text = await exporter.get(path)
            assert (status, json.loads(text)["error"]["code"]) == (401, "unauthorized"), path
        assert (await exporter.get("/metrics", Authorization=good))[0] == 200
        assert (await exporter.post("/-/reload"))[0] == 401
        save(web_config, "{}")
        assert (await exporter.post("/-/reload", Authorization=good))[0] == 200
        assert (await exporter.get("/metrics"))[0] == 200


async def test_security_headers_are_on_every_answer(config: Path) -> None:
    web_config = config.parent / "web.yml"
    save(web_config, json.dumps({"http_server_config": {"headers": HEADERS}}))
    asked = [("GET", path) for path in ("/", "/metrics", "/probe?target=media", "/sd", "/-/ready")]
    asked += [("GET", "/nothing"), ("GET", "/probe"), ("POST", "/metrics"), ("HEAD", "/metrics")]
    async with running(config, web_config=web_config) as exporter, aiohttp.ClientSession() as session:
        for method, path in asked:
            async with session.request(method, exporter.url + path) as answer:
                assert HEADERS.items() <= dict(answer.headers).items(), path


async def test_tls_by_the_web_config_and_its_headers(
    config: Path, serving_certificate: Path, authority: trustme.CA
) -> None:
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with running(config, web_config=serving_certificate) as exporter:
        assert exporter.url.startswith("https://127.0.0.1:")
        async with aiohttp.ClientSession() as session:
            async with session.get(exporter.url + "/metrics", ssl=trusting) as answer:
                assert answer.status == 200
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(exporter.url + "/metrics")
        assert (await raw(exporter, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")) == b""


async def test_a_client_that_never_ends_its_tls_handshake_is_let_go(
    config: Path, serving_certificate: Path
) -> None:
    async with running(config) as exporter:
        server = Server(exporter.app, LOOPBACK, serving_certificate, Patience(handshake=0.3))
        try:
            await server.start()
            assert await raw(Running(exporter.app, server), "") == b""
        finally:
            await server.stop()


@pytest.fixture
def serving_certificate(tmp_path: Path, authority: trustme.CA) -> Path:
    """A web config file with a certificate for 127.0.0.1."""
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(str(tmp_path / "server.pem"))
    certificate.private_key_pem.write_to_path(str(tmp_path / "server.key"))
    web_config = tmp_path / "web.yml"
    save(web_config, "tls_server_config: {cert_file: server.pem, key_file: server.key}")
    return web_config


async def test_several_addresses_ipv6_among_them(config: Path) -> None:
    listen = [("127.0.0.1", 0), *([("::1", 0)] if has_ipv6() else [])]
    async with running(config, listen=listen) as exporter:
        assert len(exporter.server.urls) == len(listen)
        assert len({url.rpartition(":")[2] for url in exporter.server.urls}) == len(listen)
        async with aiohttp.ClientSession() as session:
            for url in exporter.server.urls:
                async with session.post(url + "/-/reload") as answer:
                    assert answer.status == 200
                async with session.get(url + "/sd") as answer:
                    assert (await answer.json())[0]["targets"] == [url.removeprefix("http://")]


async def test_without_a_host_it_listens_on_every_interface(config: Path) -> None:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    async with running(config, listen=[("", port)]) as exporter, aiohttp.ClientSession() as session:
        assert exporter.url == f"http://localhost:{port}"
        for host in ("127.0.0.1", *(["[::1]"] if has_ipv6() else [])):
            async with session.get(f"http://{host}:{port}/-/ready") as answer:
                assert answer.status == 200


def has_ipv6() -> bool:
    with closing(socket.socket(socket.AF_INET6)) as probe:
        try:
            probe.bind(("::1", 0))
        except OSError:
            return False
    return True


def save(file: Path, text: str) -> None:
    file.write_text(text)


def address(exporter: Running) -> tuple[str, int]:
    host, _, port = exporter.url.partition("://")[2].rpartition(":")
    return host, int(port)


async def raw(exporter: Running, request: str) -> bytes:
    """Everything the exporter answers to these bytes, until it closes the connection."""
    reader, writer = await asyncio.open_connection(*address(exporter))
    writer.write(request.encode())
    try:
        return await asyncio.wait_for(reader.read(), 30)
    except ConnectionResetError:
        return b""
    finally:
        writer.transport.abort()


def defects(logs: list[EventDict]) -> list[EventDict]:
    """But for what a machine says that was too busy with other tests."""
    return [line for line in logs if "stood still" not in line["event"]]


async def test_who_leaves_in_the_middle_of_a_page_is_no_defect(config: Path) -> None:
    async with running(config) as exporter:
        filler = exporter.app.metrics.registry.gauge("filler", "More than sockets hold.", ("target",))
        for number in range(20_000):
            filler.labels("x" * 1000 + str(number))
        with capture_logs() as logs:
            url, tasks = URL(exporter.url), len(asyncio.all_tasks())
            reader, writer = await asyncio.open_connection(url.host, url.port)
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await reader.readexactly(1)
            for _ in range(500):  # it has written what there is room for, and waits
                await asyncio.sleep(0)
            writer.transport.abort()
            await until(lambda: len(asyncio.all_tasks()) <= tasks)
        assert defects(logs) == []


async def test_who_reads_too_slowly_is_let_go(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SENDING_SECONDS", 0.2)
    async with running(config) as exporter:
        filler = exporter.app.metrics.registry.gauge("filler", "More than sockets hold.", ("target",))
        for number in range(20_000):
            filler.labels("x" * 1000 + str(number))
        url, tasks = URL(exporter.url), len(asyncio.all_tasks())
        reader, writer = await asyncio.open_connection(url.host, url.port)
        with capture_logs() as logs:
            writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
            assert await reader.readexactly(1)
            await until(lambda: len(asyncio.all_tasks()) <= tasks)
            with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
                await reader.readexactly(20_000_000)
        assert defects(logs) == []
        assert (await exporter.get("/-/ready"))[0] == 200
        writer.close()
