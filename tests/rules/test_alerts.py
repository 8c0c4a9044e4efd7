"""Each alert fires when it should and stays silent when it should, at the edge between the two."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from tests.rules.cases import CASES, Case
from tests.rules.promtool import STEP, promtool_test
from tests.rules.shown import one
from tests.rules.simulated import RULES

RULE_OF = {
    rule["alert"]: rule
    for group in yaml.safe_load(RULES.read_text())["groups"]
    for rule in group["rules"]
    if "alert" in rule
}


def labels_of(case: Case) -> str:
    rule = RULE_OF[case.alert]
    every = {"alertname": case.alert, "alertstate": "firing", **case.labels, **rule["labels"]}
    return "ALERTS{" + ", ".join(f'{name}="{value}"' for name, value in every.items()) + "}"


def step_of(case: Case) -> int:
    """Cases of hours are evaluated less often, which they do not feel."""
    return STEP if case.seconds < 1800 else 60


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_an_alert_fires_or_not(case: Case, tmp_path: Path) -> None:
    expected = [{"labels": labels_of(case), "value": 1}] if case.fires else []
    test = {
        "interval": "15s",
        "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
        "promql_expr_test": [
            {
                "expr": f'ALERTS{{alertname="{case.alert}", alertstate="firing"}}',
                "eval_time": f"{case.seconds}s",
                "exp_samples": expected,
            }
        ],
    }
    assert promtool_test(tmp_path, [test], step_of(case)) == ""


def test_each_alert_is_seen_on_both_sides_of_its_edge() -> None:
    assert {case.alert for case in CASES if case.fires} == set(RULE_OF)
    assert {case.alert for case in CASES if not case.fires} == set(RULE_OF)


FIRST = {case.alert: case for case in reversed(CASES) if case.fires}


def told(case: Case, folder: Path) -> dict[str, str]:
    """The annotations of the alert as it fires, by promtool's word on a test that expects none."""
    said = promtool_test(
        folder,
        [
            {
                "interval": "15s",
                "input_series": [{"series": name, "values": values} for name, values in case.series.items()],
                "alert_rule_test": [
                    {"eval_time": f"{case.seconds}s", "alertname": case.alert, "exp_alerts": []}
                ],
            }
        ],
        step_of(case),
    )
    annotations = said.partition("got:")[2].partition("Annotations:{")[2]
    return dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', annotations))


@pytest.mark.parametrize("name", RULE_OF)
def test_what_an_alert_says_is_said_in_full(name: str, tmp_path: Path) -> None:
    annotations = told(FIRST[name], tmp_path)
    assert set(annotations) == {"summary", "description", "runbook_url"}
    for text in annotations.values():
        assert "error" not in text.replace("error budget", "")
        assert "{{" not in text
        assert "%!" not in text
        assert "  " not in text


def test_an_outage_is_told_with_its_reason_and_request_id(tmp_path: Path) -> None:
    case = FIRST["R2CircuitBreakerOpen"]
    why = {
        **one("r2_probe_failure_info", "1x100", operation="put", reason="server", s3_code="SlowDown"),
        **one("r2_probe_failure_info", "1x100", operation="get", reason="auth", request_id="8a6f"),
        **one("r2_probe_errors_total", "0x15 2x100", operation="put", reason="server"),
        **one("r2_probe_errors_total", "0x15 1x100", operation="get", reason="auth"),
    }
    annotations = told(replace(case, series={**case.series, **why}), tmp_path)
    assert annotations["summary"].startswith("media: ")
    assert annotations["description"] == (
        "Fails at its latest run: get (auth, request id 8a6f) put (server, S3 code SlowDown). "
        "Most frequent reason of 5 minutes: server."
    )
