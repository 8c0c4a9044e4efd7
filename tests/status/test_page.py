"""The page as an answer over HTTP: few targets and many, with a history and without."""

import gc
import re
from pathlib import Path
from urllib.parse import urljoin

import aiohttp

from exporter.web.status.selection import ROWS, Asked, Selection, key_of
from tests.running import Client, eventually, new_bucket, running, target, until, write
from tests.status.rig import probe, two_targets

ROW = re.compile(r'<details class="target (\w+)" id="t-(\w+)"')
MANY = 500


async def rows(exporter: Client, query: str = "") -> list[tuple[str, str]]:
    """Status and key of each target shown."""
    status, page = await exporter.get(f"/{query}")
    assert status == 200
    return ROW.findall(page)


async def test_of_hundreds_the_failing_ones_come_first_and_the_rest_page_by_page(config: Path) -> None:
    names = [f"t{number:03}" for number in range(MANY)]
    write(config, *(target(name, "http://127.0.0.1:1", "media", labels={"team": name[:2]}) for name in names))
    async with running(config) as exporter:
        await probe(exporter, "t123", "t456")
        first = await rows(exporter)
        assert first[:2] == [("unhealthy", key_of("t123")), ("unhealthy", key_of("t456"))]
        shown = [
            each for page in range(1, MANY // ROWS + 1) for each in await rows(exporter, f"?page={page}")
        ]
        assert {key for _, key in shown} == {key_of(name) for name in names}
        assert len(shown) == MANY
        assert await rows(exporter, "?page=999") == await rows(exporter, f"?page={MANY // ROWS}")
        assert await rows(exporter, "?state=unhealthy") == first[:2]
        assert [key for _, key in await rows(exporter, "?q=T45%20team")] == [
            key_of(name) for name in ("t456", *(f"t45{digit}" for digit in "012345789"))
        ]
        _, page = await exporter.get("/")
        assert "2 of 500 targets are down, 498 unknown" in page
        assert "Page 1 of 10, 500 targets" in page
        # Details come with those that are opened alone.
        assert page.count("<table>") == 2
        every = "&".join(f"open={key}" for _, key in first)
        assert (await exporter.get(f"/?{every}"))[1].count("<table>") <= ROWS / 2


async def test_the_only_target_is_shown_with_everything(config: Path, storage: str) -> None:
    write(config, target("media", storage, new_bucket(storage)))
    async with running(config) as exporter:
        _, page = await exporter.get("/")
        assert "The only target is unknown" in page
        assert page.count("not yet") == 3
        await probe(exporter, "media")
        _, page = await exporter.get("/")
        assert "The only target is up" in page
        assert page.count("<table>") == 1


async def test_a_page_that_was_sent_is_no_work_for_the_garbage_collector(
    config: Path, failing: str, storage: str
) -> None:
    """It looks at the oldest once in an hour or so: until then, all that pages had told of would stay."""
    two_targets(config, failing, storage, new_bucket(storage))
    async with running(config) as exporter:
        await probe(exporter, "media", "backups")
        await rows(exporter)  # which compiles the templates
        gc.collect()
        gc.disable()
        try:
            assert len(await rows(exporter)) == 2
            await until(lambda: not any(isinstance(each, Asked | Selection) for each in gc.get_objects()))
        finally:
            gc.enable()


async def test_it_answers_without_a_history_and_says_so(config: Path, failing: str, storage: str) -> None:
    two_targets(config, failing, storage, new_bucket(storage))
    # A folder in the file's place can be neither read nor written.
    config.with_name("r2-exporter.db").mkdir()
    async with running(config) as exporter:
        await probe(exporter, "media", "backups")
        status, page = await exporter.get("/")
        assert status == 200
        assert "The history is unavailable:" in page
        assert "1 of 2 targets is down, 1 up" in page
        assert "open, next try in " in page
        # What raised an alert is known all the same; only resolving it has to wait.
        assert "service degraded" in page
        assert "data-alert=" not in page
        config.with_name("r2-exporter.db").rmdir()

        async def is_back() -> bool:
            return "The history is unavailable" not in (await exporter.get("/"))[1]

        await eventually(is_back)


async def test_what_makes_no_sense_in_the_address_is_passed_over(config: Path) -> None:
    write(config, target("media", "http://127.0.0.1:1", "media"))
    async with running(config) as exporter:
        for query in (
            "?page=0",
            "?page=-1",
            "?page=%C2%B2",
            "?page=" + "9" * 99,
            "?state=on",
            "?open=x",
            "?q=",
        ):
            assert len(await rows(exporter, query)) == 1, query


async def test_its_script_style_and_icon_may_be_kept_under_names_that_change_with_them(config: Path) -> None:
    write(config, target("media", "http://127.0.0.1:1", "media"))
    async with running(config) as exporter, aiohttp.ClientSession() as session:
        _, page = await exporter.get("/")
        found = re.findall(r'(?:src|href)="(status[^"]+)"', page)
        assert [name.partition("?")[0] for name in found] == ["status-unknown.svg", "status.css", "status.js"]
        for name in found:
            assert re.fullmatch(r"[\w.-]+\?[0-9a-f]{12}", name)
            async with session.get(urljoin(exporter.url, name)) as answer:
                assert answer.status == 200
                assert "immutable" in answer.headers["Cache-Control"]
                assert answer.content_type in ("image/svg+xml", "text/css", "text/javascript")
        async with session.get(exporter.url) as answer:
            assert answer.headers["Cache-Control"] == "no-store"
