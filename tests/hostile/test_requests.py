"""Every route that there is, asked in ways that nobody should: a documented answer, and no harm."""

import json
from collections.abc import Iterator, Mapping
from urllib.parse import quote

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.web.api import endpoints
from exporter.web.api.openapi import document
from exporter.web.body import MAX_BODY, MAX_WEBHOOK_BODY
from exporter.web.connection import MAX_FIELD, MAX_LINE
from exporter.web.paths import WEBHOOK
from tests.hostile.effort import times
from tests.hostile.held import Answer, Held, head, held
from tests.running import demo_server, new_bucket, target, write

MARK = "<script>alert(7)</script>"
SPLIT = "\r\nX-Injected: yes\r\n\r\n<html>"
ODD = ("", "gone", "\x00", "\udcff", "../../etc/passwd", "%", "a" * 300, MARK, SPLIT, "'\"--", "1e999", "NaN")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND", "get", "A" * 50)


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    config = tmp_path_factory.mktemp("requests") / "exporter.yaml"
    with demo_server() as storage:
        names = ("media", f'{MARK} "quoted" &amp; é')
        targets = [target(name, storage, new_bucket(storage)) for name in names]
        with held(write(config, *targets)) as it:
            yield it


def routes(exporter: Held) -> list[tuple[str, str]]:
    """Method and path of each, as the router has them; a part of the path may be in braces."""
    every = exporter.application.router.routes()
    found = {(each.method, each.resource.canonical) for each in every if each.resource}
    assert len(found) > 40
    return sorted(found)


def escaped(text: str) -> str:
    return quote(text, safe="", errors="surrogateescape")


texts = st.sampled_from(ODD) | st.text(max_size=30) | st.integers().map(str)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)

PARAMETERS = {
    "target": ["media"],
    "operation": ["put"],
    "operations": ["put,get", "head", "", ",", "put,put"],
    "since": ["0", "2026-01-31T12:00:00Z"],
    "limit": ["1", "1000"],
    "offset": ["0", "1000000000"],
    "hours": ["1", "87600"],
    "success": ["true"],
    "resolved": ["true"],
    "debug": ["true"],
    "q": [MARK],
    "state": ["healthy"],
    "page": ["2", "99999999"],
    "open": [MARK],
}
"""Of the API, and of the pages and `/probe`."""

parameters = st.sampled_from(sorted(PARAMETERS)).flatmap(
    lambda name: st.tuples(st.just(name), st.sampled_from(PARAMETERS[name]) | texts)
)
queries = st.sampled_from(["", "?target=media"]) | st.lists(
    parameters | st.tuples(texts, texts), min_size=1, max_size=3
).map(lambda pairs: "?" + "&".join(f"{escaped(name)}={escaped(value)}" for name, value in pairs))

FIELDS: dict[str, list[object]] = {
    "checkInterval": [1000, 86_400_000, 999],
    "timeout": [10, 300_000, 5000.0, 10.5],
    "testOperations": [["put"], ["get", "head", "list"], [], ["put", "put"]],
    "failureThreshold": [1, 10_000, True],
    "errorRateThreshold": [1, 1e-300, 0],
    "enabled": [True, False, "true"],
    "serviceName": ["media", "gone"],
    "target": ["media", "gone"],
    "operations": [["put"], []],
    "notes": [MARK, "x" * 2001],
    "silence": [60_000, 1],
}
settable = st.sampled_from(sorted(FIELDS)).flatmap(
    lambda name: st.tuples(st.just(name), st.none() | st.sampled_from(FIELDS[name]) | anything)
)
proper = st.sampled_from(sorted(FIELDS)).map(lambda name: {name: FIELDS[name][0]})
documents = proper | st.lists(settable, max_size=3).map(dict) | anything
BODIES = (
    b"{}",
    b"[" * 5000,
    b'{"a":' * 5000,
    b'{"timeout": 700, "timeout": "x"}',
    b'{"timeout": 1e400}',
    b'{"timeout": ' + b"9" * 5000 + b"}",
    b'{"timeout": NaN}',
    b'{"timeout": -Infinity}',
    b'{"notes": "\\ud800"}',
    b'\xef\xbb\xbf{"timeout": 700}',
    b"\xff\xfe",
)
bodies = st.sampled_from(BODIES) | st.binary(max_size=200) | documents.map(lambda it: json.dumps(it).encode())

