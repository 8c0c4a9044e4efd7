"""The examples run as their README says, through an outage and without one."""

import asyncio
import re
import sys
from pathlib import Path

from exporter.demo import DemoStorage

EXAMPLES = Path(__file__).parents[1] / "examples"
DEADLINE = 60.0
SIZE = Path(__file__).stat().st_size


async def run(storage: DemoStorage, example: str, *arguments: str) -> tuple[int | None, str]:
    """Exit code and output of an example that uses this storage."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        EXAMPLES / example,
        *arguments,
        env={
            "AWS_ENDPOINT_URL": storage.endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo",
            "AWS_MAX_ATTEMPTS": "1",
            "PYTHONWARNINGS": "error",
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(DEADLINE):
        output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_every_example_works_with_a_healthy_storage() -> None:
    async with DemoStorage(scene="healthy") as storage:
        code, said = await run(storage, "guarded_client.py", "media", __file__)
        assert (code, said) == (0, f"copied {__file__}\n")
        tries = ("--tries", "2", "--pause", "0.01", "--metrics-port", "0")
        code, said = await run(storage, "guarded_bucket.py", "media", *tries)
        first = said.partition("\n")[0]
        assert first.startswith("metrics: http://127.0.0.1:")
        assert (code, said) == (0, f"{first}\nworks: try 0\nworks: try 1\n")
        key = f"guarded-client-example/{Path(__file__).name}"
        code, said = await run(storage, "guarded_function.py", "media", key, "1")
        assert code == 0
        assert said.startswith(f"{SIZE} bytes\n")
        assert said.endswith("the breaker is closed\n")


async def test_every_example_stops_calling_a_storage_that_fails() -> None:
    async with DemoStorage(scene="failing") as storage:
        code, said = await run(storage, "guarded_client.py", "media", *[__file__] * 4)
        assert (code, said.count("failed: ")) == (1, 3)
        assert re.search(r"^not tried: .* try again in \d+ s$", said, re.MULTILINE)
        tries = ("--tries", "5", "--pause", "0.2", "--metrics-port", "0")
        code, said = await run(storage, "guarded_bucket.py", "media", *tries)
        assert code == 0
        assert "--- closed -> open: failure_threshold" in said
        assert said.count("not tried: circuit breaker media is open; next try in") >= 1
        code, said = await run(storage, "guarded_function.py", "media", "nothing", "3")
        assert (code, said.count("no bytes (from before")) == (0, 6)
        assert said.endswith("the breaker is open\n")


def test_every_example_is_listed() -> None:
    listed = set(re.findall(r"\]\((\w+\.py)\)", EXAMPLES.joinpath("README.md").read_text()))
    assert listed == {path.name for path in EXAMPLES.glob("*.py")}
