"""An endpoint that holds the bucket as well is refused before anything is written in the wrong place."""

from pathlib import Path

import pytest
import yaml

from exporter.config import ConfigError, load_settings

ACCOUNT = "0123456789abcdef0123456789abcdef"
R2 = f"https://{ACCOUNT}.r2.cloudflarestorage.com"
R2_EU = f"https://{ACCOUNT}.eu.r2.cloudflarestorage.com"


def refused(folder: Path, bucket: str = "media", **target: str) -> list[tuple[int | None, str, str]]:
    """What is wrong with a target: the line, the place and the message of each mistake."""
    file = folder / "exporter.yaml"
    written = {"name": "a", "bucket": bucket, **target}
    file.write_text(yaml.safe_dump({"targets": [written]}, sort_keys=False))
    try:
        load_settings(file, {"BUCKET": bucket})
    except ConfigError as error:
        return [(problem.line, problem.path, problem.message) for problem in error.problems]
    return []


@pytest.mark.parametrize("style", ["path", "virtual"])
@pytest.mark.parametrize(
    ("endpoint", "mend"),
    [
        ("http://127.0.0.1:9000/media", "leave the bucket's name out at its end: `bucket` says it"),
        ("http://127.0.0.1:9000/media/", "leave the bucket's name out at its end"),
        ("https://proxy/s3//media", "leave the bucket's name out at its end"),
        ("https://proxy/${BUCKET}", "leave the bucket's name out at its end"),
        (f"{R2}/media", "leave the bucket's name out at its end"),
        (f"{R2_EU}/media", "leave the bucket's name out at its end"),
        (f"{R2.upper().replace('HTTPS', 'https')}./other", "leave its path out: R2's endpoints have none"),
        (f"{R2}:443/media/logs", "leave its path out"),
        (f"{R2_EU}/s3", "leave its path out"),
        (f"{R2.replace('//', '//media.')}", "leave the bucket's name out of its host"),
        (f"{R2_EU.replace('//', '//Media.')}", "leave the bucket's name out of its host"),
        ("https://media.s3.example.com", "leave the bucket's name out of its host"),
        ("https://MEDIA.s3.example.com:443/x", "leave the bucket's name out of its host"),
        ("https://media.s3-eu-west-1.amazonaws.com", "leave the bucket's name out of its host"),
    ],
)
def test_the_bucket_in_the_endpoint(tmp_path: Path, endpoint: str, style: str, mend: str) -> None:
    ((line, path, message),) = refused(tmp_path, endpoint=endpoint, addressing_style=style)
    assert (line, path) == (4, "targets[0].endpoint")
    assert message.startswith(mend)


@pytest.mark.parametrize("style", ["path", "virtual"])
@pytest.mark.parametrize(
    "endpoint",
    [
        R2,
        R2_EU + "/",
        "https://proxy/s3",
        "https://proxy/media/s3",
        "https://proxy/social-media",
        "https://proxy/MEDIA",
        "https://media.example.com",  # a store of this name
        "https://media",
        "https://social-media.s3.example.com",
        "https://r2.cloudflarestorage.com.example.org/s3",
        "http://[::1]:9000/s3",
    ],
)
def test_what_only_looks_like_the_bucket(tmp_path: Path, endpoint: str, style: str) -> None:
    assert refused(tmp_path, endpoint=endpoint, addressing_style=style) == []


def test_a_bucket_that_is_named_like_its_account(tmp_path: Path) -> None:
    assert refused(tmp_path, bucket=ACCOUNT, endpoint=R2_EU) == []


def test_what_is_wrong_otherwise_is_said_once(tmp_path: Path) -> None:
    found = refused(tmp_path, bucket="a/b", endpoint="ftp://a/b")
    assert [path for _, path, _ in found] == ["targets[0].bucket", "targets[0].endpoint"]
