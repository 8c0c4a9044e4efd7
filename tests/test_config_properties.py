"""What holds for every file: it dumps to itself, or is refused without a traceback or a secret."""

import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from hypothesis import given
from hypothesis import strategies as st

from exporter.config import (
    AlertmanagerSettings,
    BasicAuth,
    ConfigError,
    ProbeSettings,
    Secret,
    Settings,
    dump,
    load_settings,
)
from exporter.config.model import ApiFile, ApiTokenFile, ConfigFile, TargetFile
from exporter.config.values import format_duration, format_size
from exporter.outcome import Operation

EXAMPLE = Path(__file__).parent.parent / "exporter.yaml"
KEYS = {"R2_ACCESS_KEY_ID": "AKIAEXAMPLE", "R2_SECRET_ACCESS_KEY": "hunter2hunter2"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with secrets, a CA bundle and room for a configuration file."""
    made = tmp_path_factory.mktemp("config")
    for name in ("id", "key", "token", "token-of-a-reader", "token-of-a-writer"):
        (made / name).write_text(f"{name}-of-hunter2\n")
    trustme.CA().cert_pem.write_to_path(made / "ca.pem")
    return made


def load(folder: Path, text: str, env: Mapping[str, str]) -> Settings:
    path = folder / "exporter.yaml"
    path.write_text(text, "utf-8")
    return load_settings(path, env)


def durations(low: float, high: float) -> st.SearchStrategy[str]:
    return st.integers(int(low * 1000), int(high * 1000)).map(lambda ms: format_duration(ms / 1000))


def some(keys: Mapping[str, st.SearchStrategy[Any]]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=dict(keys))


text = st.text(
    st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=20
) | st.sampled_from(
    ["null", "~", "on", "0x1f", "${A}", "$${A}", "1e3", "*a", "- b", "'", "a: b", "#", "<<", "="]
)
words = st.text(string.ascii_letters + string.digits + ".-_", min_size=3, max_size=20)
probes = some(
    {
        "interval": durations(1, 86_400),
        "timeout": durations(0.01, 300),
        "operations": st.lists(st.sampled_from([str(o) for o in Operation]), min_size=1, unique=True),
        "key_prefix": st.lists(words.filter(lambda w: w.strip(".")), min_size=1, max_size=4)
        .map("/".join)
        .map("{}/".format),
        "object_size": st.integers(1, 1 << 20).map(format_size),
        "fresh_connection_every": st.integers(0, 10_000),
    }
)
breakers = some(
    {
        "failure_threshold": st.integers(1, 10_000),
        "recovery_timeout": durations(1, 86_400),
        "monitoring_window": durations(1, 86_400),
        "slow_call_threshold": durations(0.001, 3600),
        "half_open_max_calls": st.integers(1, 100),
    }
)
alerts = some(
    {
        "error_rate_threshold": st.floats(0, 1, exclude_min=True),
        "slow_response_threshold": durations(0.001, 3600),
        "on_failure": st.booleans(),
        "on_recovery": st.booleans(),
        "slo_objective": st.floats(0.5, 0.99999),
        "monthly_budget": st.floats(0, 1_000_000, exclude_min=True),
    }
)
members = st.builds(
    lambda *parts: {key: value for part in parts for key, value in part.items()},
    some(
        {
            "urls": st.lists(st.sampled_from(["http://am:9093", "https://am/x"])),
            "timeout": durations(0.1, 60),
            "labels": st.dictionaries(st.sampled_from(["cluster", "on", "job"]), text | st.just("")),
            "ca_file": st.just("ca.pem"),
        }
    ),
    st.sampled_from(
        [
            {},
            {"basic_auth": {"username": "on", "password_file": "key"}},
            {"bearer_token_file": "token"},
        ]
    ),
)
places = st.fixed_dictionaries(
    {"account_id": st.text("0123456789abcdefABCDEF", min_size=16, max_size=32)},
    optional={"jurisdiction": st.sampled_from(["default", "eu", "fedramp"])},
) | st.fixed_dictionaries({"endpoint": st.sampled_from(["http://a", "https://b:1/c/", "http://[::1]:9000"])})
credentials = st.sampled_from(
    [
        {},
        {"access_key_id_file": "id", "secret_access_key_file": "key"},
        {"access_key_id_file": "id", "secret_access_key_file": "key", "session_token_file": "token"},
    ]
)
targets = st.builds(
    lambda *parts: {key: value for part in parts for key, value in part.items()},
    st.fixed_dictionaries({"name": text, "bucket": words}),
    places,
    credentials,
    some(
        {
            "region": st.sampled_from(["auto", "eu-west-1"]),
            "addressing_style": st.sampled_from(["path", "virtual"]),
            "ca_file": st.just("ca.pem"),
            "labels": st.dictionaries(
                st.sampled_from(["team", "on", "y", "null", "tier_1"]), text | st.just("")
            ),
            "probe": probes,
            "breaker": breakers,
            "alerts": alerts,
        }
    ),
)
tokens = st.sampled_from(["reader", "writer"]).flatmap(
    lambda name: st.fixed_dictionaries(
        {
            "name": st.just(name),
            "token_file": st.just(f"token-of-a-{name}"),
            "scope": st.sampled_from(["read", "write"]),
        }
    )
)
files = st.builds(
    lambda sections, some_targets: {**sections, "targets": some_targets},
    some(
        {
            "exporter": some({"instance": st.just("probe-1"), "probes_in_flight": st.integers(1, 10_000)}),
            "probe": probes,
            "breaker": breakers,
            "alerts": alerts,
            "alertmanager": members,
            "history": some({"retention": durations(3600, 10 * 365 * 86_400)}),
            "api": some(
                {
                    "token_file": st.sampled_from(["", "token"]),
                    "tokens": st.lists(tokens, max_size=2, unique_by=lambda t: t["name"]),
                    "cors_origins": st.just(["*", "https://a:1"]),
                }
            ),
        }
    ),
    st.lists(targets, min_size=1, max_size=4, unique_by=lambda t: t["name"]),
)


def escaped(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [escaped(item) for item in value]
    return value.replace("${", "$${") if isinstance(value, str) else value


@given(written=files)
def test_what_is_dumped_loads_as_the_same(folder: Path, written: dict[str, Any]) -> None:
    settings = load(folder, yaml.safe_dump(escaped(written)), {})
    assert [(t.name, t.bucket) for t in settings.targets] == [
        (t["name"], t["bucket"]) for t in written["targets"]
    ]
    dumped = dump(settings)
    assert load(folder, dumped, {}) == settings
    assert "hunter2" not in f"{dumped} {settings} {settings!r} {settings.model_dump_json()}"


def test_a_dump_hides_secrets_that_were_written_down(folder: Path) -> None:
    dumped = dump(load_settings(EXAMPLE, KEYS))
    assert yaml.safe_load(dumped)["targets"][0]["secret_access_key"] == "***"
    assert not [secret for secret in KEYS.values() if secret in dumped]
    assert load(folder, dumped, {}).targets[0].secret_access_key == Secret("***")


models = (ConfigFile, ApiFile, ApiTokenFile, TargetFile, ProbeSettings, AlertmanagerSettings, BasicAuth)
known = st.sampled_from(["<<", *sorted({key for model in models for key in model.model_fields})])
odd = st.none() | st.sampled_from(
    ["${S}", "a${S}", "30s", "1KiB", "get", "http://a", "id", "ca.pem", ".", "1", "x" * 300]
)
anything = st.recursive(
    odd, lambda v: st.lists(v, max_size=3) | st.dictionaries(known, v, max_size=6), max_leaves=30
)
broken_files = st.dictionaries(known, anything, max_size=6) | st.builds(
    lambda sections, some_targets: {**sections, "targets": some_targets},
    st.dictionaries(known, anything, max_size=3),
    st.lists(st.dictionaries(known, anything, max_size=8) | anything, max_size=3),
)
MARK = "Xhunter2X"


@given(written=broken_files | anything)
def test_any_structure_is_settings_or_an_error_without_secrets(folder: Path, written: Any) -> None:
    assert MARK not in outcome(folder, yaml.safe_dump(written), {"S": MARK})


@given(data=st.data())
def test_any_damage_to_the_example_is_settings_or_an_error(folder: Path, data: st.DataObject) -> None:
    whole = EXAMPLE.read_text("utf-8")
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, min(start + 40, len(whole))))
    put_in = data.draw(st.text(" \n\t-:[]{}&*!|>'\"%@`#,?a0$", max_size=5))
    shown = outcome(folder, whole[:start] + put_in + whole[end:], KEYS)
    assert KEYS["R2_SECRET_ACCESS_KEY"] not in shown


def outcome(folder: Path, text: str, env: Mapping[str, str]) -> str:
    """All that people may get to see after loading `text`, except settings that are no secrets."""
    try:
        settings = load(folder, text, env)
    except ConfigError as error:
        return f"{error} {error!r}"
    secrets = [(t.access_key_id, t.secret_access_key, t.session_token) for t in settings.targets]
    return f"{secrets} {settings.api.token!r} {settings.api.tokens!r} {settings.alertmanager.secrets}"
