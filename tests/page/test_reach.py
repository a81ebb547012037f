"""Whom the page reaches: those who use the keyboard alone, hear it read out, or cannot bear things that move."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from browser import browsing
from playwright.async_api import expect

from scripted import ScriptedModel
from serving import serving
from spoken import silence
from stt.recognition import Utterance


def sound(duration_s: float) -> np.ndarray:
    return 0.5 * np.sin(np.arange(round(duration_s * 16_000)) * 0.2).astype(np.float32)


def hear(utterance: Utterance) -> str:
    return " ".join(f"word{i}" for i in range(1 + len(utterance.audio) // 8_000))


REACHABLE = """
[...document.querySelectorAll("button, input, select, textarea, summary, [tabindex='0']")]
    .filter((one) => one.checkVisibility() && !one.disabled && one.tabIndex >= 0).length
"""
FOCUSED = """(() => {
    const one = document.activeElement;
    const seen = one.matches("#focused, .focused");
    one.classList.add("focused");
    return [one.tagName, seen, getComputedStyle(one).outlineStyle];
})()"""


async def test_every_control_is_reached_by_the_tab_key_and_shows_that(tmp_path: Path) -> None:
    async with serving() as running, browsing(f"{running.http}/", tmp_path) as page:
        for summary in await page.locator("summary").all():
            await summary.click()
        await page.evaluate("document.activeElement.blur()")
        await page.locator("h1").click()  # from the top
        there = await page.evaluate(REACHABLE)
        reached = []
        for _ in range(there):
            await page.keyboard.press("Tab")
            reached.append(tuple(await page.evaluate(FOCUSED)))
        assert there > 15
        assert [seen for _, seen, _ in reached] == [False] * there
        assert {outline for _, _, outline in reached} == {"solid"}


async def test_the_keyboard_starts_ends_pauses_and_stops(tmp_path: Path) -> None:
    talk = np.concatenate([silence(0.5), sound(60)])
    async with serving(ScriptedModel(hear)) as running, browsing(f"{running.http}/", tmp_path, talk) as page:
        state = page.locator("#state")
        await page.keyboard.press("Control+Enter")
        await expect(page.locator("#turns .tentative")).to_contain_text("word", timeout=30_000)
        await page.keyboard.press("Control+.")
        await expect(page.locator("#turns .why").first).to_contain_text("asked")
        await page.keyboard.press("Control+m")
        await expect(state).to_have_text("Paused: the microphone is not heard.")
        await page.keyboard.press("Control+m")
        await expect(state).to_have_text("Listening.")
        await page.keyboard.press("Control+Enter")
        await expect(state).to_have_text("Stopped.")


async def test_finals_and_what_became_of_files_are_read_out_and_nothing_on_the_way(tmp_path: Path) -> None:
    talk = np.concatenate([silence(0.5), sound(1), silence(1.2)])
    async with serving(ScriptedModel(hear)) as running, browsing(f"{running.http}/", tmp_path, talk) as page:
        await page.evaluate(
            """
            window.said = [];
            new MutationObserver(() => said.push(document.getElementById("spoken").textContent))
                .observe(document.getElementById("spoken"), { childList: true, characterData: true, subtree: true });
            null
            """
        )
        await page.click("#listen")
        await expect(page.locator("#turns .why")).to_have_count(1, timeout=30_000)
        text = (await page.locator("#turns p").inner_text()).split("\n")[0]
        await page.click("#listen")
        await page.click("#files-tab")
        await page.set_input_files("#choose", tmp_path / "microphone.wav")
        await expect(page.locator(".file-state")).to_have_text("Done.", timeout=20_000)
        assert await page.evaluate("said") == [text, "microphone.wav: Done."]
        assert await page.locator(".file [role=status], .file [aria-live]").count() == 0


@pytest.mark.parametrize(("motion", "least", "most"), [("reduce", 2, 4), ("no-preference", 20, 50)])
async def test_the_strip_moves_little_for_those_who_ask_for_that(
    tmp_path: Path, motion: str, least: int, most: int
) -> None:
    async with serving() as running, browsing(f"{running.http}/", tmp_path, reduced_motion=motion) as page:
        await page.clock.install(time=0)
        await page.clock.pause_at(60)
        await page.evaluate(
            """async () => {
                const { Timeline } = await import("/page/timeline.js");
                const timeline = new Timeline(document.getElementById("timeline"));
                let at = window.draws = 0;
                const draw = timeline.draw;
                timeline.draw = () => { window.draws++; draw.call(timeline); };
                setInterval(() => timeline.level(at += 0.02, 0.5), 20);
            }"""
        )
        await page.clock.run_for(3_000)
        assert least <= await page.evaluate("window.draws") <= most


async def test_what_was_copied_is_said_for_a_moment_only(tmp_path: Path) -> None:
    talk = np.concatenate([silence(0.5), sound(1), silence(30)])
    allowed = ["microphone", "clipboard-read", "clipboard-write"]
    async with (
        serving(ScriptedModel(hear)) as running,
        browsing(f"{running.http}/", tmp_path, talk, permissions=allowed) as page,
    ):
        await page.click("#listen")
        await expect(page.locator("#turns .why")).to_have_count(1, timeout=30_000)
        await page.clock.install(time=0)
        await page.clock.pause_at(60)
        await page.click("#copy")
        await expect(page.locator("#state")).to_have_text("Copied.")
        text = (await page.locator("#turns p").inner_text()).split("\n")[0]
        assert await page.evaluate("navigator.clipboard.readText()") == text
        await page.clock.run_for(3_000)
        await expect(page.locator("#state")).to_have_text("Listening.")


async def test_a_file_of_hours_is_laid_out_as_far_as_it_is_seen(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "talk.wav", sound(1), 16_000, "PCM_16")
    async with serving(ScriptedModel(hear)) as running, browsing(f"{running.http}/", tmp_path) as page:
        await page.click("#files-tab")
        await page.set_input_files("#choose", tmp_path / "talk.wav")
        await expect(page.locator(".file-state")).to_have_text("Done.", timeout=20_000)
        item = page.locator(".file .turns li").first
        assert await item.evaluate("(one) => getComputedStyle(one).contentVisibility") == "auto"
