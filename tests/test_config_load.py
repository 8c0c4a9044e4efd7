"""exporter.yaml as settings: defaults, overrides, endpoints, secrets, and all mistakes at once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from pydantic import ValidationError

from exporter.config import (
    AlertSettings,
    BreakerSettings,
    ConfigError,
    ProbeSettings,
    Secret,
    Settings,
    TargetSettings,
    load_settings,
)
from exporter.outcome import Operation

EXAMPLE = Path(__file__).parent.parent / "exporter.yaml"
KEYS = {"R2_ACCESS_KEY_ID": "AKIAEXAMPLE", "R2_SECRET_ACCESS_KEY": "hunter2hunter2"}
ACCOUNT = "0123456789abcdef0123456789abcdef"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with secrets, a CA bundle and room for a configuration file."""
    made = tmp_path_factory.mktemp("config")
    for name in ("id", "key", "token"):
        (made / name).write_text(f"{name}-of-hunter2\n")
    (made / "crlf").write_bytes(b"crlf-hunter2\r\n")
    (made / "empty").write_text("\n")
    (made / "two lines").write_text("a\nb\n")
    trustme.CA().cert_pem.write_to_path(made / "ca.pem")
    return made


def load(folder: Path, text: str, env: Mapping[str, str] = KEYS) -> Settings:
    path = folder / "exporter.yaml"
    path.write_text(text, "utf-8")
    return load_settings(path, env)


def target(folder: Path, *lines: str, env: Mapping[str, str] = KEYS) -> TargetSettings:
    written = "\n    ".join(("- name: media", "bucket: media", *lines))
    return load(folder, f"targets:\n  {written}\n", env).targets[0]


def problems(folder: Path, text: str, env: Mapping[str, str] = KEYS) -> list[tuple[int | None, str, str]]:
    with pytest.raises(ConfigError) as caught:
        load(folder, text, env)
    return [(p.line, p.path, p.message) for p in caught.value.problems]


def test_the_example_loads_and_shows_the_defaults() -> None:
    settings = load_settings(EXAMPLE, KEYS)
    (media,) = settings.targets
    assert media.endpoint == f"https://{ACCOUNT}.r2.cloudflarestorage.com"
    assert media.region == "auto"
    assert media.secret_access_key == Secret(KEYS["R2_SECRET_ACCESS_KEY"])
    assert Settings(targets=(media,)) == settings


def test_the_example_says_which_variables_it_needs() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings(EXAMPLE, {})
    assert [p.message for p in caught.value.problems] == [
        f"the environment variable {name} is not set" for name in sorted(KEYS)
    ]


def test_defaults() -> None:
    assert ProbeSettings() == ProbeSettings(
        interval=30,
        timeout=5,
        operations=(Operation.PUT, Operation.GET, Operation.DELETE),
        key_prefix=".r2-exporter/",
        object_size=1024,
        fresh_connection_every=10,
    )
    assert BreakerSettings() == BreakerSettings(
        failure_threshold=3,
        recovery_timeout=60,
        monitoring_window=300,
        slow_call_threshold=2,
        half_open_max_calls=1,
    )
    assert AlertSettings() == AlertSettings(
        error_rate_threshold=0.2,
        slow_response_threshold=2,
        on_failure=True,
        on_recovery=True,
        slo_objective=0.999,
        monthly_budget=10,
    )


@pytest.mark.parametrize(
    ("jurisdiction", "host"),
    [
        ("default", f"{ACCOUNT}.r2.cloudflarestorage.com"),
        ("eu", f"{ACCOUNT}.eu.r2.cloudflarestorage.com"),
        ("fedramp", f"{ACCOUNT}.fedramp.r2.cloudflarestorage.com"),
    ],
)
def test_jurisdictions(folder: Path, jurisdiction: str, host: str) -> None:
    r2 = target(folder, f"account_id: {ACCOUNT.upper()}", f"jurisdiction: {jurisdiction}")
    assert (r2.endpoint, r2.region) == (f"https://{host}", "auto")


