"""The demo: the story's rules, and the real server process that plays it."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from itertools import accumulate
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from hypothesis import given
from hypothesis import strategies as st

from exporter.admission import TargetBreaker
from exporter.breaker import State
from exporter.config import TargetSettings, load_settings
from exporter.demo import BUCKETS, STORY, DemoError, DemoStorage, Scene, scene_at
from exporter.demo.story import (
    HEALTHY_BUCKET,
    INTERNAL_ERROR,
    LOOP_SECONDS,
    SLOW_DOWN,
    TROUBLED_BUCKET,
    seconds_left,
)
from exporter.outcome import Failure, Operation, Outcome, Reason
from tests.running import running

DEADLINE = 30.0

instants = st.floats(min_value=-1e9, max_value=1e9)


@given(instants)
def test_every_instant_has_exactly_one_scene(elapsed: float) -> None:
    ends = list(accumulate(scene.duration for scene in STORY))
    moment = elapsed % LOOP_SECONDS % LOOP_SECONDS
    playing = [scene for scene, end in zip(STORY, ends, strict=True) if end - scene.duration <= moment < end]
    assert playing == [scene_at(elapsed)]


@given(st.integers(0, 10**6), st.integers(0, 10**3))
def test_the_story_loops(elapsed: int, loops: int) -> None:
    assert scene_at(elapsed + loops * LOOP_SECONDS) is scene_at(elapsed)


@given(instants)
def test_a_playing_scene_has_time_left(elapsed: float) -> None:
    assert 0 < seconds_left(elapsed) <= scene_at(elapsed).duration


@given(st.integers(0, 10**6))
def test_the_next_scene_begins_where_one_ends(elapsed: int) -> None:
    following = STORY[(STORY.index(scene_at(elapsed)) + 1) % len(STORY)]
    assert scene_at(elapsed + seconds_left(elapsed)) is following


def test_the_scenes_come_in_order_and_a_loop_can_be_watched() -> None:
    seen = [scene_at(second).name for second in range(int(LOOP_SECONDS))]
    assert list(dict.fromkeys(seen)) == ["healthy", "slow", "throttled", "failing", "back"]
    assert 180 <= LOOP_SECONDS <= 240


@given(st.fractions(0, 1), st.integers(0, 300))
def test_the_share_of_faults_is_exact_at_every_count(share: Fraction, requests: int) -> None:
    scene = Scene("any", "", duration=1, fault=INTERNAL_ERROR, share=share)
    faults = [scene.fault_for(number) for number in range(requests)]
    assert faults.count(INTERNAL_ERROR) == int(requests * share)


async def test_a_healthy_storage_serves_the_five_operations() -> None:
    async with DemoStorage(scene="healthy") as storage:
        for bucket in BUCKETS:
            await asyncio.to_thread(exercise, storage.endpoint, bucket)


def exercise(endpoint: str, bucket: str) -> None:
    with client(endpoint) as s3:
        put = s3.put_object(Bucket=bucket, Key="a b/ü.txt", Body=b"written")
        assert s3.get_object(Bucket=bucket, Key="a b/ü.txt")["Body"].read() == b"written"
        assert s3.head_object(Bucket=bucket, Key="a b/ü.txt")["ContentLength"] == len(b"written")
        assert [item["Key"] for item in s3.list_objects_v2(Bucket=bucket)["Contents"]] == ["a b/ü.txt"]
        s3.delete_object(Bucket=bucket, Key="a b/ü.txt")
        assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert put["ResponseMetadata"]["HTTPHeaders"]["x-amz-request-id"]


async def test_the_failing_scene_fails_each_request_to_one_bucket_alone() -> None:
    async with DemoStorage(scene="failing") as storage:
        errors = await asyncio.to_thread(errors_of, storage.endpoint, "media", requests=4)
        assert [code_and_status(error) for error in errors] == [("InternalError", 500)] * 4
        assert len({error["ResponseMetadata"]["RequestId"] for error in errors}) == 4
        assert await asyncio.to_thread(errors_of, storage.endpoint, "backups", requests=4) == []


async def test_the_throttled_scene_refuses_its_share() -> None:
    async with DemoStorage(scene="throttled") as storage:
        errors = await asyncio.to_thread(errors_of, storage.endpoint, "media", requests=20)
    assert [code_and_status(error) for error in errors] == [("SlowDown", 503)] * 6
    assert {error["Error"]["Message"] for error in errors} == {SLOW_DOWN.message}


async def test_the_slow_scene_delays_and_then_serves() -> None:
    async with DemoStorage(scene="slow") as storage:
        loop = asyncio.get_running_loop()
        start = loop.time()
        assert await asyncio.to_thread(errors_of, storage.endpoint, "media", requests=1) == []
        assert loop.time() - start >= scene_at(STORY[0].duration).delay > 0.5


async def test_the_story_plays_from_its_first_scene() -> None:
    async with DemoStorage() as storage:
        assert await anext(storage.scenes()) is STORY[0]
        assert await asyncio.to_thread(errors_of, storage.endpoint, "media", requests=1) == []


async def test_a_fault_is_answered_after_a_body_larger_than_a_socket_buffer() -> None:
    body = bytes(8 * 2**20)
    async with DemoStorage(scene="failing") as storage:
        errors = await asyncio.to_thread(errors_of, storage.endpoint, "media", requests=1, body=body)
    assert [code_and_status(error) for error in errors] == [("InternalError", 500)]


async def test_the_settings_probe_both_buckets_with_every_operation(tmp_path: Path) -> None:
    async with DemoStorage(scene="healthy") as storage:
        (tmp_path / "demo.yaml").write_text(storage.settings_text(), encoding="utf-8")
        settings = load_settings(tmp_path / "demo.yaml", {})
    assert [target.bucket for target in settings.targets] == list(BUCKETS)
    assert {target.endpoint for target in settings.targets} == {storage.endpoint}
    assert all(set(target.probe.operations) == set(Operation) for target in settings.targets)


@pytest.fixture(scope="module")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> TargetSettings:
    """The demo's own settings for the bucket that the story is about."""
    storage = DemoStorage()
    storage.endpoint = "http://127.0.0.1:1"
    file = tmp_path_factory.mktemp("demo") / "demo.yaml"
    file.write_text(storage.settings_text(), encoding="utf-8")
    (settings,) = [each for each in load_settings(file, {}).targets if each.bucket == TROUBLED_BUCKET]
    return settings


