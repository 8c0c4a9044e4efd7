import io
import json
import logging
import re
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from exporter import logs
from exporter.config.values import Secret
from exporter.masking import mask, register_secrets
from tests.spelling import forget_secrets

TS = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    forget_secrets()
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers, root.level = before[0], before[1]
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()
    forget_secrets()


def configured(fmt: str = "logfmt", level: str = "debug") -> io.StringIO:
    stream = io.StringIO()
    logs.configure(level, "json" if fmt == "json" else "logfmt", logging.StreamHandler(stream))
    return stream


def test_logfmt_line_has_time_level_message_logger_then_the_fields() -> None:
    stream = configured()
    structlog.get_logger("exporter.probe").info("target is down", target="media", seconds=1.5, up=False)
    pattern = (
        rf'ts={TS} level=info msg="target is down" logger=exporter.probe target=media seconds=1.5 up=false'
    )
    assert re.fullmatch(pattern + "\n", stream.getvalue())


def test_json_line_holds_the_same() -> None:
    stream = configured("json")
    structlog.get_logger("exporter.probe").warning("slow", phases={"connect": 0.25}, status=None)
    event = json.loads(stream.getvalue())
    assert re.fullmatch(TS, event.pop("ts"))
    assert event == {
        "level": "warn",
        "msg": "slow",
        "logger": "exporter.probe",
        "phases": {"connect": 0.25},
        "status": None,
    }


def test_foreign_loggers_come_out_in_the_same_form() -> None:
    stream = configured()
    logging.getLogger("aiohttp.server").error("failed for %s", "10.0.0.1")
    assert re.fullmatch(
        rf'ts={TS} level=error msg="failed for 10.0.0.1" logger=aiohttp.server\n', stream.getvalue()
    )


def test_level_filters_and_a_second_configure_replaces_the_first() -> None:
    first = configured(level="debug")
    second = configured(level="warn")
    log = structlog.get_logger("a")
    log.info("quiet")
    log.warning("loud")
    assert first.getvalue() == ""
    assert second.getvalue().count("\n") == 1
    assert "msg=loud" in second.getvalue()


@pytest.mark.parametrize("name", ["botocore.auth", "urllib3.connectionpool", "boto3", "aiohttp.access"])
def test_loggers_that_print_signatures_stay_quiet_at_debug(name: str) -> None:
    stream = configured(level="debug")
    logging.getLogger(name).debug("StringToSign: abc")
    logging.getLogger(name).info("CanonicalRequest: abc")
    logging.getLogger(name).warning("worth knowing")
    assert stream.getvalue().count("\n") == 1


def test_unknown_level_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        logs.configure("loud", "logfmt", logging.StreamHandler(io.StringIO()))


@pytest.mark.parametrize("fmt", ["logfmt", "json"])
def test_secrets_never_reach_a_line(fmt: str) -> None:
    secret = 'aB/3"\\x+é y='
    register_secrets([secret, Secret("t0ken-of-the-api")])
    stream = configured(fmt)
    log = structlog.get_logger("a")

    def fail() -> None:
        raise RuntimeError("refused", secret, "t0ken-of-the-api")

    try:
        fail()
    except RuntimeError:
        log.exception("failed", where={"inner": [f"<{secret}>"]})
        logging.getLogger("asyncio").exception("key %s", secret)
    log.info(f"with {secret}", url="https://h/?k=aB%2F3%22%5Cx%2B%C3%A9%20y%3D")
    log.info("typed", value=Secret("anything"), nested={"deep": Secret("anything")})
    log.info("keys", secret_access_key="anything", headers={"X-Amz-Security-Token": "anything"})
    log.info("text", signed="Authorization: AWS4-HMAC-SHA256 Credential=anything, Signature=anything")
    written = stream.getvalue()
    assert written.count("\n") == 6
    assert "RuntimeError" in written
    assert "Traceback" in written
    for leak in ("aB/3", "t0ken", "anything", "%2F3"):
        assert leak not in written


def test_paths_and_empty_values_are_no_secrets() -> None:
    stream = configured()
    structlog.get_logger("a").info("x", token_file="/run/token", token="", password=None)
    assert stream.getvalue().endswith('token_file=/run/token token="" password=\n')


def test_fields_cannot_replace_the_line_s_own() -> None:
    stream = configured("json")
    structlog.get_logger("a").info("real", msg="fake", level="fake", logger="fake")
    event = json.loads(stream.getvalue())
    assert (event["msg"], event["level"], event["logger"]) == ("real", "info", "a")
    assert event["msg_"] == "fake"


@given(st.text(), st.text())
def test_one_event_is_one_line_that_reads_back(message: str, value: str) -> None:
    for fmt in ("logfmt", "json"):
        stream = configured(fmt)
        structlog.get_logger("a").info(message, value=value)
        line, rest = stream.getvalue().split("\n", 1)
        assert rest == ""
        assert line.splitlines() == [line]
        assert line.isprintable()
        if fmt == "json":
            assert json.loads(line)["value"] == mask(value)


@given(st.text(st.characters(exclude_characters="<*>"), min_size=4))
def test_a_registered_secret_is_masked_in_any_text(secret: str) -> None:
    register_secrets([secret])
    stream = configured("json")
    structlog.get_logger("a").info("found", value=f"<{secret}>")
    assert json.loads(stream.getvalue())["value"] == "<***>"
