"""deploy/compose: valid to Docker Compose and to each program, locked down, and consistent."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.config import load_settings
from tests.deploy.composed import COMPOSE, binds, lay_out, services
from tests.deploy.tool import ROOT, run

NAMES = ("exporter", "prepare", "moto", "prometheus", "alertmanager", "grafana")
OWN_USER = {"prometheus", "alertmanager"}
"""Their images name an unprivileged user (nobody) themselves."""


def read(*path: str) -> Any:
    return yaml.safe_load(ROOT.joinpath(*path).read_text())


def test_docker_compose_knows_every_service() -> None:
    assert sorted(services()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_service_is_locked_down(name: str) -> None:
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")
    assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])


@pytest.mark.parametrize("name", NAMES)
def test_a_service_runs_unprivileged(name: str) -> None:
    if "build" in services()[name]:  # this project's image
        (user,) = re.findall(r"^USER (\d+):\d+$", ROOT.joinpath("Dockerfile").read_text(), re.M)
    elif name in OWN_USER:
        assert "user" not in services()[name]
        return
    else:
        user = services()[name]["user"].partition(":")[0]
    assert int(user) > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_port_is_of_this_machine_alone(name: str) -> None:
    assert {port["host_ip"] for port in services()[name].get("ports", [])} <= {"127.0.0.1"}


@pytest.mark.parametrize("name", NAMES)
def test_what_is_mounted_of_the_repository_is_there_and_stays_as_it_is(name: str) -> None:
    assert [str(source) for source in binds(name).values() if not source.exists()] == []
    mounts = services()[name].get("volumes", [])
    assert all(mount.get("read_only") for mount in mounts if mount["type"] == "bind")


def test_the_image_is_of_this_version() -> None:
    (version,) = re.findall(r'^version = "(.+)"$', ROOT.joinpath("pyproject.toml").read_text(), re.M)
    assert services()["exporter"]["image"] == services()["prepare"]["image"] == f"r2-exporter:{version}"


def test_the_exporter_takes_its_configuration(tmp_path: Path) -> None:
    file = lay_out("exporter", tmp_path) / "etc/r2-exporter/exporter.yaml"
    (file.parent / "secrets").mkdir()
    (file.parent / "secrets/api-token").write_text("0123456789abcdef0123456789abcdef\n")
    settings = load_settings(file, {})
    assert settings.api.token is not None
    (target,) = settings.targets
    assert services()["prepare"]["command"][-1] == f"{target.endpoint}/{target.bucket}"


def test_prometheus_takes_its_configuration_and_the_rules(tmp_path: Path) -> None:
    file = lay_out("prometheus", tmp_path) / "etc/prometheus/prometheus.yml"
    said = run("promtool", "check", "config", file)
    assert re.search(r"SUCCESS: \d+ rules found", said)


def test_alertmanager_takes_its_configuration_and_the_template(tmp_path: Path) -> None:
    file = lay_out("alertmanager", tmp_path) / "etc/alertmanager/alertmanager.yml"
    said = run("amtool", "check-config", file)
    assert "1 templates" in said


def test_alerts_are_routed_as_in_the_example() -> None:
    ours, example = read("deploy", "compose", "alertmanager.yml"), read("rules", "alertmanager.yml")
    assert {key: value for key, value in ours.items() if key != "receivers"} == {
        key: value for key, value in example.items() if key != "receivers"
    }
    assert [each["name"] for each in ours["receivers"]] == [each["name"] for each in example["receivers"]]


def test_every_address_is_that_of_a_service() -> None:
    """Host and port, in each configuration and in Grafana's data source."""
    ports = {"exporter": "9977", "moto": "5000", "prometheus": "9090", "alertmanager": "9093"}
    files = [*COMPOSE.glob("*.y*ml"), ROOT / "grafana/provisioning/datasources/prometheus.yml"]
    found = {
        (host, port)
        for file in files
        for host, port in re.findall(r"\b([a-z]+):(\d{4})\b", file.read_text())
        if host != "localhost"
    }
    assert found == set(ports.items())


def test_grafana_finds_the_dashboards_and_knows_the_scrape_interval() -> None:
    (source,) = read("grafana", "provisioning", "datasources", "prometheus.yml")["datasources"]
    interval = read("deploy", "compose", "prometheus.yml")["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == interval
    (provider,) = read("grafana", "provisioning", "dashboards", "r2-exporter.yml")["providers"]
    dashboards = binds("grafana")[provider["options"]["path"]]
    home = services()["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home.startswith(provider["options"]["path"] + "/")
    assert (dashboards / Path(home).name).is_file()