def test_an_account_id_stays_what_was_written(folder: Path) -> None:
    numeric = target(folder, "account_id: 0123e45678901234")
    assert numeric.endpoint.startswith("https://0123e45678901234.r2.")


def test_any_endpoint(folder: Path) -> None:
    other = target(folder, "endpoint: http://127.0.0.1:9000/s3/", "addressing_style: virtual")
    assert (other.endpoint, other.region) == ("http://127.0.0.1:9000/s3", "us-east-1")
    assert other.addressing_style == "virtual"
    assert (other.access_key_id, other.secret_access_key, other.ca_file) == (None, None, None)


def test_a_target_overrides_single_keys(folder: Path) -> None:
    text = """\
probe: {interval: 20s, timeout: 1s}
breaker: {failure_threshold: 5}
targets:
  - name: a
    endpoint: http://a
    bucket: aaa
    probe: {interval: 30s, operations: [list, get]}
    breaker:
    alerts: {on_recovery: no}
  - {name: b, endpoint: http://b, bucket: bbb}
"""
    settings = load(folder, text)
    a, b = settings.targets
    assert a.probe == ProbeSettings(interval=30, timeout=1, operations=(Operation.GET, Operation.LIST))
    assert a.breaker == BreakerSettings(failure_threshold=5)
    assert a.alerts == AlertSettings(on_recovery=False)
    assert (b.probe, b.breaker, b.alerts) == (settings.probe, settings.breaker, settings.alerts)
    assert b.probe == ProbeSettings(interval=20, timeout=1)


def test_secrets_from_files(folder: Path) -> None:
    read = target(
        folder,
        "endpoint: http://a",
        "access_key_id_file: id",
        f"secret_access_key_file: {folder / 'crlf'}",
        "session_token_file: ${WHERE}",
        "ca_file: ca.pem",
        env={"WHERE": "token"},
    )
    secrets = (read.access_key_id, read.secret_access_key, read.session_token)
    assert secrets == (Secret("id-of-hunter2"), Secret("crlf-hunter2"), Secret("token-of-hunter2"))
    assert read.ca_file == str(folder / "ca.pem")
    assert "hunter2" not in f"{read} {read!r} {read.model_dump_json()} {read.model_dump()}"


def test_variables_without_braces(folder: Path) -> None:
    text = """\
alertmanager: {basic_auth: {username: a, password: $AM_PASSWORD}}
targets:
  - name: media
    endpoint: http://a
    bucket: media
    access_key_id: $R2_ACCESS_KEY_ID
    secret_access_key: $R2_SECRET_ACCESS_KEY
    session_token: ${TOKEN}
"""
    found = problems(folder, text, {**KEYS, "TOKEN": "$NOT_REPLACED"})
    assert [(line, path.rpartition(".")[2]) for line, path, _ in found] == [
        (1, "password"),
        (6, "access_key_id"),
        (7, "secret_access_key"),
        (8, "session_token"),
    ]
    assert {message.partition(" (")[0] for _, _, message in found} == {
        "is the name of an environment variable, not its value; write ${NAME}"
    }
    (folder / "dollar").write_text("$R2_SECRET_ACCESS_KEY\n")
    held = target(folder, "endpoint: http://a", "access_key_id: a", "secret_access_key_file: dollar")
    assert held.secret_access_key == Secret("$R2_SECRET_ACCESS_KEY")


@pytest.mark.parametrize(
    ("env", "written", "token"),
    [
        ({}, "", None),
        ({}, "token", "token-of-hunter2"),
        ({"R2_EXPORTER_API_TOKEN": "given-by-variable"}, "token", "given-by-variable"),
        ({"R2_EXPORTER_API_TOKEN": "given-by-variable"}, "no-such-file", "given-by-variable"),
        ({"R2_EXPORTER_API_TOKEN": ""}, "token", "token-of-hunter2"),
    ],
)
def test_the_api_token(folder: Path, env: Mapping[str, str], written: str, token: str | None) -> None:
    text = f"api: {{token_file: '{written}'}}\ntargets: [{{name: a, endpoint: http://a, bucket: aaa}}]"
    assert load(folder, text, env).api.token == (Secret(token) if token else None)


