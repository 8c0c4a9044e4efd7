"""The `alertmanager` section, and the objectives of `alerts`: read, refused, and with no secret shown."""

from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from exporter.config import AlertmanagerSettings, ConfigError, Secret, Settings, dump, load_settings

TARGET = {"name": "media", "bucket": "media", "endpoint": "http://a"}
MEMBERS = ["http://am-0:9093", "https://am-1/alertmanager"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with secrets and certificates."""
    made = tmp_path_factory.mktemp("config")
    (made / "secrets").mkdir()
    (made / "secrets" / "password").write_text("pässword of hunter2\n")
    (made / "secrets" / "token").write_bytes(b"token-of-hunter2\r\n")
    (made / "empty").write_text("\n")
    (made / "two lines").write_text("hunter2\nhunter2\n")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(made / "ca.pem")
    for name in ("client", "other"):
        leaf = authority.issue_cert(f"{name}.example.org")
        leaf.cert_chain_pems[0].write_to_path(made / f"{name}.pem")
        leaf.private_key_pem.write_to_path(made / "secrets" / f"{name}.key")
    locked = load_pem_private_key((made / "secrets" / "client.key").read_bytes(), None).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"hunter2")
    )
    (made / "locked.key").write_bytes(locked)
    return made


def load(folder: Path, env: Mapping[str, str] | None = None, **sections: Any) -> Settings:
    file = folder / "exporter.yaml"
    file.write_text(yaml.safe_dump({"targets": [TARGET], **sections}, sort_keys=False))
    return load_settings(file, env or {})


def problems(folder: Path, section: object) -> list[tuple[str, str]]:
    with pytest.raises(ConfigError) as caught:
        load(folder, alertmanager=section)
    assert "hunter2" not in f"{caught.value} {caught.value!r}"
    return [(problem.path, problem.message) for problem in caught.value.problems]


def test_by_default_nothing_is_pushed(folder: Path) -> None:
    section = load(folder).alertmanager
    assert section == load(folder, alertmanager=None).alertmanager == AlertmanagerSettings()
    assert (section.urls, section.timeout, dict(section.labels)) == ((), 10, {})
    assert (section.secrets, section.authorization) == ((), None)


def test_each_member_is_told_once(folder: Path) -> None:
    urls = [*MEMBERS, MEMBERS[0] + "/"]
    assert load(folder, alertmanager={"urls": urls}).alertmanager.urls == tuple(MEMBERS)


def test_secrets_and_certificates_from_files(folder: Path) -> None:
    written = {
        "urls": MEMBERS,
        "basic_auth": {"username": "r2 exporter", "password_file": "secrets/password"},
        "ca_file": "ca.pem",
        "cert_file": "client.pem",
        "key_file": "secrets/client.key",
        "labels": {"cluster": "eu", "job": "r2"},
        "timeout": "500ms",
    }
    section = load(folder, alertmanager=written).alertmanager
    assert section.basic_auth is not None
    assert section.basic_auth.username == "r2 exporter"
    encoded = b64encode("r2 exporter:pässword of hunter2".encode()).decode()
    assert section.secrets == (section.basic_auth.password, Secret(encoded))
    assert section.basic_auth.password == Secret("pässword of hunter2")
    assert section.authorization == Secret(f"Basic {encoded}")
    assert section.ca_file == str(folder / "ca.pem")
    assert (section.cert_file, section.key_file) == (
        str(folder / "client.pem"),
        str(folder / "secrets" / "client.key"),
    )
    assert (section.timeout, dict(section.labels)) == (0.5, {"cluster": "eu", "job": "r2"})
    with pytest.raises(TypeError):
        section.labels["cluster"] = "us"  # type: ignore[index]  # refused by the type as well


def test_a_token_from_a_file_or_the_environment(folder: Path) -> None:
    from_file = load(folder, alertmanager={"bearer_token_file": str(folder / "secrets" / "token")})
    from_variable = load(folder, {"T": "given-hunter2"}, alertmanager={"bearer_token": "${T}"})
    assert from_file.alertmanager.authorization == Secret("Bearer token-of-hunter2")
    assert from_file.alertmanager.secrets == (Secret("token-of-hunter2"),)
    assert from_variable.alertmanager.secrets == (Secret("given-hunter2"),)


@pytest.mark.parametrize(
    "section",
    [
        {"basic_auth": {"username": "a", "password_file": "secrets/password"}, "ca_file": "ca.pem"},
        {"bearer_token_file": "secrets/token", "labels": {"on": "${A}"}, "timeout": "1m"},
        {"urls": MEMBERS, "cert_file": "client.pem", "key_file": "secrets/client.key"},
    ],
)
def test_a_dump_shows_files_and_no_secret_and_loads_again(folder: Path, section: dict[str, Any]) -> None:
    settings = load(folder, {"A": "${B}"}, alertmanager=section)
    dumped = dump(settings)
    assert "hunter2" not in f"{dumped} {settings} {settings!r} {settings.model_dump_json()}"
    (folder / "exporter.yaml").write_text(dumped)
    assert load_settings(folder / "exporter.yaml", {}) == settings


@pytest.mark.parametrize(
    "section",
    [{"bearer_token": "hunter2"}, {"basic_auth": {"username": "a", "password": "hunter2 hunter2"}}],
)
def test_a_dump_hides_secrets_that_were_written_down(folder: Path, section: dict[str, Any]) -> None:
    settings = load(folder, alertmanager=section)
    assert settings.alertmanager.secrets[0].get_secret_value().startswith("hunter2")
    dumped = dump(settings)
    assert "'***'" in dumped
    assert "hunter2" not in f"{dumped} {settings!r}"


LOGIN = {"username": "a", "password": "hunter2"}


@pytest.mark.parametrize(
    ("section", "path", "words"),
    [
        ({"urls": ["http://a:hunter2@am:9093"]}, ".urls[0]", "without user"),
        ({"urls": ["am:9093"]}, ".urls[0]", "expected a URL"),
        ({"url": "http://am"}, ".url", 'did you mean "urls"?'),
        ({"timeout": "0"}, ".timeout", "must be between 100ms and 1m"),
        ({"labels": {"severity": "x"}}, ".labels.severity", "none of alertname, severity, target, type"),
        ({"labels": {"__a": "x"}}, ".labels.__a", "expected a Prometheus label name"),
        ({"basic_auth": {"password": "hunter2"}}, ".basic_auth.username", "is required"),
        ({"basic_auth": LOGIN | {"username": "a:b"}}, ".basic_auth.username", "holds no colon"),
        ({"basic_auth": {"username": "a"}}, ".basic_auth", "needs password or password_file"),
        (
            {"basic_auth": LOGIN | {"password_file": "secrets/password"}},
            ".basic_auth.password_file",
            "give password or password_file, not both",
        ),
        ({"basic_auth": LOGIN | {"password": ""}}, ".basic_auth.password", "is empty"),
        (
            {"basic_auth": {"username": "a", "password_file": "two lines"}},
            ".basic_auth.password_file",
            "two lines: holds a line break",
        ),
        ({"bearer_token": "hunter2 hunter2"}, ".bearer_token", "holds a space"),
        ({"bearer_token_file": "empty"}, ".bearer_token_file", "empty: is empty"),
        ({"bearer_token_file": "none"}, ".bearer_token_file", "none: there is no such file; create it"),
        (
            {"bearer_token": "hunter2", "bearer_token_file": "secrets/token"},
            ".bearer_token_file",
            "give bearer_token or bearer_token_file, not both",
        ),
        (
            {"basic_auth": LOGIN, "bearer_token": "hunter2"},
            ".basic_auth",
            "give basic_auth or bearer_token, not both",
        ),
        ({"ca_file": "empty"}, ".ca_file", "holds no certificates in PEM form"),
        ({"cert_file": "client.pem"}, ".cert_file", "needs key_file beside it"),
        ({"key_file": "secrets/client.key"}, ".key_file", "needs cert_file beside it"),
        (
            {"cert_file": "client.pem", "key_file": "secrets/other.key"},
            ".key_file",
            "holds no private key in PEM form of the certificate in cert_file",
        ),
        ({"cert_file": "client.pem", "key_file": "locked.key"}, ".key_file", "is encrypted"),
        (
            {"cert_file": "none.pem", "key_file": "secrets/client.key"},
            ".cert_file",
            "none.pem: there is no such file",
        ),
    ],
)
def test_what_is_refused(folder: Path, section: dict[str, Any], path: str, words: str) -> None:
    [(found, message)] = problems(folder, section)
    assert found == f"alertmanager{path}"
    assert words in message


def test_every_mistake_at_once(folder: Path) -> None:
    section = {
        "urls": ["am"],
        "basic_auth": {"username": "", "password_file": "none"},
        "bearer_token_file": "empty",
        "cert_file": "client.pem",
        "ca_file": "two lines",
        "my_file": "secrets/token",
    }
    assert [path for path, _ in problems(folder, section)] == [
        "alertmanager.urls[0]",
        "alertmanager.basic_auth",
        "alertmanager.basic_auth.username",
        "alertmanager.basic_auth.password_file",
        "alertmanager.bearer_token_file",
        "alertmanager.cert_file",
        "alertmanager.ca_file",
        "alertmanager.my_file",
    ]


@pytest.mark.parametrize("section", ["x", ["x"], {"basic_auth": "x"}, {"basic_auth": ["x"]}])
def test_sections_that_are_none(folder: Path, section: object) -> None:
    [(_, message)] = problems(folder, section)
    assert message.startswith("expected a mapping of keys to values")


def test_a_target_has_its_own_objective_and_budget(folder: Path) -> None:
    own = TARGET | {"name": "own", "alerts": {"monthly_budget": 0.5}}
    settings = load(folder, alerts={"slo_objective": "99.5e-2"}, targets=[TARGET, own])
    found = [(t.alerts.slo_objective, t.alerts.monthly_budget) for t in settings.targets]
    assert found == [(0.995, 10), (0.995, 0.5)]
    (usual,) = load(folder).targets
    assert (usual.alerts.slo_objective, usual.alerts.monthly_budget) == (0.999, 10)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("slo_objective", 0.49),
        ("slo_objective", 1),
        ("slo_objective", 99.9),
        ("slo_objective", "nan"),
        ("monthly_budget", 0),
        ("monthly_budget", -1),
        ("monthly_budget", "inf"),
        ("monthly_budget", "$10"),
    ],
)
def test_objectives_that_are_refused(folder: Path, key: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        load(folder, alerts={key: value})
    assert [problem.path for problem in caught.value.problems] == [f"alerts.{key}"]
