"""The example for Alertmanager: who hears of what, what is left out, and what people read."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import yaml

from tests.alertmanager.rig import Alertmanager, alertmanager
from tests.rules.promtool import run
from tests.rules.queried import alerts

EXAMPLE = Path(__file__).parents[2] / "rules" / "alertmanager.yml"
TEMPLATES = EXAMPLE.with_name("alertmanager.tmpl")
HEARS = {
    "critical": "page",
    "high": "page",
    "warning": "chat",
    "info": "r2-exporter",
}


def test_amtool_finds_nothing_amiss() -> None:
    done = run(["amtool", "check-config", EXAMPLE])
    assert done.returncode == 0, done.stderr
    assert "1 templates" in done.stdout


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: str(rule["alert"]))
def test_an_alert_goes_where_its_severity_says(rule: dict[str, dict[str, str]]) -> None:
    severity = rule["labels"]["severity"]
    labels = [f"alertname={rule['alert']}", "target=media", f"severity={severity}"]
    command = ["amtool", "config", "routes", "test", f"--config.file={EXAMPLE}"]
    done = run([*command, f"--verify.receivers={HEARS[severity]}", *labels])
    assert done.returncode == 0, done.stdout + done.stderr


def test_other_alerts_go_elsewhere() -> None:
    done = run(
        [
            "amtool",
            "config",
            "routes",
            "test",
            f"--config.file={EXAMPLE}",
            "alertname=DiskFull",
            "severity=high",
        ]
    )
    assert done.stdout.strip() == yaml.safe_load(EXAMPLE.read_text())["route"]["receiver"]


def test_the_example_holds_no_secret_and_our_own_webhook() -> None:
    read = yaml.safe_load(EXAMPLE.read_text())
    ours = {"url": "http://localhost:9977/api/alertmanager/webhook", "send_resolved": True}
    assert all(ours in one["webhook_configs"] for one in read["receivers"])
    (route,) = read["route"]["routes"]
    assert route["group_by"] == ["target"]


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Alertmanager]:
    """An Alertmanager with the example's routes and inhibitions, that tells nobody."""
    async with alertmanager(tmp_path / "alertmanager") as running:
        read = yaml.safe_load(EXAMPLE.read_text())
        read["receivers"] = [{"name": one["name"]} for one in read["receivers"]]
        read["templates"] = [str(TEMPLATES)]
        (tmp_path / "alertmanager" / "alertmanager.yml").write_text(yaml.safe_dump(read))
        async with running.session.post(f"{running.url}/-/reload") as answer:
            assert answer.status == 200, await answer.text()
        yield running


def firing(name: str, **labels: str) -> dict[str, dict[str, str]]:
    return {"labels": {"alertname": name, **labels}}


async def suppressed(server: Alertmanager, expected: set[tuple[str, str]]) -> None:
    """Waits until exactly these alerts, by name and target or instance, are inhibited."""
    async with asyncio.timeout(30):
        while True:
            found = await server.alerts()
            inhibited = {
                (
                    each["labels"]["alertname"],
                    each["labels"].get("target") or each["labels"].get("instance", ""),
                )
                for each in found
                if each["status"]["inhibitedBy"]
            }
            if inhibited == expected and all(each["status"]["state"] != "unprocessed" for each in found):
                return
            await asyncio.sleep(0.05)


async def test_an_open_breaker_says_it_all_for_its_target(server: Alertmanager) -> None:
    hidden = ("R2HighErrorRate", "R2SlowResponse", "R2TargetFlapping", "R2ErrorBudgetBurnFast")
    others = [firing(name, target="backups") for name in hidden[1:2]]
    await server.post(
        [firing(name, target="media") for name in ("R2CircuitBreakerOpen", "R2ServiceDegraded", *hidden)]
        + others
    )
    await suppressed(server, {(name, "media") for name in hidden})


async def test_an_exporter_that_is_down_silences_its_own(server: Alertmanager) -> None:
    here, there = {"job": "r2", "instance": "a:9977"}, {"job": "r2", "instance": "b:9977"}
    await server.post(
        [
            firing("R2ExporterDown", **here),
            firing("R2HistoryNotWriting", **here),
            firing("R2HistoryNotWriting", **there),
            firing("R2ExporterAbsent"),
            firing("R2CircuitBreakerOpen", target="media"),
        ]
    )
    await suppressed(server, {("R2HistoryNotWriting", "a:9977"), ("R2ExporterAbsent", "")})


def test_people_read_the_reason_and_the_request_id(tmp_path: Path) -> None:
    labels = {"alertname": "R2CircuitBreakerOpen", "target": "media", "severity": "critical"}
    of_rules = {
        "summary": "media: the circuit breaker is open",
        "description": "Fails: put (server, S3 code InternalError, request id 4711).",
        "runbook_url": "https://example.org/R2CircuitBreakerOpen.md",
    }
    pushed = {
        "summary": "media: it is open",
        "reason": "auth",
        "s3_code": "AccessDenied",
        "request_id": "0815",
    }
    data = tmp_path / "data.json"
    data.write_text(
        json.dumps(
            {
                "status": "firing",
                "commonLabels": labels,
                "alerts": [
                    {"status": "firing", "labels": labels, "annotations": of_rules},
                    {"status": "resolved", "labels": labels, "annotations": pushed},
                ],
            }
        )
    )

    def rendered(text: str) -> str:
        done = run(
            [
                *("amtool", "template", "render", f"--template.glob={TEMPLATES}"),
                *(f"--template.text={text}", f"--template.data={data}"),
            ]
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert rendered('{{ template "r2.title" . }}') == "[1 firing] R2 media · R2CircuitBreakerOpen"
    assert rendered('{{ template "r2.text" . }}').splitlines() == [
        "critical: media: the circuit breaker is open",
        "Fails: put (server, S3 code InternalError, request id 4711).",
        "what to do: https://example.org/R2CircuitBreakerOpen.md",
        "resolved: media: it is open",
        "reason: auth",
        "S3 code: AccessDenied",
        "request id: 0815",
    ]
