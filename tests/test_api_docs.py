"""docs/api.md keeps its word: its commands run in their order, and are answered as it says."""

import asyncio
import json
import re
import shutil
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.alertmanager.rig import alertmanager
from tests.running import Client, demo_server, eventually, serving_command, target, write

PAGE = Path(__file__).parents[1].joinpath("docs", "api.md").read_text(encoding="utf-8")
BASE = "http://localhost:9977"
TOKEN = "a-token-for-the-commands"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
VARYING = re.compile(r"[0-9a-f-]{32,}|[A-Za-z0-9]{40,}|[A-Z0-9]{16,}|(?<!\w)[0-9][0-9.]*(e[+-]?\d+)?")
"""Digests, request ids and numbers, but no digit of a name."""


@dataclass(frozen=True)
class Example:
    """A command, and what is answered to it."""

    command: str
    status: int
    form: str
    answer: str

    @property
    def reads(self) -> bool:
        """Whether it may be repeated until the exporter is as far as the page is."""
        return "-X" not in self.command


def examples() -> Iterator[Example]:
    """A block of sh, words that may name the status of a refusal, and the answer."""
    pattern = r"^```sh\n(.*?)^```\n((?:(?!```|^#).)*?)^```(json|text)\n(.*?)^```$"
    for command, words, form, answer in re.findall(pattern, PAGE, re.MULTILINE | re.DOTALL):
        named = re.search(r"\b[45]\d\d\b", words)
        yield Example(command, int(named[0]) if named else 200, form, answer)


def yaml_block() -> Any:
    [block] = re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return yaml.safe_load(block)


# --- how an answer differs from the one that the page shows ---


def differences(shown: Any, real: Any, at: str = "answer") -> list[str]:
    """Empty if keys, types, words and truths are the same; a list is shortened on the page."""
    if isinstance(shown, dict) and isinstance(real, dict):
        if shown.keys() != real.keys():
            return [f"{at} has {sorted(real)}, not {sorted(shown)}"]
        return [each for key in shown for each in differences(shown[key], real[key], f"{at}.{key}")]
    if isinstance(shown, list) and isinstance(real, list):
        if bool(shown) != bool(real):
            return [f"{at} is {real}, not {shown}"]
        return [each for item in shown for each in _nearest(item, real, at)]
    same = type(shown) is type(real) and _likened(shown) == _likened(real)
    return [] if same else [f"{at} is {real!r}, not {shown!r}"]


def _nearest(item: Any, items: list[Any], at: str) -> list[str]:
    found = [differences(item, each, f"{at}[{place}]") for place, each in enumerate(items)]
    return min(found, key=len)


def _likened(value: Any) -> Any:
    if isinstance(value, str):
        return likened(value)
    return value if isinstance(value, bool) or value is None else "a number"


def likened(text: str) -> str:
    """A text without what is another one each time."""
    return VARYING.sub("0", TIME.sub("a time", text))


def misfits(example: Example, status: int, answer: str) -> list[str]:
    """In what an answer is not the documented one."""
    if status != example.status:
        return [f"the status is {status}, not {example.status}: {answer}"]
    if example.form == "json":
        return differences(json.loads(example.answer), json.loads(answer))
    lines = [likened(line) for line in answer.splitlines()]
    return [f"no line is {each!r}" for each in example.answer.splitlines() if not _is_among(lines, each)]


def _is_among(lines: list[str], shown: str) -> bool:
    """Dots at the end of a shown line stand for the rest of it, or for lines that are left out."""
    begins = likened(shown.removesuffix("..."))
    return begins in lines or (shown.endswith("...") and any(line.startswith(begins) for line in lines))


