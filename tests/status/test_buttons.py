"""What the page's buttons do, in a real browser against a running exporter."""

from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from exporter.breaker import State
from tests.running import Running, eventually, new_bucket, running
from tests.status.rig import TOKEN, Reader, probe, reading, two_targets

pytestmark = pytest.mark.asyncio(loop_scope="module")

UNAUTHORIZED = "status of 401"


def is_enabled(exporter: Running, name: str) -> bool:
    return exporter.app.targets[name].settings.probe.enabled


def state(exporter: Running, name: str) -> State:
    return exporter.app.targets[name].breaker.status(0).state


async def test_check_now_probes_and_shows_what_came_of_it(
    browser: Browser, config: Path, failing: str, storage: str
) -> None:
    two_targets(config, failing, storage, new_bucket(storage))
    async with running(config) as exporter, reading(browser, exporter.url) as reader:
        await expect(reader.page.get_by_role("heading", level=1)).to_have_text("All 2 targets are unknown")
        await reader.target("backups").locator("summary").first.click()
        await reader.button("Check now", "backups").click()
        await expect(reader.target("backups").locator("output")).to_contain_text("delete")
        await expect(reader.target("backups").locator(".state")).to_have_text("up")
        await reader.target("media").locator("summary").first.click()
        await reader.button("Check now", "media").click()
        await expect(reader.target("media").locator("output")).to_contain_text("put failed: server")
        await expect(reader.page.get_by_role("heading", level=1)).to_have_text("1 of 2 targets is down, 1 up")
        await expect(reader.page.locator("#said")).to_have_text("1 of 2 targets is down, 1 up")
        assert exporter.app.targets["backups"].status.latest.keys() == {"put", "get", "delete"}


async def test_a_breaker_is_reset(browser: Browser, config: Path, failing: str, storage: str) -> None:
    two_targets(config, failing, storage, new_bucket(storage))
    async with running(config) as exporter:
        await probe(exporter, "media", "backups")
        assert state(exporter, "media") is State.OPEN
        async with reading(browser, exporter.url) as reader:
            media = reader.target("media")
            await expect(media.locator(".breaker")).to_contain_text("open, next try in 86")
            why = "3 of 3 operations failed within 5m; 3 open it"
            await expect(media.locator(".facts")).to_contain_text(why)
            await expect(reader.button("Reset breaker", "backups")).to_have_count(0)
            await reader.button("Reset breaker", "media").click()
            await expect(media.locator("output")).to_have_text("The breaker is closed.")
            await expect(media.locator(".breaker")).to_have_text("breaker closed")
        assert state(exporter, "media") is State.CLOSED


async def test_probing_is_paused_and_resumed(
    browser: Browser, config: Path, failing: str, storage: str
) -> None:
    two_targets(config, failing, storage, new_bucket(storage))
    async with running(config) as exporter:
        await probe(exporter, "media")
        async with reading(browser, exporter.url) as reader:
            await reader.button("Pause", "media").click()
            await expect(reader.target("media").locator(".state")).to_have_text("paused")
            await expect(reader.target("media").locator("output")).to_have_text("Probing is paused.")
            assert not is_enabled(exporter, "media")
            assert is_enabled(exporter, "backups")
            await reader.button("Resume", "media").click()
            await expect(reader.button("Pause", "media")).to_be_visible()
            assert is_enabled(exporter, "media")


async def test_an_alert_is_resolved_with_notes(
    browser: Browser, config: Path, failing: str, storage: str
) -> None:
    two_targets(config, failing, storage, new_bucket(storage))
    async with running(config) as exporter:
        await degraded(exporter)
        async with reading(browser, exporter.url) as reader:
            alert = reader.page.locator(".alert", has_text="service degraded")
            await expect(alert).to_contain_text("of 3 operations fail")
            await alert.get_by_text("Resolve…").click()
            await alert.get_by_label("Notes").fill("disk <b>full</b>")
            await reader.refresh()
            await expect(alert.get_by_label("Notes")).to_have_value("disk <b>full</b>")
            await alert.get_by_role("button", name="Resolve").click()
            await expect(reader.page.locator("#done")).to_have_text("Resolved: service degraded of media.")
            await expect(alert).to_have_count(0)
            await reader.page.get_by_text("Resolved in the last 24 hours").click()
            await expect(reader.page.locator("#resolved .notes")).to_have_text("disk <b>full</b>")
            await expect(reader.page.locator("#resolved")).to_contain_text("by anonymous")