@given(st.floats(0, 1, exclude_max=True), st.integers(0, 9))
def test_the_breaker_bears_all_but_the_failing_scene_and_is_closed_in_the_next(
    troubled: TargetSettings, phase: float, requests: int
) -> None:
    interval, recovery = troubled.probe.interval, troubled.breaker.recovery_timeout
    breaker = TargetBreaker(troubled.breaker, 0.0)
    changes: dict[State, list[float]] = {state: [] for state in State}
    for turn in range(int(2 * LOOP_SECONDS / interval)):
        now = (turn + phase) * interval
        requests = play_a_run(breaker, now, requests)
        for change in breaker.take_transitions():
            changes[change.to_state].append(now)
    failing, back = (
        sum(scene.duration for scene in STORY[: [scene.name for scene in STORY].index(name)])
        for name in ("failing", "back")
    )
    for loop in (0.0, LOOP_SECONDS):
        opened = [at for at in changes[State.OPEN] if loop <= at < loop + LOOP_SECONDS]
        assert failing <= opened[0] - loop < failing + 2 * interval
        assert all(scene_at(at).name == "failing" for at in opened)
        (closed,) = [at for at in changes[State.CLOSED] if loop <= at < loop + LOOP_SECONDS]
        assert back <= closed - loop < back + recovery + interval


def play_a_run(breaker: TargetBreaker, now: float, requests: int) -> int:
    """A run of every operation at `now`; `requests` are those that the storage has had before, and after."""
    admission, stored = breaker.begin_run(tuple(Operation), now), False
    for operation in admission.order:
        if not admission.admit(operation, now):
            continue
        fault, requests = scene_at(now).fault_for(requests), requests + 1
        failure = None if fault is None else Failure(Reason.SERVER, fault.message)
        stored = operation is Operation.PUT or (
            stored and not (operation is Operation.DELETE and not failure)
        )
        admission.observe(Outcome(TROUBLED_BUCKET, operation, now, 0.01, failure=failure), now)
    admission.end()
    return requests + stored  # what may be left is deleted after the run


