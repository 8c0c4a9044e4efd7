"""The commands as users start them: what they print, how they exit, and what they leave behind."""

import asyncio
import json
import os
import pty
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
import trustme

from exporter import __version__
from exporter.cli import parse_listen
from exporter.outcome import Operation
from tests.running import (
    SECRET,
    Client,
    command,
    demo_server,
    eventually,
    gate,
    new_bucket,
    objects_in,
    run,
    serving_command,
    spawned,
    target,
    until,
    write,
)

ALL = {"interval": "1s", "operations": [str(operation) for operation in Operation]}
COMMANDS = ["serve", "demo", "check", "check-config", "healthcheck"]

WEB_AND_LOG = ["--web.listen-address", "--web.config.file", "--log.level", "--log.format"]


@pytest.fixture(scope="module")
def storage() -> Iterator[str]:
    with demo_server() as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def failing_storage() -> Iterator[str]:
    with demo_server("failing") as endpoint:
        yield endpoint


@pytest.fixture
def config(tmp_path: Path, storage: str) -> Path:
    return write(tmp_path / "exporter.yaml", target("media", storage, new_bucket(storage), probe=ALL))


# --- help and flags ---


def test_the_version() -> None:
    done = run("--version")
    assert (done.returncode, done.stdout) == (0, f"r2-exporter {__version__}\n")


def test_help_names_every_command_and_the_first_steps() -> None:
    done = run("--help")
    assert done.returncode == 0
    assert "r2-exporter demo" in done.stdout
    for name in COMMANDS:
        assert name in done.stdout


@pytest.mark.parametrize(
    ("name", "flags"),
    [
        (
            "serve",
            ["--config.file", "--storage.path", "--shard", "--total-shards", *WEB_AND_LOG],
        ),
        ("demo", WEB_AND_LOG),
        ("check", ["--config.file", "--target", "--output"]),
        ("check-config", ["--config.file", "--print"]),
        ("healthcheck", ["--url"]),
    ],
)
def test_help_of_a_command_names_its_flags(name: str, flags: list[str]) -> None:
    done = run(name, "--help")
    assert done.returncode == 0
    assert set(re.findall(r"^  (--[\w.-]+)", done.stdout, re.MULTILINE)) == set(flags)


def test_no_command_says_which_there_are() -> None:
    done = run()
    assert done.returncode == 2
    assert "COMMAND" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("text", "address"),
    [(":9977", ("", 9977)), ("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:80", ("::1", 80))],
)
def test_listen_addresses(text: str, address: tuple[str, int]) -> None:
    assert parse_listen(text) == address


@pytest.mark.parametrize("text", ["9977", "localhost", "host:http", "::1:80", "host:65536", ":-1", ":٣"])
def test_a_wrong_listen_address_is_named(text: str) -> None:
    done = run("serve", f"--web.listen-address={text}")
    assert done.returncode == 2
    assert "--web.listen-address" in done.stderr
    assert "Traceback" not in done.stderr


# --- configuration ---


@pytest.mark.parametrize("name", ["serve", "check", "check-config"])
def test_without_a_config_file_it_says_what_is_missing_and_how_to_see_a_demo(
    name: str, tmp_path: Path
) -> None:
    done = run(name, cwd=tmp_path)
    assert done.returncode == 2
    assert "exporter.yaml" in done.stderr
    assert "r2-exporter demo" in done.stderr
    assert "Traceback" not in done.stderr


def test_check_config_accepts_and_prints_with_secrets_masked(config: Path) -> None:
    done = run("check-config", f"--config.file={config}")
    assert (done.returncode, done.stdout) == (0, f"{config}: valid, 1 target\n")
    printed = run("check-config", f"--config.file={config}", "--print")
    assert printed.returncode == 0
    assert "interval: 1s" in printed.stdout
    assert "***" in printed.stdout
    assert SECRET not in printed.stdout + printed.stderr


def test_check_config_says_every_error_with_its_line(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text(
        "probe: {intervall: 1s}\ntargets:\n  - name: media\n    bucket: b\n    endpoint: ftp://x\n"
    )
    done = run("check-config", f"--config.file={file}")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    assert any(":1: probe.intervall" in line and 'did you mean "interval"' in line for line in lines)
    assert any(":4: targets[0].bucket" in line for line in lines)
    assert any(":5: targets[0].endpoint" in line for line in lines)


# --- check ---


def test_check_prints_plain_lines_and_exits_0(config: Path, storage: str) -> None:
    done = run("check", f"--config.file={config}")
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[:3] for line in lines[:-1]] == [["media", str(op), "ok"] for op in Operation]
    assert lines[-1] == "1 of 1 targets healthy"
    assert done.stderr == ""