def test_an_unusable_api_token(folder: Path) -> None:
    text = "targets: [{name: a, endpoint: http://a, bucket: aaa}]"
    ((line, path, message),) = problems(folder, text, {"R2_EXPORTER_API_TOKEN": "hunter2 hunter3"})
    assert (line, path) == (None, "")
    assert message.startswith("the environment variable R2_EXPORTER_API_TOKEN holds a space")


def test_every_mistake_at_once(folder: Path) -> None:
    text = """\
probe:
  interval: 500ms
  operations: [get, got, get]
breaker: {failure_treshold: 3}
alerts: {error_rate_threshold: 20%}
api: {token_file: none}
targets:
  - name: media
    account_id: 0123456789abcdef
    endpoint: https://user:hunter2@s3.example.org
    jurisdiction: moon
    bucket: m
    access_key_id: ${UNSET}
    secret_access_key_file: empty
    ca_file: id
    labels: {job: x, team: y}
  - name: media
    jurisdiction: eu
    interval: 5s
    secret_access_key: hunter2 hunter2
    secret_access_key_file: "two lines"
    probe: {key_prefix: /a, object_size: 6MiB}
"""
    found = problems(folder, text)
    assert [(line, path) for line, path, _ in found] == [
        (2, "probe.interval"),
        (3, "probe.operations[1]"),
        (4, "breaker.failure_treshold"),
        (5, "alerts.error_rate_threshold"),
        (6, "api.token_file"),
        (10, "targets[0].endpoint"),
        (10, "targets[0].endpoint"),
        (11, "targets[0].jurisdiction"),
        (12, "targets[0].bucket"),
        (13, "targets[0].access_key_id"),
        (14, "targets[0].secret_access_key_file"),
        (15, "targets[0].ca_file"),
        (16, "targets[0].labels.job"),
        (17, "targets[1]"),
        (17, "targets[1]"),
        (17, "targets[1].bucket"),
        (17, "targets[1].name"),
        (18, "targets[1].jurisdiction"),
        (19, "targets[1].interval"),
        (20, "targets[1].secret_access_key"),
        (21, "targets[1].secret_access_key_file"),
        (21, "targets[1].secret_access_key_file"),
        (22, "targets[1].probe.key_prefix"),
        (22, "targets[1].probe.object_size"),
    ]
    messages = "\n".join(message for _, _, message in found)
    assert "hunter2" not in messages
    for words in (
        'must be between 1s and 1d, got "500ms"',
        'expected one of put, get, head, list or delete, got "got"',
        'unknown key; did you mean "failure_threshold"?',
        'expected a number, got "20%"',
        f"{folder / 'none'}: there is no such file; create it with the secret as its only line",
        "give account_id or endpoint, not both",
        "needs account_id (Cloudflare R2) or endpoint (any S3-compatible store)",
        'did you mean "interval" under "probe"?',
        "must be unique; the target in line 8 has the same name",
        f"{folder / 'empty'}: is empty",
        f"{folder / 'id'}: holds no certificates in PEM form",
        'must be between 1B and 1MiB, got "6MiB"',
        "has secret_access_key but no access_key_id",
    ):
        assert words in messages


def test_a_mistake_in_a_default_is_reported_once(folder: Path) -> None:
    targets = "\n".join(
        f"- {{name: t{n}, endpoint: http://a, bucket: aaa, probe: {{timeout: 1s}}}}" for n in range(5)
    )
    ((line, path, _),) = problems(folder, f"probe: {{interval: soon}}\ntargets:\n{targets}")
    assert (line, path) == (1, "probe.interval")


