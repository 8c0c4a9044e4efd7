"""The body that Alertmanager gets."""

import json
import math
from typing import Any

import pytest

from exporter.alertmanager.pushed import Pushed, to_json
from tests.alertmanager.rig import STARTED, alert

UNTIL = STARTED + 500


def posted(it: Pushed, **further: str) -> dict[str, Any]:
    [found] = json.loads(to_json([it], further, UNTIL))
    return dict(found)


def test_an_active_alert_ends_ahead() -> None:
    assert posted(alert(reason="timeout")) == {
        "labels": {
            "alertname": "R2CircuitBreakerOpen",
            "target": "media",
            "type": "circuit_breaker_open",
            "severity": "critical",
        },
        "annotations": {"summary": "media is down", "reason": "timeout"},
        "startsAt": "2023-11-14T22:13:20.000Z",
        "endsAt": "2023-11-14T22:21:40.000Z",
    }


def test_a_resolved_alert_ends_when_it_did_but_never_before_it_began() -> None:
    assert posted(alert(ends_at=STARTED + 1.25))["endsAt"] == "2023-11-14T22:13:21.250Z"
    assert posted(alert(ends_at=STARTED - 60))["endsAt"] == "2023-11-14T22:13:20.000Z"


def test_further_labels_change_none_of_the_alerts_own_and_empty_ones_are_none() -> None:
    labels = posted(alert(), cluster="eu", target="other", region="")["labels"]
    assert labels == {**alert().labels, "cluster": "eu"}
    assert "empty" not in posted(alert(empty=""))["annotations"]


def test_where_it_came_from() -> None:
    it = Pushed({"alertname": "a"}, {}, STARTED, generator_url="http://localhost:9977/")
    assert posted(it)["generatorURL"] == "http://localhost:9977/"
    assert "generatorURL" not in posted(alert())


def test_the_order_of_labels_does_not_matter() -> None:
    turned = dict(reversed(list(alert().labels.items())))
    assert Pushed(turned, {}, STARTED).key == alert().key != alert("other").key


@pytest.mark.parametrize("moment", [math.nan, math.inf, 1e15, -1e15, 2.5e11])
def test_times_that_no_calendar_has(moment: float) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - each says it in its own words
        Pushed({}, {}, moment)
    with pytest.raises(ValueError):  # noqa: PT011
        Pushed({}, {}, STARTED, moment)