def test_check_says_why_and_what_to_look_at_once_and_exits_1(tmp_path: Path, storage: str) -> None:
    config = write(tmp_path / "exporter.yaml", target("lost", storage, "no-such-bucket", probe=ALL))
    done = run("check", f"--config.file={config}")
    assert done.returncode == 1
    assert "lost put client" in done.stdout
    assert "NoSuchBucket" in done.stdout
    assert "0 of 1 targets healthy" in done.stdout
    assert done.stdout.count("Check `bucket`") == 1


def test_check_gives_json_to_scripts(config: Path) -> None:
    done = run("check", f"--config.file={config}", "--output=json")
    results = json.loads(done.stdout)
    assert [result["operation"] for result in results] == [str(operation) for operation in Operation]
    assert all(result["success"] and result["durationSeconds"] > 0 for result in results)
    assert SECRET not in done.stdout


def test_check_of_one_target(tmp_path: Path, storage: str, failing_storage: str) -> None:
    bucket = new_bucket(storage)
    config = write(
        tmp_path / "exporter.yaml",
        target("good", storage, bucket, probe=ALL),
        target("bad", failing_storage, "media", probe=ALL),
    )
    assert run("check", f"--config.file={config}", "--target=good").returncode == 0
    assert run("check", f"--config.file={config}", "--target=bad").returncode == 1
    assert run("check", f"--config.file={config}").returncode == 1
    unknown = run("check", f"--config.file={config}", "--target=ugly")
    assert unknown.returncode == 2
    assert "ugly" in unknown.stderr
    assert "bad, good" in unknown.stderr


def test_check_shows_a_table_and_its_progress_on_a_terminal(config: Path) -> None:
    printed = on_a_terminal("check", f"--config.file={config}")
    assert re.search(r"target\s+operation\s+result\s+time\s+detail", printed)
    assert "probing" in printed
    assert "1 of 1 targets healthy" in printed


def on_a_terminal(*arguments: str) -> str:
    """What the command writes to a terminal 120 columns wide."""
    leader, follower = pty.openpty()
    env = os.environ | {"COLUMNS": "120", "TERM": "xterm"}
    with subprocess.Popen(command(*arguments), stdout=follower, stderr=follower, env=env):
        os.close(follower)
        chunks = []
        try:
            while chunk := os.read(leader, 4096):
                chunks.append(chunk)
        except OSError:
            pass  # the terminal closes with the last writer
    os.close(leader)
    return re.sub(r"\x1b\[[0-9;?]*\w", "", b"".join(chunks).decode())