async def test_a_token_is_asked_for_and_kept_in_the_tab(
    browser: Browser, config: Path, failing: str, storage: str
) -> None:
    two_targets(config, failing, storage, new_bucket(storage))
    env = {"R2_EXPORTER_API_TOKEN": TOKEN}
    async with running(config, env=env) as exporter:
        await probe(exporter, "media")
        async with reading(browser, exporter.url, expected=UNAUTHORIZED) as reader:
            dialog = reader.page.get_by_role("dialog")
            await reader.button("Reset breaker", "media").click()
            await expect(dialog).to_be_visible()
            await reader.page.get_by_role("button", name="Cancel").click()
            await expect(reader.target("media").locator("output")).to_have_text("Nothing was done.")
            await reader.button("Reset breaker", "media").click()
            await give(reader, "wrong")
            await expect(dialog).to_contain_text("The credentials sent are wrong.")
            assert state(exporter, "media") is State.OPEN
            await give(reader, TOKEN)
            await expect(reader.target("media").locator("output")).to_have_text("The breaker is closed.")
            await reader.page.reload()
            await reader.target("backups").locator("summary").first.click()
            await reader.button("Pause", "backups").click()
            await expect(reader.target("backups").locator("output")).to_have_text("Probing is paused.")
            await expect(dialog).to_be_hidden()
            assert await reader.page.evaluate("document.cookie + JSON.stringify(localStorage)") == "{}"
            assert TOKEN not in "".join(reader.asked)


async def test_a_token_to_read_is_refused_with_the_reason(
    browser: Browser, config: Path, failing: str, storage: str
) -> None:
    (config.parent / "read").write_text("only-to-read-here\n")
    tokens = [{"name": "viewer", "token_file": "read", "scope": "read"}]
    two_targets(config, failing, storage, new_bucket(storage), api={"tokens": tokens})
    env = {"R2_EXPORTER_API_TOKEN": TOKEN}
    async with running(config, env=env) as exporter:
        await probe(exporter, "media")
        async with reading(browser, exporter.url, expected="status of 40") as reader:
            await reader.button("Reset breaker", "media").click()
            await give(reader, "only-to-read-here")
            await expect(reader.page.get_by_role("dialog")).to_contain_text("has the scope read")
            await give(reader, TOKEN)
            await expect(reader.target("media").locator("output")).to_have_text("The breaker is closed.")


async def test_what_the_api_says_against_it_is_shown(
    browser: Browser, config: Path, failing: str, storage: str
) -> None:
    two_targets(config, failing, storage, new_bucket(storage))
    async with running(config, listen=(("0.0.0.0", 0),)) as exporter:
        await probe(exporter, "media")
        url = exporter.url.replace("0.0.0.0", "127.0.0.1")
        async with reading(browser, url, expected="status of 403") as reader:
            await reader.button("Pause", "media").click()
            await expect(reader.target("media").locator("output")).to_contain_text("Writes are off")
        assert is_enabled(exporter, "media")


async def give(reader: Reader, token: str) -> None:
    await reader.page.get_by_label("Token with the scope").fill(token)
    await reader.page.get_by_role("button", name="Use it").click()


async def degraded(exporter: Running) -> None:
    """Until the failing target has raised an alert, and it is kept."""
    await probe(exporter, "media")

    async def is_kept() -> bool:
        return "service_degraded" in (await exporter.get("/api/health/alerts"))[1]

    await eventually(is_kept)
