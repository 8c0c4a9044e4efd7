"""Durations and sizes mean what they mean to Prometheus; secrets and URLs stay tidy."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from exporter.config.values import (
    Credential,
    Password,
    Secret,
    format_duration,
    format_size,
    parse_duration,
    parse_size,
    parse_url,
)

LONGEST = (2**63 - 1) // 1_000_000


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("0s", 0),
        ("30s", 30),
        ("500ms", 0.5),
        ("1h30m", 5400),
        ("30d", 2_592_000),
        ("1w", 604_800),
        ("1y", 31_536_000),
        ("1y2w3d4h5m6s7ms", 31_536_000 + 2 * 604_800 + 3 * 86_400 + 4 * 3600 + 5 * 60 + 6.007),
        ("90m", 5400),
        ("007s", 7),
    ],
)
def test_durations_that_prometheus_reads(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "s",
        "-1s",
        "1.5s",
        "30 s",
        " 30s",
        "30s\n",
        "1s1m",
        "1m1m",
        "1S",
        "\u0661s",
        "300y",
        "9" * 70 + "s",
    ],
)
def test_durations_that_prometheus_refuses(text: str) -> None:
    with pytest.raises(ValueError, match="expected a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.5, "500ms"),
        (60, "1m"),
        (300, "5m"),
        (5400, "1h30m"),
        (30 * 86_400, "30d"),
        (7 * 86_400, "1w"),
    ],
)
def test_durations_are_written_as_prometheus_writes_them(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.integers(0, LONGEST))
def test_every_duration_comes_back(milliseconds: int) -> None:
    seconds = milliseconds / 1000
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0B", 0),
        ("512B", 512),
        ("1KB", 1024),
        ("1KiB", 1024),
        ("5MB", 5 << 20),
        ("3GiB", 3 << 30),
        ("1EB", 1 << 60),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "1", "1K", "1kb", "1iB", "-1B", "1.5KB", "1 KB", "1KB\n", "9" * 70 + "B"]
)
def test_sizes_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="expected a size"):
        parse_size(text)


@given(st.integers(0, 1 << 70))
def test_every_size_comes_back(size: int) -> None:
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("https://s3.example.org/", "https://s3.example.org"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("http://[::1]:9000/s3//", "http://[::1]:9000/s3"),
        ("http://minio_1", "http://minio_1"),
    ],
)
def test_urls(text: str, url: str) -> None:
    assert parse_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "s3.example.org",
        "ftp://s3.example.org",
        "https://",
        "https://user:hunter2@s3.example.org",
        "https://s3.example.org?key=hunter2",
        "https://s3.example.org#hunter2",
        "https://s3.example.org:0",
        "https://s3.example.org:99999",
        "https://s3.example.org/a/../hunter2",
        "https://[::hunter2]",
        "https://[1::2::3]",
        "https://s3.example.org\n",
    ],
)
def test_urls_that_are_none_are_not_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="URL") as caught:
        parse_url(text)
    assert "hunter2" not in str(caught.value)


class Holder(BaseModel):
    key: Credential


def test_a_secret_shows_as_stars() -> None:
    holder = Holder(key=Secret("hunter2"))
    shown = [str(holder), repr(holder), f"{holder.key}", holder.model_dump_json(), str(holder.model_dump())]
    assert [text for text in shown if "hunter2" in text or "***" not in text] == []
    assert json.loads(holder.model_dump_json()) == {"key": "***"}
    assert holder.key.get_secret_value() == "hunter2"


@pytest.mark.parametrize("text", ["", "hunter2 ", "hunter2\n", "hünter2", "hunter\x7f2"])
def test_a_credential_must_fit_into_a_header(text: str) -> None:
    with pytest.raises(ValidationError):
        Holder.model_validate({"key": text})


class Login(BaseModel):
    key: Credential | Password


@pytest.mark.parametrize("text", ["$R2_SECRET_ACCESS_KEY", "$A", "$_"])
def test_a_variable_without_braces_is_no_secret(text: str) -> None:
    with pytest.raises(ValidationError, match=r"write \$\{NAME\}") as caught:
        Login.model_validate({"key": text})
    words = [str(error["msg"]) for error in caught.value.errors()]
    assert len(words) == 2
    assert text not in "".join(words)


@pytest.mark.parametrize("text", ["$", "$a", "$1", "$A-B", "$$A", "a$A", "$A$", "${A}"])
def test_a_secret_may_hold_a_dollar(text: str) -> None:
    assert Login.model_validate({"key": text}).key.get_secret_value() == text
