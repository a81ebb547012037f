"""The page in a real Chromium, with a real (fake) microphone."""

import json
import os
import re
from pathlib import Path

import httpx
import numpy as np
import pytest
from browser import browsing
from playwright.async_api import Page, expect

from scripted import ScriptedModel
from serving import serving
from spoken import silence
from stt.recognition import Utterance
from stt.server import page as page_module
from stt.server.families import FAMILIES

FILES = Path(page_module.__file__).parent


def sound(duration_s: float) -> np.ndarray:
    """What the scripted detector takes for speech, and what a sound card can play."""
    return 0.5 * np.sin(np.arange(round(duration_s * 16_000)) * 0.2).astype(np.float32)


def hear(utterance: Utterance) -> str:
    return " ".join(f"word{i}" for i in range(1 + len(utterance.audio) // 8_000))


TALK = np.concatenate([silence(0.5), *(part for _ in range(3) for part in (sound(1), silence(1.2)))])


async def finals(page: Page) -> list[str]:
    return await page.locator("#turns li:has(.why)").all_inner_texts()


async def test_files_are_small_and_locked_in() -> None:
    paths = [f"/page/{file.name}" for file in FILES.iterdir() if file.suffix in (".js", ".css", ".svg")]
    async with serving() as running, httpx.AsyncClient(base_url=running.http) as client:
        files = [await client.get(path) for path in ("/", *paths)]
    for answer in files:
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "set-cookie" not in answer.headers
    assert len(files) > 12
    assert sum(len(answer.content) for answer in files) < 60_000


@pytest.mark.parametrize(
    ("host", "isolated"),
    [
        ("localhost:15751", True),
        ("127.0.0.1", True),
        ("[::1]:80", True),
        ("stt.test:15751", False),
        ("10.1.2.3", False),
        ("[", False),
    ],
)
async def test_it_is_isolated_where_browsers_give_the_microphone(host: str, isolated: bool) -> None:
    """Only so may it share memory with its audio thread; elsewhere browsers complain of the header."""
    async with serving() as running, httpx.AsyncClient(base_url=running.http) as client:
        headers = (await client.get("/", headers={"host": host})).headers
    assert (headers.get("cross-origin-opener-policy") == "same-origin") == isolated
    assert (headers.get("cross-origin-embedder-policy") == "require-corp") == isolated


async def test_no_page() -> None:
    async with serving(page=False) as running, httpx.AsyncClient(base_url=running.http) as client:
        assert (await client.get("/page/main.js")).status_code == 404
        assert "text/html" not in (await client.get("/")).headers["content-type"]


async def test_what_is_said_is_shown_turn_by_turn_and_saved(tmp_path: Path) -> None:
    async with serving(ScriptedModel(hear)) as running, browsing(f"{running.http}/", tmp_path, TALK) as page:
        await page.click("#listen")
        await expect(page.locator("#turns li:has(.why)")).to_have_count(3, timeout=30_000)
        await expect(page.locator("#final-latency")).to_contain_text(" s")
        assert all("ended by silence" in text for text in await finals(page))
        await page.click("#listen")
        await expect(page.locator("#state")).to_have_text("Stopped.")
        saved = {}
        for format_ in ("txt", "srt", "vtt", "json"):
            await page.select_option("#format", format_)
            async with page.expect_download() as download:
                await page.click("#save")
            await (await download.value).save_as(tmp_path / format_)
            saved[format_] = (tmp_path / format_).read_text()
        assert len(saved["txt"].splitlines()) == 3
        assert saved["srt"].startswith("1\n00:00:00,")
        assert saved["vtt"].startswith("WEBVTT\n\n00:00:00.")
        turns = json.loads(saved["json"])["turns"]
        assert [turn["turn"] for turn in turns] == [0, 1, 2]
        assert [turn["text"] for turn in turns] == saved["txt"].splitlines()


async def test_a_server_that_goes_away_in_the_middle_of_a_turn_costs_no_word(tmp_path: Path) -> None:
    talk = np.concatenate([silence(0.5), sound(1), silence(1.2), sound(6), silence(2)])
    async with serving(ScriptedModel(hear)) as first:
        port = first.port
        async with browsing(f"{first.http}/", tmp_path, talk) as page:
            await page.click("#listen")
            await expect(page.locator("#turns li")).to_have_count(2, timeout=30_000)  # the second one runs
            first.server.stop()
            first.server._hurry.set()
            await first.task
            async with serving(ScriptedModel(hear), port=port):
                await expect(page.locator("#turns li:has(.why)")).to_have_count(2, timeout=30_000)
                last = (await finals(page))[1]
                assert "word12" in last  # 6 s and what stands before and after them
                assert "ended by silence" in last


async def test_settings_work_while_it_runs(tmp_path: Path) -> None:
    talk = np.concatenate([silence(0.5), sound(8), silence(20)])
    async with serving(ScriptedModel(hear)) as running, browsing(f"{running.http}/", tmp_path, talk) as page:
        await page.click("#listen")
        await expect(page.locator("#turns li")).to_have_count(1, timeout=30_000)
        await page.locator("summary", has_text="Settings").click()
        await page.fill("[name=language]", "xx")
        await page.press("[name=language]", "Tab")
        await expect(page.locator("#notice")).to_contain_text("the engine knows en, got 'xx'")
        await page.click("#flush")
        await expect(page.locator("#turns .why")).to_contain_text("ended by asked")


@pytest.mark.parametrize(("before", "right"), [("", "right"), ("wrong", "right"), ("wr=ng", "/+rigHt(%2f) =")])
async def test_a_key_is_asked_for_and_kept_in_this_tab_only(tmp_path: Path, before: str, right: str) -> None:
    async with serving(api_keys=(right,)) as running, browsing(f"{running.http}/", tmp_path, TALK) as page:
        if before:
            await page.evaluate("key => sessionStorage.setItem('key', key)", before)
        await page.click("#listen")
        await expect(page.locator("#key-form")).to_be_visible()
        await expect(page.locator("#notice")).to_contain_text("key")
        await page.fill("#key", "k\u00e4se")  # no header can carry it
        await page.click("#key-form button")
        await expect(page.locator("#key-form")).to_be_visible()
        await page.fill("#key", right)
        await page.click("#key-form button")
        await expect(page.locator("#state")).to_have_text("Listening.")
        assert await page.evaluate("sessionStorage.getItem('key')") == right
        assert right not in await page.evaluate("JSON.stringify(localStorage) + document.cookie + location")


async def test_a_full_server_says_so(tmp_path: Path) -> None:
    async with (
        serving(max_sessions=1) as running,
        running.connect(),
        browsing(f"{running.http}/", tmp_path, TALK) as page,
    ):
        await page.click("#listen")
        await expect(page.locator("#notice")).to_contain_text("all 1 sessions are in use; try again later")
        await expect(page.locator("#notice")).to_contain_text("stt serve --max-sessions")
        await expect(page.locator("#listen")).to_have_text("Start listening")


async def test_a_setting_that_cannot_work_says_which(tmp_path: Path) -> None:
    async with serving(ScriptedModel(hear)) as running, browsing(f"{running.http}/", tmp_path, TALK) as page:
        await page.locator("summary", has_text="Settings").click()
        await page.fill("[name=language]", "xx")
        await page.click("#listen")
        await expect(page.locator("#notice")).to_contain_text("language: the engine knows en, got 'xx'")
        await expect(page.locator("#notice")).to_contain_text("Change it in the settings")
        await page.fill("[name=language]", "")
        await page.click("#listen")
        await expect(page.locator("#state")).to_have_text("Listening.")
        await expect(page.locator("#notice")).to_be_hidden()


async def test_a_server_that_speaks_other_dialects_says_so(tmp_path: Path) -> None:
    async with (
        serving(dialects=(FAMILIES["openai"],)) as running,
        browsing(f"{running.http}/", tmp_path, TALK) as page,
    ):
        await page.click("#listen")
        await expect(page.locator("#notice")).to_contain_text("with native among its --dialects")


async def test_a_microphone_that_is_refused_or_not_there_says_what_to_do(tmp_path: Path) -> None:
    async with serving() as running:
        async with browsing(f"{running.http}/", tmp_path, TALK, allowed=False) as page:
            await page.click("#listen")
            await expect(page.locator("#notice")).to_contain_text("Allow it in the browser's address bar")
        async with browsing(f"{running.http}/", tmp_path) as page:
            await page.click("#listen")
            await expect(page.locator("#notice")).to_contain_text("No microphone was found")


async def test_plain_http_on_another_name_says_how_to_get_there(tmp_path: Path) -> None:
    rules = ("--host-resolver-rules=MAP stt.test 127.0.0.1",)
    async with (
        serving() as running,
        browsing(f"http://stt.test:{running.port}/", tmp_path, TALK, args=rules) as page,
    ):
        await expect(page.locator("#notice")).to_contain_text(f"http://localhost:{running.port}/")


async def test_every_control_has_a_name(tmp_path: Path) -> None:
    async with serving() as running, browsing(f"{running.http}/", tmp_path) as page:
        unnamed = await page.evaluate(
            "[...document.querySelectorAll('input, select, meter, button')]"
            ".filter((one) => !one.labels?.length && !one.textContent.trim()).map((one) => one.outerHTML)"
        )
        assert unnamed == []


SENTENCE = "We ordered twelve boxes of paper, and nobody at the station had seen them since Monday."


def hear_sentence(utterance: Utterance) -> str:
    """As much of a sentence as fits into what was heard."""
    return " ".join(SENTENCE.split()[: 1 + len(utterance.audio) // 6_000])


SIZES = {"light": (900, 760, "light"), "dark": (900, 760, "dark"), "phone": (390, 760, "light")}


@pytest.mark.parametrize("name", SIZES)
async def test_nothing_is_wider_than_the_window(tmp_path: Path, name: str, request: pytest.FixtureRequest) -> None:
    """With STT_SCREENSHOTS=FOLDER, the pictures of docs/page.md are taken on the way."""
    width, height, scheme = SIZES[name]
    context = {"viewport": {"width": width, "height": height}, "color_scheme": scheme}
    async with (
        serving(ScriptedModel(hear_sentence)) as running,
        browsing(f"{running.http}/", tmp_path, np.concatenate([TALK, sound(8)]), **context) as page,
    ):
        await page.click("#listen")
        await expect(page.locator("#turns li")).to_have_count(4, timeout=30_000)
        await expect(page.locator("#turns .stable")).to_contain_text("ordered")
        await expect(page.locator("#turns .tentative")).to_contain_text(re.compile(r"\w"))
        await picture(page, name, width)
        await page.click("#listen")
        await page.click("#files-tab")
        (tmp_path / "notes.txt").write_text("no sound")
        await page.set_input_files("#choose", [tmp_path / "microphone.wav", tmp_path / "notes.txt"])
        await expect(page.locator(".file-state").first).to_have_text("Done.", timeout=30_000)
        await expect(page.locator(".file-state").nth(1)).to_contain_text("Failed")
        await page.locator("#files .turns [data-start]").nth(1).hover()
        await picture(page, f"files-{name}", width)


async def picture(page: Page, name: str, width: int) -> None:
    assert await page.evaluate("document.documentElement.scrollWidth") <= width
    if folder := os.environ.get("STT_SCREENSHOTS"):
        await page.screenshot(path=f"{folder}/{name}.png", full_page=name.startswith("files"))