def test_a_reader_that_leaves_is_no_traceback(config: Path) -> None:
    with subprocess.Popen(
        command("check-config", f"--config.file={config}", "--print"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


# --- serve ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_cleanly_in_the_middle_of_a_run(
    number: signal.Signals, tmp_path: Path, storage: str
) -> None:
    bucket = new_bucket(storage)
    async with gate(storage) as front:
        config = write(tmp_path / "exporter.yaml", target("media", front.url, bucket, probe=ALL))
        async with serving_command(config) as exporter:
            await eventually(
                lambda: Client(exporter.url).has_more(0, "r2_probes_total", operation="put", result="success")
            )
            front.close()
            await until(lambda: front.held > 0)
            ending = asyncio.create_task(exporter.end(number))
            await until(lambda: exporter.said("stopping"))
            front.open()
            assert await ending == 0
    assert objects_in(storage, bucket) == 0
    assert "msg=stopped " in exporter.lines[-1]
    assert not exporter.said("Traceback")


async def test_a_taken_port_is_named(config: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        async with spawned("serve", f"--config.file={config}", f"--web.listen-address={address}") as exporter:
            assert await asyncio.wait_for(exporter.process.wait(), 30) == 1
    [line] = exporter.said("cannot listen")
    assert address in line
    assert not exporter.said("Traceback")


async def test_one_line_for_each_change_and_none_for_a_good_probe(tmp_path: Path, storage: str) -> None:
    bucket = new_bucket(storage)
    with closing(socket.create_server(("127.0.0.1", 0))) as refusing:
        endpoint = f"http://127.0.0.1:{refusing.getsockname()[1]}"
    config = write(
        tmp_path / "exporter.yaml",
        target("good", storage, bucket, probe=ALL),
        target("bad", endpoint, bucket, probe=ALL, breaker={"failure_threshold": 100}),
    )
    async with serving_command(config, "--log.level=debug", "--log.format=json") as exporter:
        client = Client(exporter.url)
        for name, result in (("good", "success"), ("bad", "failure")):
            await eventually(
                partial(client.has_more, 2, "r2_probes_total", target=name, operation="delete", result=result)
            )
        assert await exporter.end() == 0
    events = [json.loads(line) for line in exporter.lines]
    changes = [event for event in events if event["msg"] == "operation fails"]
    assert [change["operation"] for change in changes] == [str(operation) for operation in Operation]
    assert {(change["target"], change["reason"]) for change in changes} == {("bad", "connect")}
    assert not [event for event in events if event.get("target") == "good"]
    assert SECRET not in "\n".join(exporter.lines)


# --- healthcheck ---


async def test_healthcheck(config: Path) -> None:
    async with serving_command(config) as exporter:
        url = f"{exporter.url}/-/healthy"
        assert (await asyncio.to_thread(run, "healthcheck", f"--url={url}")).returncode == 0
    gone = run("healthcheck", f"--url={url}")
    assert gone.returncode == 1
    assert url in gone.stderr
    assert "Traceback" not in gone.stderr


async def test_healthcheck_of_an_exporter_with_tls_and_a_login(config: Path, tmp_path: Path) -> None:
    certificate = trustme.CA().issue_cert("localhost")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    web_config = tmp_path / "web.yml"
    web_config.write_text(
        "tls_server_config: {cert_file: server.pem, key_file: server.pem}\n"
        "basic_auth_users: {admin: $2y$04$uhpPtPrBGsgdkFFbHjGVSOgVs9mDiOg3oNHZhg7eK1Dg8c2/hKUyG}\n"
    )
    async with serving_command(config, f"--web.config.file={web_config}") as exporter:
        assert exporter.url.startswith("https://")
        checked = await asyncio.to_thread(run, "healthcheck", f"--url={exporter.url}/-/healthy")
        assert checked.returncode == 0, checked.stderr


# --- demo ---


async def test_the_demo_shows_around_and_has_successes_of_all_five_operations() -> None:
    async with spawned("demo", "--web.listen-address=127.0.0.1:0") as exporter:
        await until(lambda: exporter.said("probing"))
        client = Client(exporter.url)
        for operation in Operation:
            await eventually(
                partial(
                    client.has_more,
                    0,
                    "r2_probes_total",
                    target="media",
                    operation=operation,
                    result="success",
                )
            )
        assert exporter.said("demo scene", "healthy")
        assert await exporter.end(signal.SIGINT) == 0
        assert exporter.process.stdout is not None
        shown = (await exporter.process.stdout.read()).decode()
    assert f"{exporter.url}/metrics" in shown
    assert not exporter.said("Traceback")


async def test_the_demo_ends_cleanly_though_its_storage_has_died() -> None:
    async with spawned("demo", "--web.listen-address=127.0.0.1:0") as exporter:
        await until(lambda: exporter.said("probing"))
        [storage] = children_of(exporter.process.pid)
        os.kill(storage, signal.SIGKILL)
        await until(lambda: not children_of(exporter.process.pid))
        assert await exporter.end() == 0
    assert not exporter.said("Traceback")


def children_of(process: int) -> list[int]:
    return [*map(int, Path(f"/proc/{process}/task/{process}/children").read_text().split())]


def test_the_demo_without_its_extra_says_how_to_get_it(tmp_path: Path) -> None:
    hide = "import sys; sys.modules['moto'] = None; from exporter.cli import main; main(['demo'])"
    done = subprocess.run(
        [sys.executable, "-c", hide], capture_output=True, text=True, timeout=30, check=False, cwd=tmp_path
    )
    assert done.returncode == 1
    assert "pip install 'r2-exporter[demo]'" in done.stderr
    assert "Traceback" not in done.stderr