def test_a_misfit_of_any_kind_is_found() -> None:
    shown = {"items": [{"state": "open", "at": "2026-01-31T12:00:00Z", "took": 1.5, "of": None}], "ok": True}
    real = {"items": [{"state": "open", "at": "2026-02-01T12:00:00.5Z", "took": 2.5, "of": None}], "ok": True}
    assert differences(shown, real) == []
    for wrong in ({"state": "closed"}, {"at": "today"}, {"took": 1}, {"took": None}, {"of": 1}, {"more": 1}):
        assert len(differences(shown, {**real, "items": [real["items"][0] | wrong]})) == 1  # type: ignore[index]
    for other in ({**real, "ok": False}, {**real, "items": []}, {"ok": True}):
        assert len(differences(shown, other)) == 1
    assert likened('r2_target_up{target="media"} 1.0') == 'r2_target_up{target="media"} 0'


# --- the commands ---


class Shell:
    """Runs the page's commands, with the token in the environment as the page asks for."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url
        # Whatever a command says, the status goes to standard error, where nothing else is then.
        (folder / ".curlrc").write_text('silent\nwrite-out = "%{stderr}%{http_code}"\n')

    async def run(self, example: Example) -> tuple[int, str]:
        """Status and body."""
        curl = shutil.which("curl")
        assert curl, "curl is not installed: `make test` installs it"
        env = {"PATH": f"{Path(curl).parent}:/usr/bin:/bin", "HOME": str(self._folder)}
        process = await asyncio.create_subprocess_exec(
            *("sh", "-euc", example.command.replace(BASE, self._url)),
            stdout=PIPE,
            stderr=PIPE,
            cwd=self._folder,
            env={**env, "R2_EXPORTER_API_TOKEN": TOKEN},
        )
        said, status = await process.communicate()
        assert process.returncode == 0, (example.command, said, status)
        return int(status), said.decode().replace(self._url.rpartition("/")[2], BASE.rpartition("/")[2])


async def follow(shell: Shell, example: Example) -> list[str]:
    """Runs a command, and says in what its answer is not the documented one."""
    found = ["it was not run"]

    async def fits() -> bool:
        nonlocal found
        found = misfits(example, *await shell.run(example))
        return not found or not example.reads

    with suppress(TimeoutError):
        await eventually(fits)
    return found


@asynccontextmanager
async def exporter_of_the_page(folder: Path) -> AsyncIterator[Shell]:
    """Two buckets, of which media fails, with the page's Alertmanager, some time after the start."""
    with demo_server("failing") as storage:
        async with alertmanager(folder / "alertmanager") as receiving:
            names = ("media", "backups")
            targets = [target(name, storage, name, labels={"team": "web"}) for name in names]
            config = write(folder / "exporter.yaml", *targets, alertmanager={"urls": [receiving.url]})
            async with serving_command(config, env={"R2_EXPORTER_API_TOKEN": TOKEN}) as spawned:
                file = folder / "alertmanager" / "alertmanager.yml"
                file.write_text(_alertmanager_config(folder, spawned.url))
                async with receiving.session.post(f"{receiving.url}/-/reload") as answer:
                    assert answer.status == 200, await answer.text()
                client = Client(spawned.url)
                for _ in range(2):
                    status, said = await client.post("/api/health/check", Authorization=f"Bearer {TOKEN}")
                    assert status == 200, said
                yield Shell(folder, spawned.url)


def _alertmanager_config(folder: Path, url: str) -> str:
    """The page's, but with this exporter's address and token, and in a hurry."""
    config = yaml_block()
    config["route"] |= {"group_wait": "10ms"}
    [hook] = config["receivers"][0]["webhook_configs"]
    hook["url"] = hook["url"].replace(BASE, url)
    file = folder / "token"
    file.write_text(TOKEN)
    hook["http_config"]["authorization"]["credentials_file"] = str(file)
    return yaml.safe_dump(config)


async def test_every_command_is_answered_as_the_page_says(tmp_path: Path) -> None:
    async with exporter_of_the_page(tmp_path) as shell:
        for example in examples():
            assert await follow(shell, example) == [], example.command


def test_every_command_is_one_of_curl_with_an_answer() -> None:
    commands = re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    found = list(examples())
    assert [example.command for example in found] == commands
    for example in found:
        assert re.match(r"curl .*" + re.escape(BASE), example.command.replace("\\\n", "")), example.command
