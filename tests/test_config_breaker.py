"""The `breaker` section: its defaults, what a target overrides, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from exporter.config import BreakerSettings, ConfigError, Settings, load_settings
from exporter.outcome import Reason

TARGET = {"name": "media", "bucket": "media", "endpoint": "http://a"}


def load(folder: Path, **sections: Any) -> Settings:
    file = folder / "exporter.yaml"
    file.write_text(yaml.safe_dump({"targets": [TARGET], **sections}))
    return load_settings(file, {})


def test_defaults(tmp_path: Path) -> None:
    (target,) = load(tmp_path).targets
    assert target.breaker.model_dump() == {
        "enabled": True,
        "failure_threshold": 3,
        "failure_rate_threshold": None,
        "slow_call_threshold": 2,
        "slow_call_rate_threshold": None,
        "minimum_calls": 10,
        "monitoring_window": 300,
        "recovery_timeout": 60,
        "recovery_timeout_multiplier": 1,
        "recovery_timeout_max": 3600,
        "half_open_max_calls": 1,
        "half_open_successes": 1,
        "half_open_max_wait": 60,
        "ewma_half_life": 60,
        "failure_reasons": tuple(Reason),
    }


def test_a_target_has_what_the_section_says_but_for_what_it_says_itself(tmp_path: Path) -> None:
    own = {"enabled": False, "failure_reasons": ["timeout"]}
    section = {"slow_call_rate_threshold": 0.5, "failure_reasons": ["server"]}
    (target,) = load(tmp_path, breaker=section, targets=[TARGET | {"breaker": own}]).targets
    assert target.breaker == BreakerSettings(
        enabled=False, slow_call_rate_threshold=0.5, failure_reasons=(Reason.TIMEOUT,)
    )


def test_reasons_are_taken_in_any_order_and_once(tmp_path: Path) -> None:
    one = load(tmp_path, breaker={"failure_reasons": ["server", "timeout", "server"]})
    assert one.breaker.failure_reasons == (Reason.TIMEOUT, Reason.SERVER)
    assert one == load(tmp_path, breaker={"failure_reasons": ["timeout", "server"]})


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("enabled", "perhaps"),
        ("failure_threshold", 0),
        ("failure_threshold", 2.5),
        ("failure_rate_threshold", 0),
        ("slow_call_rate_threshold", 1.01),
        ("slow_call_threshold", "0"),
        ("minimum_calls", 0),
        ("monitoring_window", "999ms"),
        ("recovery_timeout", "999ms"),
        ("recovery_timeout_multiplier", 0.5),
        ("recovery_timeout_max", "2d"),
        ("half_open_max_calls", 0),
        ("half_open_successes", -1),
        ("half_open_max_wait", "forever"),
        ("ewma_half_life", "0"),
        ("failure_reasons", []),
    ],
)
def test_what_is_refused(tmp_path: Path, key: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, breaker={key: value})
    assert [problem.path for problem in caught.value.problems] == [f"breaker.{key}"]


def test_an_unknown_reason_is_told_with_its_place(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, breaker={"failure_reasons": ["server", "slow"]})
    (problem,) = caught.value.problems
    assert problem.path == "breaker.failure_reasons[1]"
    assert "timeout, dns, connect" in problem.message
