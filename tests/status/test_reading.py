"""Reading the page in a real browser: on a phone, in the dark, by keyboard, without JavaScript, safely."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Browser, expect

from exporter.outcome import Operation
from tests.faults.server import fault_server, s3_error, send
from tests.running import Running, new_bucket, running, target, write
from tests.status.rig import HOSTILE, Reader, probe, reading, two_targets

pytestmark = pytest.mark.asyncio(loop_scope="module")

PHONE: dict[str, Any] = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}


@pytest_asyncio.fixture(loop_scope="module")
async def exporter(config: Path, failing: str, storage: str) -> AsyncIterator[Running]:
    """One target down, with an alert, and one up."""
    two_targets(config, failing, storage, new_bucket(storage))
    async with running(config) as it:
        await probe(it, "media", "backups")
        yield it


async def test_names_and_messages_are_shown_as_the_text_that_they_are(browser: Browser, config: Path) -> None:
    async with fault_server() as storage:
        refusal = s3_error(403, HOSTILE, HOSTILE, X_Amz_Request_Id="<b>id</b>")
        storage.script.update(dict.fromkeys(Operation, send(refusal)))
        write(config, target(HOSTILE, storage.endpoint, "media", labels={"team": HOSTILE}))
        async with running(config) as exporter, reading(browser, exporter.url) as reader:
            await reader.page.get_by_role("button", name="Check now").click()
            await expect(reader.page.locator("output").last).to_contain_text("put failed")
            await expect(reader.page.locator(".who b")).to_have_text(HOSTILE)
            await expect(reader.page.locator(".why")).to_contain_text(HOSTILE)
            await expect(reader.page.locator(".reasons")).to_contain_text("<script>alert(1)</script>")
            for entry in await reader.page.locator("details.probe > summary").all():
                await entry.click()
            await expect(reader.page.locator("details.probe dl").first).to_contain_text("<b>id</b>")
            await reader.page.get_by_role("searchbox").fill(HOSTILE)
            await expect(reader.page.locator("details.target")).to_have_count(1)
            assert await reader.page.locator("script, img, main b b").count() == 1  # the page's own script


async def test_a_refresh_keeps_what_is_open_typed_and_focused(browser: Browser, exporter: Running) -> None:
    async with reading(browser, exporter.url) as reader:
        await reader.target("backups").locator("summary").first.click()
        backups = reader.target("backups")
        entry = backups.locator("details.probe").first
        number = await entry.get_attribute("id")
        await entry.locator("summary").click()
        await reader.target("media").locator("summary").first.click()
        await entry.locator("summary").focus()
        for _ in range(5):  # ten newer results, so that it would have left the list
            await probe(exporter, "backups")
        await reader.refresh()
        kept = backups.locator(f"#{number}")
        await expect(backups.locator("details.probe").first).not_to_have_attribute("id", str(number))
        await expect(kept).to_have_attribute("open", "")
        await expect(kept.locator("summary")).to_be_focused()
        await expect(reader.target("media")).not_to_have_attribute("open", "")
        await kept.locator("summary").click()
        await reader.refresh()
        await expect(kept).to_have_count(0)


async def test_a_target_that_is_opened_brings_its_details(browser: Browser, exporter: Running) -> None:
    async with reading(browser, exporter.url) as reader:
        backups = reader.target("backups")
        await expect(backups.locator("table")).to_have_count(0)
        await backups.locator("summary").first.click()
        await expect(backups.locator("tbody tr")).to_have_count(3)
        entry = backups.locator("details.probe").first
        await entry.locator("summary").click()
        for words in ("HTTP status", "Request id", "Phases", "processing"):
            await expect(entry.locator("dl")).to_contain_text(words)


async def test_a_failure_says_what_to_look_at(browser: Browser, config: Path, storage: str) -> None:
    write(config, target("media", storage, "no-such-bucket"))
    async with running(config) as exporter:
        await probe(exporter, "media")
        async with reading(browser, exporter.url) as reader:
            entry = reader.page.locator("section", has_text="Failures kept").locator("details.probe").first
            await entry.locator("summary").click()
            for words in ("What to look at", "Check `bucket`", "404", "NoSuchBucket", "Request id"):
                await expect(entry).to_contain_text(words)


async def test_a_filter_narrows_the_rows_and_stays_in_the_address(
    browser: Browser, exporter: Running
) -> None:
    async with reading(browser, exporter.url) as reader:
        await reader.page.get_by_role("searchbox").press_sequentially("backu")
        await expect(reader.page.locator("details.target")).to_have_count(1)
        await expect(reader.page).to_have_url(f"{exporter.url}/?q=backu")
        await expect(reader.page.get_by_role("searchbox")).to_be_focused()
        await reader.page.reload()
        await expect(reader.page.locator("details.target b").first).to_have_text("backups")
        await reader.page.get_by_role("searchbox").fill("nothing like it")
        await expect(reader.page.get_by_text("No target fits.")).to_be_visible()
        await reader.page.get_by_role("link", name="Show all").click()
        await reader.page.get_by_role("link", name="down 1").click()
        await expect(reader.page.locator("details.target b").first).to_have_text("media")
        await expect(reader.page.locator("details.target")).to_have_count(1)


async def test_an_exporter_that_is_gone_is_said(browser: Browser, config: Path, storage: str) -> None:
    write(config, target("media", storage, new_bucket(storage)))
    async with running(config) as exporter, reading(browser, exporter.url, expected="ERR_") as reader:
        await expect(reader.page.locator("#verdict")).to_be_visible()
        await exporter.server.stop()
        await reader.page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")
        await expect(reader.page.locator("#done")).to_contain_text("the exporter does not answer")


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1280, "light")])
async def test_it_is_accessible(browser: Browser, exporter: Running, width: int, scheme: str) -> None:
    options: dict[str, Any] = {
        "color_scheme": scheme,
        "viewport": {"width": width, "height": 900},
        "bypass_csp": True,
    }
    async with reading(browser, exporter.url, **options) as reader:
        await everything_opened(reader)
        found = await Axe().run(reader.page)
        assert [f"{each['id']}: {each['nodes'][0]['html']}" for each in found.response["violations"]] == []
        await reader.page.evaluate("document.getElementById('ask').showModal()")
        found = await Axe().run(reader.page, context="#ask")
        assert [each["id"] for each in found.response["violations"]] == []


async def test_light_and_dark_are_told_apart(browser: Browser, exporter: Running) -> None:
    grounds = []
    for scheme in ("light", "dark"):
        async with reading(browser, exporter.url, color_scheme=scheme) as reader:
            grounds.append(await reader.page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert grounds == ["rgb(247, 247, 245)", "rgb(15, 18, 20)"]


async def test_a_phone_shows_it_without_scrolling_sideways(browser: Browser, exporter: Running) -> None:
    async with reading(browser, exporter.url, **PHONE) as reader:
        await everything_opened(reader)
        seen = "[...document.querySelectorAll('main *, header *')]"
        wide = "(e) => !e.closest('.scroll, .hidden, svg')"
        beyond = (
            f"{seen}.filter({wide} && e.getBoundingClientRect().right > innerWidth).map((e) => e.outerHTML)"
        )
        assert await reader.page.evaluate(beyond) == []
        assert await reader.page.evaluate("document.documentElement.scrollWidth") <= 360


async def test_a_keyboard_is_enough(browser: Browser, exporter: Running) -> None:
    async with reading(browser, exporter.url) as reader:
        await reader.page.keyboard.press("Tab")
        await expect(reader.page.get_by_text("Skip to the targets")).to_be_focused()
        await reader.page.keyboard.press("Enter")
        await tab_to(reader, "summary", "backups")
        await reader.page.keyboard.press("Enter")
        await expect(reader.button("Check now", "backups")).to_be_visible()
        await tab_to(reader, "button", "Check now", of="backups")
        await reader.page.keyboard.press("Enter")
        await expect(reader.target("backups").locator("output")).to_contain_text("delete")
        await expect(reader.button("Check now", "backups")).to_be_focused()
        await reader.target("media").locator("summary").first.focus()
        await tab_to(reader, "button", "Reset breaker", of="media")
        await reader.page.keyboard.press("Enter")
        # The button is gone: what was focused falls back to the target, and not to another button.
        await expect(reader.target("media").locator("summary").first).to_be_focused()


async def test_it_works_without_javascript(browser: Browser, exporter: Running) -> None:
    async with reading(browser, exporter.url, java_script_enabled=False) as reader:
        await expect(reader.page.get_by_role("heading", level=1)).to_have_text("1 of 2 targets is down, 1 up")
        assert await reader.page.locator("button:visible").all_inner_texts() == ["Filter"]
        await expect(reader.page.locator("footer noscript p")).to_contain_text("The buttons (check now")
        await reader.target("media").locator("details.probe > summary").first.click()
        details = reader.target("media").locator("details.probe dl").first
        await expect(details).to_contain_text("InternalError")
        await reader.target("backups").locator("summary").first.click()
        await reader.page.get_by_role("link", name="Show operations and probes").click()
        await expect(reader.target("backups").locator("tbody tr")).to_have_count(3)
        await reader.page.get_by_role("searchbox").fill("media")
        await reader.page.get_by_role("button", name="Filter").click()
        await expect(reader.page.locator("details.target")).to_have_count(1)
        await reader.page.get_by_role("link", name="Refresh").click()
        await expect(reader.page).to_have_url(f"{exporter.url}/?q=media&state=&page=1")


async def test_nothing_moves_for_those_who_asked_for_that(browser: Browser, exporter: Running) -> None:
    async with reading(browser, exporter.url, reduced_motion="reduce") as reader:
        await everything_opened(reader)
        assert await reader.page.evaluate("document.getAnimations().length") == 0


async def everything_opened(reader: Reader) -> None:
    """A target that fails and one that works, a probe of each, and the form of an alert."""
    await reader.target("backups").locator("summary").first.click()
    await expect(reader.target("backups").locator("table")).to_be_visible()
    for name in ("media", "backups"):
        await reader.target(name).locator("details.probe > summary").first.click()
    await expect(reader.page.locator("details.resolve").first).to_be_visible()
    await reader.page.locator("details.resolve > summary").first.click()


async def tab_to(reader: Reader, tag: str, words: str, of: str = "") -> None:
    """Presses Tab until that is focused, as somebody without a mouse would."""
    for _ in range(80):
        await reader.page.keyboard.press("Tab")
        text, label = await reader.page.evaluate(
            "[document.activeElement.textContent, document.activeElement.ariaLabel ?? '']"
        )
        reached = await reader.page.evaluate("document.activeElement.localName") == tag and words in text
        if reached and (not of or of in label):
            return
    raise AssertionError(f"{words} is not reached by Tab")
