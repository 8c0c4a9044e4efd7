"""deploy/helm/r2-exporter as Helm renders it, by Helm's own library."""

import json
from functools import cache
from typing import Any

import helm_python as helm
import yaml

from tests.deploy.tool import DEPLOY

CHART = DEPLOY / "helm" / "r2-exporter"
TARGET = {
    "name": "media",
    "account_id": "0123456789abcdef0123456789abcdef",
    "bucket": "media",
    "access_key_id": "${R2_ACCESS_KEY_ID}",
    "secret_access_key": "${R2_SECRET_ACCESS_KEY}",
}
PLAIN: dict[str, Any] = {
    "config": {"targets": [TARGET]},
    "envFrom": [{"secretRef": {"name": "r2-credentials"}}],
}
FULL: dict[str, Any] = {
    **PLAIN,
    "commonLabels": {"team": "web"},
    "imagePullSecrets": [{"name": "registry"}],
    "image": {"digest": "sha256:" + "0123456789abcdef" * 4},
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy:3128"}],
    "secretFiles": {"secretName": "r2-keys"},
    "apiToken": {"secretName": "r2-api"},
    "web": {"secretName": "r2-web", "tls": True},
    "log": {"level": "debug", "format": "json"},
    "podAnnotations": {"example.org/owner": "web"},
    "podLabels": {"tier": "monitoring"},
    "priorityClassName": "system-cluster-critical",
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "monitoring", "operator": "Exists"}],
    "persistence": {"storageClassName": "fast"},
    "extraVolumes": [{"name": "ca", "configMap": {"name": "ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ca"}],
    "networkPolicy": {
        "enabled": True,
        "ingressFrom": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        "egressPorts": [443, 9093],
    },
    "serviceMonitor": {
        "enabled": True,
        "labels": {"release": "prometheus"},
        "basicAuthSecretName": "r2-login",
        "tlsConfig": {"insecureSkipVerify": True},
        "relabelings": [{"sourceLabels": ["__meta_kubernetes_pod_node_name"], "targetLabel": "node"}],
    },
    "prometheusRule": {"enabled": True, "labels": {"release": "prometheus"}},
    "dashboards": {"enabled": True},
}
SEVERAL: dict[str, Any] = {
    "config": {"targets": [TARGET], "probe": {"enabled": False}},
    "replicas": 3,
    "persistence": {"enabled": False},
    "serviceAccount": {"create": False},
}
SHARDED: dict[str, Any] = {**FULL, "shards": 3}
VALUES = {"plain": PLAIN, "full": FULL, "several": SEVERAL, "sharded": SHARDED}


def validate(values: dict[str, Any]) -> None:
    """Raises HelmValuesError where the schema does not take them."""
    with helm.Chart.load(str(CHART)) as chart:
        chart.validate_schema(values)


def rendered(values: dict[str, Any], name: str = "r2-exporter") -> dict[str, str]:
    """The text of each template by its name, as `helm template NAME` makes it."""
    return _rendered(json.dumps(values), name)


@cache
def _rendered(values: str, name: str) -> dict[str, str]:
    with helm.Chart.load(str(CHART)) as chart:
        chart.validate_schema(json.loads(values))
        texts = chart.render(json.loads(values), name=name, namespace="monitoring")
    return {path.rpartition("/")[2]: text for path, text in texts.items()}


def manifests(values: dict[str, Any], name: str = "r2-exporter") -> list[dict[str, Any]]:
    """Everything that Kubernetes gets."""
    texts = [text for file, text in rendered(values, name).items() if file.endswith(".yaml")]
    return [each for text in texts for each in yaml.load_all(text, yaml.CSafeLoader) if each is not None]


def one(found: list[dict[str, Any]], kind: str) -> dict[str, Any]:
    (only,) = [each for each in found if each["kind"] == kind]
    return only
