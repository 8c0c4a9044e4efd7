"""The chart: linted and rendered by Helm, and taken by the schemas of an old and a new Kubernetes."""

import copy
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import helm_python as helm
import kubernetes_validate
import pytest
import yaml

from deploy import build
from exporter.cli import parser
from exporter.config import load_settings
from tests.deploy.charted import (
    CHART,
    FULL,
    PLAIN,
    SEVERAL,
    SHARDED,
    TARGET,
    VALUES,
    manifests,
    one,
    rendered,
    validate,
)
from tests.deploy.tool import ROOT, run

WARNING = 2
OPERATOR = {"ServiceMonitor", "PrometheusRule"}
"""Of the operator, not of Kubernetes, which has no schema for them."""
PLAIN_KINDS = ["ConfigMap", "Deployment", "PersistentVolumeClaim", "Service", "ServiceAccount"]
CLUSTERS = ("1.25", kubernetes_validate.latest_version())


def changed(values: dict[str, Any], **others: Any) -> dict[str, Any]:
    return {**copy.deepcopy(values), **others}


def pod(values: dict[str, Any]) -> dict[str, Any]:
    kind = "StatefulSet" if values.get("shards", 1) > 1 else "Deployment"
    spec: dict[str, Any] = one(manifests(values), kind)["spec"]["template"]["spec"]
    return spec


def test_what_is_made_from_elsewhere_is_current() -> None:
    made = build.texts()
    assert [
        file.name for file, text in made.items() if not file.exists() or file.read_text() != text
    ] == [], "run: python -m deploy.build"
    assert sorted((CHART / "files").iterdir()) == sorted(file for file in made if file.parent.name == "files")


def test_helm_finds_nothing_to_mend() -> None:
    said = helm.lint(str(CHART))
    assert said["errors"] == []
    assert [each for each in said["messages"] if each["severity"] >= WARNING] == []


@pytest.mark.parametrize("version", CLUSTERS)
@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_kubernetes_takes_it(values: dict[str, Any], version: str) -> None:
    for manifest in manifests(values):
        if manifest["kind"] not in OPERATOR:
            kubernetes_validate.validate(manifest, version, strict=True)


def test_the_service_monitor_finds_the_service_s_port() -> None:
    found = manifests(FULL)
    monitor, service = one(found, "ServiceMonitor"), one(found, "Service")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": [service["metadata"]["namespace"]]}
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]
    assert endpoint["scheme"] == "https"
    assert endpoint["basicAuth"]["password"] == {"name": "r2-login", "key": "password"}
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_by_itself_it_makes_what_every_cluster_knows() -> None:
    assert sorted(each["kind"] for each in manifests(PLAIN)) == PLAIN_KINDS
    everything = {each["kind"] for each in manifests(FULL)}
    assert everything == {*PLAIN_KINDS, "NetworkPolicy", "ServiceMonitor", "PrometheusRule"}


def test_two_releases_share_no_name() -> None:
    first, second = ({(each["kind"], each["metadata"]["name"]) for each in manifests(FULL, n)} for n in "ab")
    assert not first & second


def test_the_exporter_takes_its_configuration(tmp_path: Path) -> None:
    file = tmp_path / "exporter.yaml"
    file.write_text(one(manifests(PLAIN), "ConfigMap")["data"]["exporter.yaml"])
    settings = load_settings(file, {"R2_ACCESS_KEY_ID": "id", "R2_SECRET_ACCESS_KEY": "key"})
    assert [target.name for target in settings.targets] == ["media"]


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_the_exporter_takes_its_arguments(values: dict[str, Any]) -> None:
    parser().parse_args(pod(values)["containers"][0]["args"])


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_it_is_locked_down(values: dict[str, Any]) -> None:
    spec = pod(values)
    (container,) = spec["containers"]
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    (user,) = re.findall(r"^USER (\d+):\d+$", ROOT.joinpath("Dockerfile").read_text(), re.M)
    assert spec["securityContext"]["runAsUser"] == int(user)


def test_secrets_are_named_and_nowhere_written() -> None:
    spec = pod(FULL)
    (container,) = spec["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": "r2-credentials"}}]
    assert container["env"][0]["valueFrom"]["secretKeyRef"] == {"name": "r2-api", "key": "token"}
    secrets = {volume["name"]: volume["secret"] for volume in spec["volumes"] if "secret" in volume}
    assert secrets == {
        "secrets": {"secretName": "r2-keys", "defaultMode": 0o440},
        "web": {"secretName": "r2-web", "defaultMode": 0o440},
    }
    assert "Secret" not in {each["kind"] for each in manifests(FULL)}


def test_a_changed_configuration_restarts_the_pod() -> None:
    def annotated(values: dict[str, Any]) -> str:
        annotations = one(manifests(values), "Deployment")["spec"]["template"]["metadata"]["annotations"]
        return str(annotations["checksum/config"])

    slower = changed(PLAIN, config={"targets": [TARGET], "probe": {"interval": "1m"}})
    assert annotated(PLAIN) == annotated(PLAIN)
    assert annotated(PLAIN) != annotated(slower)


