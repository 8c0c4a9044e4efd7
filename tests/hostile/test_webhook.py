"""Alertmanager's webhook, sent what Alertmanager never sends: refused with a reason, or kept and readable."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from exporter.web.api.alert_models import LONGEST_LABEL, LONGEST_TEXT
from exporter.web.body import MAX_WEBHOOK_BODY
from tests.api.rig import fits
from tests.hostile.effort import times
from tests.hostile.held import Held, head, held
from tests.running import target, write

WEBHOOK, ALERTS = "/api/alertmanager/webhook", "/api/health/alerts"
EARLY, LATE = "0001-01-01T00:00:00Z", "9999-12-31T23:59:59.999999999Z"


@pytest.fixture(scope="module")
def exporter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    config = tmp_path_factory.mktemp("webhook") / "exporter.yaml"
    with held(write(config, target("media", "http://127.0.0.1:1", "media"))) as it:
        yield it


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
ODD = ("", 'a"b\\c\nd\r\x00', "<script>alert(1)</script>", "\u202e\u2028", "x" * 5000, "é" * 201)
WRONG = ("\ud800", "x" * 70_000, "2026-02-30T00:00:00Z", "2026-01-31T12:00:00", "1e999", "yesterday", "0")
odd_texts = st.text() | st.sampled_from(ODD)
moments = st.sampled_from(
    [EARLY, LATE, "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59", "2026-01-31T12:00:00.1234567Z"]
) | st.datetimes().map(lambda moment: f"{moment.isoformat()}Z")
labels = st.fixed_dictionaries(
    {"alertname": st.sampled_from(["R2Down", "R2", "NodeDown", "r2down"]) | odd_texts},
    optional={
        "target": st.sampled_from(["media", "gone"]) | odd_texts,
        "type": st.sampled_from(["slow_response", "certificate"]) | odd_texts,
        "severity": st.sampled_from(["critical", "info", "none"]) | odd_texts,
    },
)
many_labels = st.builds(
    lambda count, some: {f"label_{n}": "x" for n in range(count)} | some, st.sampled_from([100, 5000]), labels
)
alerts = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["firing", "resolved"]),
        "labels": labels | many_labels,
        "startsAt": moments,
    },
    optional={
        "endsAt": moments | st.none(),
        "annotations": st.dictionaries(st.sampled_from(["summary", "description", "x"]), odd_texts),
        "generatorURL": odd_texts,
        "fingerprint": st.just("0123456789abcdef"),
    },
)
groups = st.fixed_dictionaries(
    {
        "version": st.just("4"),
        "receiver": st.just("pager") | odd_texts,
        "status": st.sampled_from(["firing", "resolved"]),
        "alerts": st.lists(alerts, max_size=6),
    }
)


@st.composite
def damaged(draw: st.DrawFn) -> Any:
    """A group with a value of another kind somewhere, or without it."""
    group: Any = draw(groups)
    places = [group, *group["alerts"], *(each["labels"] for each in group["alerts"])]
    place = draw(st.sampled_from(places))
    key = draw(st.sampled_from(sorted(place))) if place else "x"
    if draw(st.booleans()):
        place.pop(key, None)
    else:
        place[key] = draw(anything | st.sampled_from(WRONG))
    return group


def alert(status: str, starts: str, ends: str | None = None, name: str = "R2Down", **labels: str) -> Any:
    return {"status": status, "labels": {"alertname": name, **labels}, "startsAt": starts, "endsAt": ends}


def group(*of: Any) -> Any:
    return {"version": "4", "receiver": "pager", "status": "firing", "alerts": list(of)}


@given(bodies=st.lists(groups | damaged() | anything, min_size=1, max_size=3))
@settings(max_examples=times(40))
@example([group(alert("firing", LATE), alert("resolved", EARLY, EARLY))])
@example([group(alert("firing", EARLY, LATE)), group(alert("resolved", LATE, LATE))])
@example([group(*[alert("firing", LATE, type="a"), alert("resolved", LATE, EARLY, type="a")] * 20)])
def test_what_is_told_is_kept_or_refused(exporter: Held, bodies: list[Any]) -> None:
    for body in bodies:
        answer = exporter.ask("POST", WEBHOOK, body)
        assert answer.status in (200, 400, 413)
        fits(answer.json(), "POST", WEBHOOK, answer.status)
        if answer.status == 200:
            assert sum(answer.json().values()) == len(body["alerts"])
        else:
            said = answer.json()["error"]
            assert said["details"] or answer.status == 413
            assert len(said["message"]) < 5000
    assert_readable(exporter)
    exporter.assert_calm()


def assert_readable(exporter: Held) -> None:
    """Every alert is on one of the API's pages, and what is said of it fits together."""
    seen, path = [], f"{ALERTS}?resolved=true&limit=500"
    while path:
        page = exporter.ask("GET", path).json()
        fits(page, "GET", ALERTS, 200)
        seen += page["items"]
        path = page["next"]
    assert len({each["id"] for each in seen}) == page["total"] == len(seen)
    still = [(each["target"], each["type"]) for each in seen if each["resolvedAt"] is None]
    assert len(set(still)) == len(still)
    for each in seen:
        assert each["createdAt"] <= each["updatedAt"]
        assert each["resolvedAt"] is None or each["createdAt"] <= each["resolvedAt"] <= each["updatedAt"]
        assert len(each["message"]) <= LONGEST_TEXT
        assert max(len(each[name] or "") for name in ("target", "type", "notifiedBy")) <= LONGEST_LABEL


def test_thousands_of_alerts_in_one_are_taken_up_to_the_stated_limits(exporter: Held) -> None:
    many = group(*[alert("firing", EARLY, target=str(n % 100)) for n in range(8000)])
    assert exporter.ask("POST", WEBHOOK, many).json() == {"recorded": 8000, "ignored": 0}
    too_many = group(*[{"status": "firing", "labels": {}, "startsAt": EARLY}] * 10_001)
    assert exporter.ask("POST", WEBHOOK, too_many).status == 400
    too_large = group(alert("firing", EARLY, note="x" * MAX_WEBHOOK_BODY))
    assert exporter.ask("POST", WEBHOOK, too_large).status == 413
    assert_readable(exporter)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"\xff\xfe{\x00}\x00",
        b'{"version": "4", "version": "4"',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"alerts": ' + b"9" * 5000 + b"}",
        b'{"version": NaN}',
        b'{"receiver": "\\ud800"}',
        b'{"receiver": "\x00"}',
        b"\x1f\x8b\x08\x00",
    ],
)
def test_what_is_no_json_is_refused(exporter: Held, body: bytes) -> None:
    json = {"Content-Type": "application/json"}
    answer = exporter.send(head("POST", WEBHOOK, json, len(body)) + body)
    assert answer.status == 400
    assert answer.json()["error"]["code"] == "invalid_request"
    exporter.assert_calm()


def test_the_rows_read_as_they_were_written(exporter: Held) -> None:
    odd = 'quote " \\ newline \n nul \x00 é \u202e'
    exporter.ask("POST", WEBHOOK, group(alert("firing", EARLY, target=odd, type=odd)))
    found = exporter.ask("GET", f"{ALERTS}?limit=1000").json()["items"]
    assert (odd, odd) in [(each["target"], each["type"]) for each in found]
    with closing(sqlite3.connect(exporter.database)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
