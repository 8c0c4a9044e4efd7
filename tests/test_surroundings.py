"""Started by somebody who closes its files, has no room, or sets its environment wrongly: it says so."""

import asyncio
import os
import re
import resource
import signal
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path
from socket import create_server

import pytest

from tests.running import DEADLINE, Client, command, eventually, run, target, write

CLOSED = {"input": "<&-", "output": ">&-", "error": "2>&-", "all": "<&- >&- 2>&-"}
SOMEWHERE = "--web.listen-address=127.0.0.1:0"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write(tmp_path / "exporter.yaml", target("média", "http://127.0.0.1:1", "bucket"))


def files(config: Path) -> list[str]:
    return [f"--config.file={config}", f"--storage.path={config.with_name('r2-exporter.db')}"]


def in_a_shell(redirected: str, *arguments: str) -> list[str]:
    return ["sh", "-c", f'exec "$@" {redirected}', "sh", *command(*arguments)]


def free_address() -> str:
    with closing(create_server(("127.0.0.1", 0))) as passing:
        return f"127.0.0.1:{passing.getsockname()[1]}"


@pytest.mark.parametrize("closed", CLOSED)
async def test_it_serves_without_standard_files(config: Path, closed: str) -> None:
    address = free_address()
    arguments = in_a_shell(CLOSED[closed], "serve", *files(config), f"--web.listen-address={address}")
    exporter = await asyncio.create_subprocess_exec(*arguments, stderr=asyncio.subprocess.PIPE)

    async def ready() -> bool:
        assert exporter.returncode is None
        try:
            return (await Client(f"http://{address}").get("/-/ready"))[0] == 200
        except OSError:
            return False

    try:
        await eventually(ready)
        exporter.terminate()
        async with asyncio.timeout(DEADLINE):
            _, said = await exporter.communicate()
    finally:
        with suppress(ProcessLookupError):
            exporter.kill()
    assert exporter.returncode == 0
    assert b"Traceback" not in said


@pytest.mark.parametrize("closed", ["output", "all"])
def test_a_check_without_standard_files_has_its_status(config: Path, closed: str) -> None:
    arguments = in_a_shell(CLOSED[closed], "check", f"--config.file={config}")
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 1
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("name", "unbuffered"), [("check", ""), ("check", "1"), ("check-config", ""), ("check-config", "1")]
)
def test_a_full_disk_takes_no_output(config: Path, name: str, unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command(name, f"--config.file={config}"),
            stdout=full,
            stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            text=True,
            timeout=DEADLINE,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "r2-exporter: standard output: No space left on device\n"


@pytest.mark.parametrize("arguments", [["check"], ["check-config", "--print"]])
def test_a_terminal_of_ascii_is_shown_what_it_can_show(config: Path, arguments: list[str]) -> None:
    done = run(*arguments, f"--config.file={config}", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert "m\\xe9dia" in done.stdout
    assert done.stderr == ""


@pytest.mark.parametrize("limit", [8, 12])
def test_too_few_open_files_are_named(config: Path, limit: int) -> None:
    done = run(
        *("serve", *files(config), SOMEWHERE),
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
    )
    assert done.returncode == 2
    assert re.fullmatch(f"the limit of open files is {limit}, .*ulimit -n.*\n", done.stderr)


@pytest.mark.parametrize("host", ["a..b", "a" * 64, "a" * 64 + ".example"])
def test_a_host_that_cannot_be_one_is_named(host: str) -> None:
    done = run("serve", f"--web.listen-address={host}:1")
    assert done.returncode == 2
    assert "--web.listen-address" in done.stderr
    assert "Traceback" not in done.stderr


IMPATIENT = """
import os, signal, sys

class Interrupting:
    def find_spec(self, name, *_):
        if name == "exporter.config":
            os.kill(os.getpid(), int(sys.argv[1]))

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupting())
from exporter.__main__ import main
main()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_it_has_loaded_ends_it_without_a_traceback(number: signal.Signals) -> None:
    """By itself: the first process of a container does not end by what has no handler."""
    arguments = [sys.executable, "-c", IMPATIENT, str(int(number))]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 128 + number
    assert done.stderr == ""


PROXIES = {
    "no address": ("serve", "HTTP_PROXY", "http://user:hidden@[::1"),
    "no port": ("check", "http_proxy", "http://user:hidden@proxy:99999999"),
    "no UTF-8": ("serve", "ALL_PROXY", "http://user:hidden@\udcff:1"),
    "no host": ("check", "all_proxy", "http://user:hidden@:3128"),
}


@pytest.mark.parametrize(("command", "name", "url"), PROXIES.values(), ids=PROXIES)
def test_a_proxy_that_cannot_be_one_is_named(config: Path, command: str, name: str, url: str) -> None:
    more = [f"--storage.path={config.with_name('r2-exporter.db')}", SOMEWHERE] if command == "serve" else []
    done = run(command, f"--config.file={config}", *more, env=without_proxies() | {name: url})
    assert done.returncode == 2
    assert done.stderr.startswith(f"the environment: {name}: ")
    assert "hidden" not in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_proxy_that_nothing_goes_through_may_be_anything(config: Path) -> None:
    done = run("check", f"--config.file={config}", env=without_proxies() | {"HTTPS_PROXY": "http://[::1"})
    assert done.returncode == 1
    assert "connect" in done.stdout
    assert done.stderr == ""


def without_proxies() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