async def test_the_breaker_opens_in_the_failing_scene_for_one_bucket_alone(tmp_path: Path) -> None:
    async with DemoStorage(scene="failing") as storage:
        config = tmp_path / "demo.yaml"
        config.write_text(storage.settings_text(), encoding="utf-8")
        async with running(config) as exporter:
            for bucket in BUCKETS * 3:  # two runs fail often enough
                await exporter.get(f"/probe?target={bucket}")
            samples = await exporter.metrics()
    assert samples("r2_circuit_breaker_state", target=TROUBLED_BUCKET, state="open") == 1
    assert samples("r2_circuit_breaker_state", target=HEALTHY_BUCKET, state="closed") == 1
    assert samples("r2_probes_total", target=TROUBLED_BUCKET, result="failure") >= 10
    assert samples("r2_probes_skipped_total", target=TROUBLED_BUCKET, reason="circuit_open") >= len(Operation)


async def test_leaving_the_storage_ends_its_process() -> None:
    async with DemoStorage(scene="healthy") as storage:
        assert await answers(storage.endpoint)
    assert not await answers(storage.endpoint)


async def test_a_killed_parent_takes_the_storage_along() -> None:
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, stdout=PIPE, stderr=PIPE)
    try:
        assert parent.stdout is not None
        endpoint = (await parent.stdout.readline()).decode().strip()
        assert await answers(endpoint)
    finally:
        parent.send_signal(signal.SIGKILL)
    async with asyncio.timeout(DEADLINE):
        await (
            parent.communicate()
        )  # the storage holds the same standard error: it ends with the last of the two
    assert not await answers(endpoint)


PARENT = """
import asyncio
from exporter.config import load_settings
from exporter.demo import DemoStorage

async def main():
    async with DemoStorage(scene="healthy") as storage:
        print(storage.endpoint, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


async def test_a_parent_killed_while_the_storage_starts_leaves_no_traceback() -> None:
    reader, writer = os.pipe()
    server = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "exporter.demo.server", stdin=DEVNULL, stdout=writer, stderr=PIPE
    )
    os.close(writer)
    os.close(reader)  # as soon as the parent is no more
    async with asyncio.timeout(DEADLINE):
        _, said = await server.communicate()
    assert said.decode() == ""


async def test_a_taken_port_is_an_error_that_names_it(capfd: pytest.CaptureFixture[str]) -> None:
    async with DemoStorage(scene="healthy") as storage:
        port = urlsplit(storage.endpoint).port
        assert port is not None
        with pytest.raises(DemoError, match="ended before it answered"):
            await DemoStorage(port=port).__aenter__()
    assert str(port) in capfd.readouterr().err


async def test_without_the_extra_the_error_names_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "moto", None)
    with pytest.raises(DemoError, match=r"pip install 'r2-exporter\[demo\]'"):
        await DemoStorage().__aenter__()


@contextmanager
def client(endpoint: str) -> Iterator[Any]:
    config = Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1})
    s3: Any = boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="demo",
        aws_secret_access_key="demo-needs-no-secret",
        config=config,
    )
    try:
        yield s3
    finally:
        s3.close()


def errors_of(endpoint: str, bucket: str, *, requests: int, body: bytes = b"x") -> list[Any]:
    """The S3 errors that this many PUTs to the bucket get."""
    errors = []
    with client(endpoint) as s3:
        for number in range(requests):
            try:
                s3.put_object(Bucket=bucket, Key=str(number), Body=body)
            except ClientError as error:
                errors.append(error.response)
    return errors


def code_and_status(error: Any) -> tuple[str, int]:
    return error["Error"]["Code"], error["ResponseMetadata"]["HTTPStatusCode"]


async def answers(endpoint: str) -> bool:
    url = urlsplit(endpoint)
    try:
        _, writer = await asyncio.open_connection(url.hostname, url.port)
    except OSError:
        return False
    writer.close()
    await writer.wait_closed()
    return True