def test_its_rules_are_those_of_the_repository(tmp_path: Path) -> None:
    spec = one(manifests(FULL), "PrometheusRule")["spec"]
    assert spec == yaml.safe_load(ROOT.joinpath("rules/r2-exporter.yml").read_text())
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump(spec))
    assert "SUCCESS" in run("promtool", "check", "rules", file)


def test_its_dashboards_are_those_of_the_repository() -> None:
    made = [each for each in manifests(FULL) if "grafana_dashboard" in each["metadata"].get("labels", {})]
    boards = {name: json.loads(text) for each in made for name, text in each["data"].items()}
    folder = ROOT / "grafana" / "dashboards"
    assert boards == {file.name: json.loads(file.read_text()) for file in folder.glob("*.json")}


def test_the_history_has_one_writer() -> None:
    assert one(manifests(PLAIN), "Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    with pytest.raises(helm.HelmRenderError, match="one writer"):
        rendered(changed(SEVERAL, persistence={"enabled": True}))


def test_replicas_do_not_multiply_the_probes_unasked() -> None:
    with pytest.raises(helm.HelmRenderError, match="each would probe every target"):
        rendered(changed(SEVERAL, config={"targets": [TARGET]}))


def test_shards_are_pods_with_numbers_and_histories_of_their_own() -> None:
    found = manifests(SHARDED)
    assert {"Deployment", "PersistentVolumeClaim"}.isdisjoint(each["kind"] for each in found)
    spec, service = one(found, "StatefulSet")["spec"], one(found, "Service")
    assert spec["replicas"] == 3
    assert spec["serviceName"] == service["metadata"]["name"]
    assert service["spec"]["clusterIP"] == "None"
    (container,) = spec["template"]["spec"]["containers"]
    assert {"--shard=auto", "--total-shards=3"} <= set(container["args"])
    parser().parse_args(container["args"])
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["metadata"]["name"] in {mount["name"] for mount in container["volumeMounts"]}
    assert claim["metadata"]["name"] not in {each["name"] for each in spec["template"]["spec"]["volumes"]}
    assert one(found, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_shards_without_a_disk_have_none() -> None:
    spec = one(manifests(changed(SHARDED, persistence={"enabled": False})), "StatefulSet")["spec"]
    assert "volumeClaimTemplates" not in spec
    assert "history" in {each["name"] for each in spec["template"]["spec"]["volumes"]}


@pytest.mark.parametrize(
    ("others", "words"),
    [({"replicas": 2}, "one pod"), ({"persistence": {"existingClaim": "mine"}}, "history of its own")],
)
def test_shards_do_not_share(others: dict[str, Any], words: str) -> None:
    with pytest.raises(helm.HelmRenderError, match=words):
        rendered(changed(SHARDED, **others))


def test_a_drain_is_never_blocked() -> None:
    assert "PodDisruptionBudget" not in {each["kind"] for each in manifests(PLAIN)}
    assert one(manifests(SEVERAL), "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1


def test_no_target_is_an_error_that_says_what_to_write() -> None:
    with pytest.raises(helm.HelmRenderError, match="name a bucket to probe"):
        rendered({})
    assert rendered({"existingConfigMap": "mine"})


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"replica": 2}, "replica"),
        ({"log": {"level": "loud"}}, "level"),
        ({"config": {"targets": [TARGET], "prob": {}}}, "prob"),
        ({"config": {"targets": [{**TARGET, "account_id": 12345678901234567890}]}}, "account_id"),
        ({"config": {"targets": [{**TARGET, "endpoint": "https://s3.example.org"}]}}, "oneOf"),
        ({"serviceMonitor": {"interval": "often"}}, "interval"),
    ],
    ids=lambda it: it if isinstance(it, str) else "",
)
def test_a_mistake_is_found_before_anything_is_installed(values: dict[str, Any], place: str) -> None:
    with pytest.raises(helm.HelmValuesError, match=place):
        validate(values)


def test_every_value_of_the_chart_has_a_schema() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    known = json.loads((CHART / "values.schema.json").read_text())["properties"]
    assert values.keys() == known.keys() - {"global"}


def test_the_readme_s_example_renders() -> None:
    blocks = re.findall(r"^```yaml\n(.*?)^```$", (CHART / "README.md").read_text(), re.M | re.S)
    kinds = {each["kind"] for block in blocks for each in manifests(yaml.safe_load(block))}
    assert {"ServiceMonitor", "PrometheusRule", "Deployment"} <= kinds


def test_the_notes_say_what_is_left_to_do() -> None:
    notes = rendered(PLAIN)["NOTES.txt"]
    assert "probes media." in notes
    assert "The API takes no writes" in notes
    assert "Prometheus does not scrape it" in notes
    assert "The API takes no writes" not in rendered(FULL)["NOTES.txt"]


def test_the_chart_is_of_this_version() -> None:
    version = tomllib.loads(ROOT.joinpath("pyproject.toml").read_text())["project"]["version"]
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert (chart["version"], chart["appVersion"]) == (version, version)