HEADERS = {
    "Accept": ["*/*", "application/openmetrics-text; version=1e999", "text/plain;version=1.0.0;escaping=x"],
    "Accept-Encoding": ["gzip", "gzip;q=nan", "gzip;q=0"],
    "Access-Control-Request-Method": ["PUT"],
    "Authorization": ["Basic x", "Basic " + "A" * 400, "Bearer \xe9", "Bearer", ""],
    "Content-Encoding": ["gzip", "identity"],
    "Content-Type": ["text/plain", "", "application/json; charset=utf-16", "x" * 100, "a/b;c="],
    "Cookie": ["a=b; c"],
    "Expect": ["100-continue", "200-never"],
    "If-Match": ["*", 'W/"x"', '"', ","],
    "If-None-Match": ["*", 'W/"x"', '"', "a" * 4000],
    "Origin": ["null", "http://evil.example", "http://127.0.0.1"],
    "Range": ["bytes=-1", "bytes=0-0,5-"],
    "Sec-Fetch-Site": ["cross-site", "none"],
    "TE": ["trailers"],
    "Upgrade": ["h2c", "websocket"],
    "X-HTTP-Method-Override": ["DELETE"],
    "X-Prometheus-Scrape-Timeout-Seconds": ["nan", "inf", "-1", "1e-320", "1e308", "\u0665"],
}
printed = st.text(st.characters(exclude_characters="\r\n\0", codec="utf-8"), max_size=20)
headers = st.lists(
    st.sampled_from(sorted(HEADERS)).flatmap(
        lambda name: st.tuples(st.just(name), st.sampled_from(HEADERS[name]) | printed)
    ),
    max_size=2,
).map(dict)


@given(
    data=st.data(),
    fields=st.just({}) | headers,
    query=st.sampled_from(["", "?target=media"]) | queries,
    body=bodies,
)
@settings(max_examples=times(250))
def test_any_request_of_any_route_is_answered_as_documented(
    exporter: Held, data: st.DataObject, fields: dict[str, str], query: str, body: bytes
) -> None:
    reads = [each for each in routes(exporter) if each[0] == "GET"]
    writes = [each for each in routes(exporter) if each[0] in ("POST", "PUT")]
    method, path = data.draw(st.sampled_from(writes) | st.sampled_from(reads))
    if method == "GET":
        body = b""
    if data.draw(st.integers(0, 9)) == 0:
        method = data.draw(st.sampled_from(METHODS))
    for name in ("id", "change"):
        path = path.replace(f"{{{name}}}", escaped(data.draw(st.integers(-1, 5).map(str) | texts)))
    answer = exporter.send(
        head(method, path + query, {"Content-Type": "application/json"} | fields, len(body)) + body
    )
    assert_documented(method, answer)
    exporter.assert_calm()


def assert_documented(method: str, answer: Answer) -> None:
    assert answer.status < 500
    assert "x-injected" not in answer.headers
    assert answer.headers["x-content-type-options"] == "nosniff"
    kind = answer.headers.get("content-type", "")
    if answer.status >= 400 and method != "HEAD":
        assert kind.startswith("application/json")
        assert answer.json()["error"].keys() == {"code", "message", "details"}
    if kind.startswith("text/html"):
        assert MARK.encode() not in answer.body
        assert "default-src 'none'" in answer.headers["content-security-policy"]


@given(path=st.text(max_size=60) | st.lists(texts, max_size=4).map("/".join), method=st.sampled_from(METHODS))
@settings(max_examples=times(60))
@example(path="//evil.example/%2e%2e", method="GET")
@example(path="/-/reload\x00", method="POST")
def test_any_path_is_answered(exporter: Held, path: str, method: str) -> None:
    answer = exporter.send(head(method, "/" + escaped(path).replace("%2F", "/"), {}, 0))
    assert_documented(method, answer)
    exporter.assert_calm()


