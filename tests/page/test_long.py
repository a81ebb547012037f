"""A conversation of hours: what the document holds is bounded, what was said is not."""

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest
from browser import browsing
from playwright.async_api import Page, WebSocketRoute, expect

from scripted import ScriptedModel
from serving import serving
from spoken import silence
from stt.recognition import Utterance

SHIFTS = """
window.shifts = [];
new PerformanceObserver((list) => window.shifts.push(...list.getEntries().map((one) => one.value)))
    .observe({ type: "layout-shift", buffered: true });
"""


class Talk:
    """Stands for the server of the page's live session, so that hours take a moment."""

    def __init__(self) -> None:
        self.turns = 0
        self._route: asyncio.Future[WebSocketRoute] = asyncio.get_running_loop().create_future()

    async def stands_for(self, page: Page) -> None:
        def keep(route: WebSocketRoute) -> None:  # Playwright takes no method of a future
            self._route.set_result(route)

        await page.route_web_socket("**/ws/transcribe?*", keep)
        await page.reload()
        await page.click("#listen")
        await expect(page.locator("#state")).to_have_text("Listening.")

    async def say(self, turns: int) -> None:
        route = await self._route
        for turn in range(self.turns, self.turns + turns):
            about = {"turn": turn, "start": 3 * turn, "end": 3 * turn + 2}
            text = f"This is turn {turn}, which is said to its end."
            route.send(json.dumps({"text": text[:20], "isFinal": False, "committed": 5, "stable": 10, **about}))
            route.send(json.dumps({"text": text, "isFinal": True, "why": "silence", "decided": 3 * turn + 3, **about}))
        self.turns += turns

    def last(self) -> str:
        return f"This is turn {self.turns - 1},"


async def saved(page: Page) -> list[str]:
    await page.select_option("#format", "txt")
    async with page.expect_download() as download:
        await page.click("#save")
    return (await asyncio.to_thread((await (await download.value).path()).read_text, "utf-8")).splitlines()


async def test_as_much_is_shown_as_somebody_may_read_and_all_of_it_saved(tmp_path: Path) -> None:
    async with serving() as running, browsing(f"{running.http}/", tmp_path, silence(1)) as page:
        talk = Talk()
        await page.add_init_script(SHIFTS)
        await talk.stands_for(page)
        turns, scroll = page.locator("#turns li"), page.locator("#scroll")
        await talk.say(100)
        await expect(turns.last).to_contain_text(talk.last())
        await expect(turns).to_have_count(100)
        height = await scroll.evaluate("(one) => one.scrollHeight")
        await talk.say(150)
        await expect(turns.last).to_contain_text(talk.last())
        await expect(turns).to_have_count(100)
        assert await page.evaluate("window.shifts") == []
        assert await scroll.evaluate("(one) => one.scrollHeight") == pytest.approx(2.5 * height, abs=30)
        texts = await saved(page)
        assert [text.split(",")[0] for text in texts] == [f"This is turn {turn}" for turn in range(250)]

        # Up a little, and to the first one: they come back, and what was read does not move.
        read = turns.filter(has_text="This is turn 150,")
        place = "(one) => one.getBoundingClientRect().y"
        await read.scroll_into_view_if_needed()
        before = await read.evaluate(place)
        await scroll.evaluate("(one) => one.scrollBy(0, -100)")
        await expect(turns).to_have_count(200)
        assert await read.evaluate(place) == pytest.approx(before + 100, abs=1)
        await scroll.press("Home")
        await expect(turns).to_have_count(250)
        await expect(turns.first).to_be_in_viewport()
        await expect(turns.first).to_contain_text("This is turn 0,")
        assert await page.locator("#turns").evaluate("(one) => getComputedStyle(one).paddingTop") == "0px"

        # Nothing goes away while somebody reads further up, and goes again once they follow.
        await talk.say(10)
        await expect(turns).to_have_count(260)
        await scroll.press("End")
        await expect(turns.last).to_be_in_viewport()
        await talk.say(1)
        await expect(turns).to_have_count(100)
        assert len(await saved(page)) == 261


async def test_the_strip_holds_its_thirty_seconds(tmp_path: Path) -> None:
    async with serving() as running, browsing(f"{running.http}/", tmp_path) as page:
        held = await page.evaluate(
            """async () => {
                const { Timeline } = await import("/page/timeline.js");
                const timeline = new Timeline(document.getElementById("timeline"));
                const held = [];
                for (let piece = 0; piece < 50 * 120; piece++) {
                    const at = piece / 50, turn = at / 2;
                    if (piece % 2 === 0) timeline.take({ type: "heard", at, speech: 0.5 });
                    if (piece % 100 === 0) {
                        timeline.take({ type: "turn_started", turn, start: at });
                        timeline.take({ type: "turn_paused", turn, end: at + 1 });
                        timeline.take({ type: "turn_completed", turn, start: at, end: at + 1, decided: at + 1.5 });
                    }
                    timeline.level(at, piece % 3 / 2);
                    if (piece % 3000 < 2999) continue;
                    held.push([timeline.levels, timeline.scores, timeline.marks].map((one) => one.length));
                }
                return held;
            }"""
        )
    assert np.ptp(held, axis=0).max() <= 2, held


@pytest.mark.parametrize("shared", [True, False])
async def test_sound_comes_whole_with_and_without_shared_memory(tmp_path: Path, shared: bool) -> None:
    """Messages of an audio thread leave something behind in Chromium; where memory can be shared, none is posted."""
    talk = np.concatenate([silence(0.5), 0.5 * np.sin(np.arange(48_000) * 0.2).astype(np.float32), silence(20)])
    heard: list[Utterance] = []

    def hear(utterance: Utterance) -> str:
        heard.append(utterance)
        return "yes"

    watch = """
    window.messages = 0;
    const set = Object.getOwnPropertyDescriptor(MessagePort.prototype, "onmessage").set;
    Object.defineProperty(MessagePort.prototype, "onmessage", {
        set(take) { set.call(this, (event) => { window.messages++; take(event); }); },
    });
    """
    async with serving(ScriptedModel(hear)) as running, browsing(f"{running.http}/", tmp_path, talk) as page:
        await page.add_init_script(watch if shared else f"{watch}; delete Atomics.waitAsync")
        await page.reload()
        await page.click("#listen")
        await expect(page.locator("#turns .why")).to_have_count(1, timeout=30_000)
        assert (await page.evaluate("window.messages") == 0) == shared
        await page.click("#listen")
        await expect(page.locator("#state")).to_have_text("Stopped.")
    longest = max(heard, key=lambda utterance: len(utterance.audio)).audio
    spoken = longest[np.flatnonzero(np.abs(longest) > 0.2)]
    assert len(spoken) / 16_000 == pytest.approx(3 * 0.74, abs=0.2)  # of a sine, |sin| > 0.4
    # Whole: a sine goes on where it was, from sample to sample.
    inner = longest[np.flatnonzero(np.abs(longest) > 0.2)[0] : np.flatnonzero(np.abs(longest) > 0.2)[-1]]
    assert np.abs(np.diff(inner)).max() < 0.15