@pytest.mark.parametrize(
    ("written", "path"),
    [
        ({"name": ""}, ".name"),
        ({"name": " a"}, ".name"),
        ({"name": "a\nb"}, ".name"),
        ({"name": "a\xadb"}, ".name"),
        ({"name": "a" * 129}, ".name"),
        ({"name": ["a"]}, ".name"),
        ({"bucket": "ab"}, ".bucket"),
        ({"bucket": "a/b"}, ".bucket"),
        ({"endpoint": None}, ""),
        ({"endpoint": None, "account_id": "g" * 32}, ".account_id"),
        ({"endpoint": None, "account_id": "0" * 33}, ".account_id"),
        ({"endpoint": None, "account_id": "0" * 32, "jurisdiction": "us"}, ".jurisdiction"),
        ({"jurisdiction": "default"}, ".jurisdiction"),
        ({"endpoint": "s3.example.org"}, ".endpoint"),
        ({"region": "eu west"}, ".region"),
        ({"addressing_style": "host"}, ".addressing_style"),
        ({"access_key_id": "a"}, ""),
        ({"secret_access_key": "a"}, ""),
        ({"session_token": "a"}, ""),
        ({"access_key_id": "", "secret_access_key": "a"}, ".access_key_id"),
        ({"access_key_id": "a", "secret_access_key": "a", "access_key_id_file": "id"}, ".access_key_id_file"),
        ({"ca_file": ""}, ".ca_file"),
        ({"ca_file": "."}, ".ca_file"),
        ({"labels": {"__a": "b"}}, ".labels.__a"),
        ({"labels": {"1a": "b"}}, '.labels["1a"]'),
        ({"labels": {"target": "b"}}, ".labels.target"),
        ({"labels": {"a": {"b": "c"}}}, ".labels.a"),
        ({"probe": {"operations": []}}, ".probe.operations"),
        ({"probe": {"operations": ["get", "get"]}}, ".probe.operations"),
        ({"probe": {"operations": ["post"]}}, ".probe.operations[0]"),
        ({"probe": {"fresh_connection_every": -1}}, ".probe.fresh_connection_every"),
        ({"probe": {"timeout": "9ms"}}, ".probe.timeout"),
        ({"alerts": {"error_rate_threshold": "nan"}}, ".alerts.error_rate_threshold"),
        ({"alerts": {"error_rate_threshold": 0}}, ".alerts.error_rate_threshold"),
    ],
)
def test_values_that_are_refused(folder: Path, written: dict[str, Any], path: str) -> None:
    whole = {"name": "media", "bucket": "media", "endpoint": "http://a", **written}
    found = problems(folder, yaml.safe_dump({"targets": [whole]}))
    assert [p for _, p, _ in found] == [f"targets[0]{path}"]


@pytest.mark.parametrize(
    "prefix",
    ["", "/", "a", "/a/", "a//", "./", "../", "a/../", "a/./b/", "é/", "a b/", "a/\n", "a" * 200 + "/"],
)
def test_key_prefixes_that_are_refused(prefix: str) -> None:
    with pytest.raises(ValidationError, match="expected a prefix"):
        ProbeSettings(key_prefix=prefix)


@pytest.mark.parametrize(
    "prefix", [".r2-exporter/", "a/b/", "a" * 199 + "/", ".../", "..a/", "a.../!_'()*-/"]
)
def test_key_prefixes(prefix: str) -> None:
    assert ProbeSettings(key_prefix=prefix).key_prefix == prefix


def test_settings_never_change(folder: Path) -> None:
    settings = target(folder, "endpoint: http://a", "labels: {team: web}")
    with pytest.raises(ValidationError):
        settings.name = "other"
    with pytest.raises(TypeError):
        settings.labels["team"] = "other"  # type: ignore[index]  # refused by the type as well
    assert settings.labels == {"team": "web"}


def test_no_file_names_the_demo(tmp_path: Path) -> None:
    for path in (tmp_path / "exporter.yaml", tmp_path):
        with pytest.raises(ConfigError, match="r2-exporter demo"):
            load_settings(path, {})


def test_an_empty_file(folder: Path) -> None:
    assert problems(folder, "# nothing\n") == [(1, "targets", "is required")]
    assert problems(folder, "targets:\n") == [(1, "targets", "is required")]
    assert problems(folder, "targets: []\n") == [(1, "targets", "needs at least one target")]