CLOSE = b" HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n"
JUNK = (
    b"GET /" + CLOSE + b"X: \xff\x00\r\n\r\n",
    b"GET /\xff\xfe" + CLOSE + b"\r\n",
    b"GET http://169.254.169.254/latest" + CLOSE + b"\r\n",
    b"GET http://[::1" + CLOSE + b"\r\n",
    b"GET *" + CLOSE + b"\r\n",
    b"OPTIONS *" + CLOSE + b"\r\n",
    b"CONNECT 169.254.169.254:80" + CLOSE + b"\r\n",
    b"GET /" + CLOSE + b"Host: b\r\n\r\n",
    b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: [\r\nConnection: close\r\n\r\n",
    b'GET /sd HTTP/1.1\r\nHost: "<script>\r\nConnection: close\r\n\r\n',
    b"GET /sd HTTP/1.1\r\nHost: \xff\xfe\r\nConnection: close\r\n\r\n",
    b"POST /-/reload HTTP/1.1\r\nHost: [\r\nConnection: close\r\n\r\n",
    b"GET / HTTP/9.9\r\nHost: 127.0.0.1\r\n\r\n",
    b"GET / HTTP/1.0\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + b"\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST /-/reload" + CLOSE + b"Content-Length: -1\r\n\r\n",
    b"POST /-/reload" + CLOSE + b"Content-Length: 99999999999999999999\r\n\r\n",
    b"POST /-/reload" + CLOSE + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /-/reload" + CLOSE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /nothing" + CLOSE + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /nothing" + CLOSE + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\njunk",
    b"POST /-/reload" + CLOSE + b"Content-Encoding: deflate\r\nContent-Length: 4\r\n\r\njunk",
    b"GET /" + b"a" * (MAX_LINE + 1) + CLOSE + b"\r\n",
    b"GET /" + CLOSE + b"X: " + b"a" * (MAX_FIELD + 1) + b"\r\n\r\n",
    b"GET /" + CLOSE + b"X: a\r\n" * 10_000 + b"\r\n",
)


@pytest.mark.parametrize("junk", JUNK)
def test_junk_is_answered(exporter: Held, junk: bytes) -> None:
    assert_documented("GET", exporter.send(junk))
    exporter.assert_calm()


@pytest.mark.parametrize("path", ["/-/reload", "/nothing", "/api/health/check", "/"])
@pytest.mark.parametrize(
    "begun", ["Content-Length: 9\r\n\r\n{", "Transfer-Encoding: chunked\r\n\r\n9\r\n{", ""]
)
def test_who_leaves_in_the_middle_is_no_defect(exporter: Held, path: str, begun: str) -> None:
    request = head("POST", path, {"Content-Type": "application/json"}, None).removesuffix(b"\r\n")
    exporter.leave(request + begun.encode())
    exporter.assert_calm()


def test_a_body_over_the_stated_limit_is_refused_on_every_route(exporter: Held) -> None:
    for method, path in routes(exporter):
        limit = MAX_WEBHOOK_BODY if path == WEBHOOK else MAX_BODY
        for framing in (f"Content-Length: {limit + 1}", "Transfer-Encoding: chunked"):
            fields: Mapping[str, str] = dict([framing.split(": ")]) | {"Content-Type": "application/json"}
            chunk = f"{limit + 1:x}\r\n".encode() if "chunked" in framing else b""
            end = b"\r\n0\r\n\r\n" if chunk else b""
            where = path.replace("{id}", "1").replace("{change}", "1")
            answer = exporter.send(head(method, where, fields, None) + chunk + b" " * (limit + 1) + end)
            assert answer.status == 413, (method, path, framing)
            assert_documented(method, answer)
    exporter.assert_calm()


def test_the_page_shows_names_and_questions_as_text(exporter: Held) -> None:
    for query in ("q", "state", "page", "open", MARK):
        page = exporter.ask("GET", f"/?{escaped(query)}={escaped(MARK)}")
        assert_documented("GET", page)
        assert b"&lt;script&gt;alert(7)" in page.body or query != "q"


def test_every_parameter_of_the_api_is_tried() -> None:
    methods = [each for path in document(endpoints)["paths"].values() for each in path.values()]
    named = {
        parameter["name"]
        for method in methods
        for parameter in method.get("parameters", ())
        if parameter["in"] == "query"
    }
    assert named
    assert named <= PARAMETERS.keys()
