"""What must hold of the page: nothing is lost, nothing moves, it is quick, and every trouble says what to do."""

import asyncio
import json
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from browser import browsing
from playwright.async_api import Page, expect

from scripted import ScriptedModel
from serving import Running, serving
from spoken import silence
from stt.recognition import Hypothesis, Utterance
from stt.words import Word

PROGRAM = Path(__file__).parent / "killable.py"


def sound(duration_s: float) -> np.ndarray:
    return 0.5 * np.sin(np.arange(round(duration_s * 16_000)) * 0.2).astype(np.float32)


def hear(utterance: Utterance) -> str:
    return " ".join(f"word{i}" for i in range(1 + len(utterance.audio) // 8_000))


@asynccontextmanager
async def killable(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a server in a process of its own until it is ready."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, PROGRAM, str(port), stderr=asyncio.subprocess.PIPE, limit=1 << 20
    )
    try:
        async with asyncio.timeout(30), httpx.AsyncClient() as client:
            while True:
                try:
                    if (await client.get(f"http://127.0.0.1:{port}/ready")).status_code == 200:
                        break
                except httpx.TransportError:
                    assert process.returncode is None, await process.stderr.read()  # type: ignore[union-attr]
                await asyncio.sleep(0.05)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_server_that_is_killed_in_the_middle_of_a_turn_costs_no_word(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    talk = np.concatenate([silence(0.5), sound(1), silence(1.2), sound(6), silence(1.2), sound(1), silence(3)])
    async with killable(port) as first, browsing(f"http://127.0.0.1:{port}/", tmp_path, talk) as page:
        await page.click("#listen")
        await expect(page.locator("#turns li")).to_have_count(2, timeout=30_000)  # the second one runs
        await expect(page.locator("#turns .tentative").last).to_contain_text("word")
        first.kill()
        await expect(page.locator("#state")).to_contain_text("what you say is kept")
        async with killable(port):
            finals = page.locator("#turns li:has(.why)")
            await expect(finals).to_have_count(3, timeout=30_000)
            texts = await finals.all_inner_texts()
    assert "word12" in texts[1]  # 6 s and what stands before and after them
    assert all("ended by silence" in text for text in texts)
    assert "word3" not in texts[0].split("\n")[1].split()[4:]
    assert "word12" not in texts[2]


async def test_of_a_silence_little_is_kept(tmp_path: Path) -> None:
    """So hours of silence need no memory, and after them a new connection hears what is said at once."""
    talk = np.concatenate([silence(0.5), sound(1), silence(9), sound(1), silence(3)])

    def heard_s(running: Running) -> float:
        return sum(host._inbox.received_s for host in running.service.sessions)

    async with serving(ScriptedModel(hear)) as first, browsing(f"{first.http}/", tmp_path, talk) as page:
        await page.click("#listen")
        await first.until(lambda: heard_s(first) >= 8, 30)
        first.server.stop()
        await first.task
        async with serving(ScriptedModel(hear), port=first.port) as second:
            await second.until(lambda: heard_s(second) > 0, 30)
            await expect(page.locator("#turns li:has(.why)")).to_have_count(2, timeout=30_000)
            assert heard_s(second) < 8  # of 12: 2 s before the end of the first, and what came then
            starts = await page.locator("#turns .at").all_inner_texts()
    assert float(starts[1].split(":")[1]) - float(starts[0].split(":")[1]) == pytest.approx(10, abs=0.3)


async def test_another_microphone_and_one_that_is_lost(tmp_path: Path) -> None:
    """The turn goes on with the new one; where there is none left, the page says what to do."""
    keep_tracks = """
    const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
    window.asked = [];
    window.streams = [];
    navigator.mediaDevices.getUserMedia = async (wanted) => {
        window.asked.push(wanted.audio.deviceId?.exact);
        const stream = await open(wanted);
        window.streams.push(stream);
        return stream;
    };
    null
    """
    args = ("--use-fake-device-for-media-stream=device-count=2",)
    async with (
        serving(ScriptedModel(hear)) as running,
        browsing(f"{running.http}/", tmp_path, args=args) as page,  # Chromium's own devices beep once a second
    ):
        await page.evaluate(keep_tracks)
        await page.click("#listen")
        await expect(page.locator("#state")).to_have_text("Listening.")
        await page.locator("summary", has_text="Settings").click()
        devices = page.locator("[name=device] option")
        await expect(devices).to_have_count(3)
        other = await devices.nth(2).get_attribute("value")
        await page.select_option("[name=device]", other)
        await until(page, "window.streams.length === 2")
        assert (await page.evaluate("window.asked"))[1] == other
        await expect(page.locator("#state")).to_have_text("Listening.")
        assert running.service.describe()["sessions"] == 1
        await page.evaluate("window.streams[1].getAudioTracks()[0].dispatchEvent(new Event('ended'))")
        await expect(page.locator("#notice")).to_contain_text("Plug one in, then start again.")
        await expect(page.locator("#listen")).to_have_text("Start listening")


async def test_a_pause_ends_the_turn_and_hears_nothing(tmp_path: Path) -> None:
    talk = np.concatenate([silence(0.5), sound(30)])
    async with serving(ScriptedModel(hear)) as running, browsing(f"{running.http}/", tmp_path, talk) as page:
        await page.click("#listen")
        await expect(page.locator("#turns .tentative")).to_contain_text("word", timeout=30_000)
        await page.keyboard.press("Control+m")
        await expect(page.locator("#mute")).to_have_attribute("aria-pressed", "true")
        await expect(page.locator("#state")).to_contain_text("Paused")
        await expect(page.locator("#turns .why")).to_have_count(1)
        await expect(page.locator("#turns li")).to_have_count(1)
        await page.click("#mute")
        await expect(page.locator("#turns li")).to_have_count(2)


class Unsure(ScriptedModel):
    def transcribe(self, batch):  # type: ignore[no-untyped-def]
        def heard(utterance: Utterance) -> Hypothesis:
            at = utterance.start
            words = (Word("clear", at, at + 4_000, 0.9), Word(" mumbled", at + 4_000, at + 8_000, 0.2))
            return Hypothesis("clear mumbled", words=words if utterance.options.words else ())

        super().transcribe(batch)
        return [heard(utterance) for utterance in batch]


async def test_words_that_the_engine_is_unsure_of_are_marked(tmp_path: Path) -> None:
    talk = np.concatenate([silence(0.5), sound(1), silence(3)])
    async with serving(Unsure()) as running, browsing(f"{running.http}/", tmp_path, talk) as page:
        await page.click("#listen")
        unsure = page.locator("#turns .unsure")
        await expect(unsure).to_have_text("mumbled", timeout=30_000)
        assert await unsure.get_attribute("title") == "heard with a confidence of 20 %"
        assert "wavy" in await unsure.evaluate("(one) => getComputedStyle(one).textDecorationStyle")


async def test_what_is_set_is_asked_for_from_the_start_and_while_it_runs(tmp_path: Path) -> None:
    model = ScriptedModel(hear)
    talk = np.concatenate([silence(0.5), sound(1), silence(1.5), sound(1), silence(3)])
    async with serving(model) as running, browsing(f"{running.http}/", tmp_path, talk) as page:
        await page.locator("summary", has_text="Settings").click()
        await page.fill("[name=terms]", "Hibari\nzizmor")
        await page.select_option("[name=end_of_turn]", "silence")
        async with page.expect_websocket() as opened:
            await page.click("#listen")
        socket = await opened.value
        query = httpx.URL(socket.url).params
        assert query.get_list("term") == ["Hibari", "zizmor"]
        assert (query["words"], query["events"], query["end_of_turn"]) == ("1", "1", "silence")
        assert "eagerness" not in query
        sent: list[str] = []
        socket.on("framesent", lambda frame: sent.append(frame) if isinstance(frame, str) else None)
        await expect(page.locator("#turns .why")).to_have_count(1, timeout=30_000)
        await page.fill("[name=terms]", "")
        await page.press("[name=terms]", "Tab")
        await page.select_option("[name=eagerness]", "fast")
        await page.fill("[name=end_of_turn_ms]", "900")
        await page.press("[name=end_of_turn_ms]", "Tab")
        await expect(page.locator("#turns .why")).to_have_count(2, timeout=30_000)
        await expect(page.locator("#notice")).to_be_hidden()
    assert [json.loads(message) for message in sent] == [
        {"type": "configure", "terms": []},
        {"type": "configure", "eagerness": "fast"},
        {"type": "configure", "end_of_turn_ms": 900},
    ]
    terms = [utterance.options.terms for batch in model.batches for utterance in batch if utterance.audio.any()]
    assert (terms[0], terms[-1]) == (("Hibari", "zizmor"), ())


async def test_the_strip_shows_how_probable_it_is_that_the_speaker_is_done(tmp_path: Path) -> None:
    """Told again and again for one pause: the newest stands."""
    async with serving() as running, browsing(f"{running.http}/", tmp_path) as page:
        drawn = await page.evaluate(
            """async () => {
                const { Timeline } = await import("/page/timeline.js");
                const timeline = new Timeline(document.getElementById("timeline"));
                timeline.take({ type: "turn_started", turn: 0, start: 1 });
                timeline.take({ type: "heard", at: 1.5, speech: 0.9 });
                timeline.take({ type: "turn_paused", turn: 0, end: 2 });
                for (const probability of [0.4, 0.82]) {
                    timeline.take({ type: "turn_paused", turn: 0, end: 2, probability });
                }
                timeline.take({ type: "turn_completed", turn: 0, start: 1, end: 2, decided: 2.5 });
                timeline.level(3, 0.1);
                return timeline.marks;
            }"""
        )
    kinds = [(mark["kind"], mark["start"], mark.get("end"), mark.get("probability")) for mark in drawn]
    assert kinds == [
        ("speech", 1, 2, None),
        ("started", 1, None, None),
        ("pause", 2, 2.5, 0.82),
        ("end", 2.5, None, None),
    ]


WATCH = """
window.shifts = [];
new PerformanceObserver((list) => {
    for (const { value, sources } of list.getEntries()) {
        window.shifts.push([value, sources.map(({ node }) => node?.outerHTML)]);
    }
}).observe({ type: "layout-shift", buffered: true });
"""


@pytest.mark.parametrize("width", [900, 390])
async def test_nothing_moves_while_text_grows(tmp_path: Path, width: int) -> None:
    talk = np.concatenate([silence(0.5), *(part for _ in range(6) for part in (sound(2), silence(1.2)))])

    def hear_much(utterance: Utterance) -> str:
        return " ".join(f"word{i}" for i in range(len(utterance.audio) // 800))

    context = {"viewport": {"width": width, "height": 760}}
    async with (
        serving(ScriptedModel(hear_much)) as running,
        browsing(f"{running.http}/", tmp_path, talk, **context) as page,
    ):
        await page.add_init_script(WATCH)
        await page.reload()
        await page.click("#listen")
        await expect(page.locator("#turns li:has(.why)")).to_have_count(6, timeout=40_000)
        box = await page.locator("#scroll").evaluate("(one) => [one.scrollHeight, one.clientHeight, one.scrollTop]")
        assert box[0] > box[1]  # there was more than it can show,
        assert box[2] > 0  # and the newest is what it shows
        assert await page.evaluate("window.shifts") == []


async def until(page: Page, condition: str) -> None:
    """Wait for a condition in the page; its policy forbids `wait_for_function`, which compiles text in it."""
    async with asyncio.timeout(20):
        while not await page.evaluate(condition):
            await asyncio.sleep(0.01)


async def test_it_is_painted_before_any_script_ran(tmp_path: Path) -> None:
    """So the first paint waits for two small files of this host alone; how long that takes is the machine's affair."""
    async with serving() as running, browsing(f"{running.http}/", tmp_path) as page:
        waiting = asyncio.Event()

        async def hold(route) -> None:  # type: ignore[no-untyped-def]
            await waiting.wait()
            await route.continue_()

        await page.route("**/*.js", hold)
        await page.reload(wait_until="commit")
        await until(page, "performance.getEntriesByName('first-contentful-paint').length")
        assert await page.locator("#listen").inner_text() == "Start listening"
        waiting.set()
        await page.wait_for_load_state()
        kinds = await page.evaluate("performance.getEntriesByType('resource').map((one) => one.name.split('.').at(-1))")
        assert set(kinds) <= {"css", "js", "svg"}


async def test_every_control_has_a_name_and_every_id_is_there_once(tmp_path: Path) -> None:
    async with serving() as running, browsing(f"{running.http}/", tmp_path) as page:
        (tmp_path / "notes.txt").write_text("no sound")
        await page.click("#files-tab")
        await page.set_input_files("#choose", tmp_path / "notes.txt")
        await expect(page.locator(".file-state")).to_contain_text("Failed")
        unnamed = await page.evaluate(
            "[...document.querySelectorAll('input, select, textarea, meter, progress, button, audio, video, canvas')]"
            ".filter((one) => !one.labels?.length && !one.textContent.trim() && !one.getAttribute('aria-label'))"
            ".map((one) => one.outerHTML)"
        )
        assert unnamed == []
        twice = await page.evaluate(
            "[...document.querySelectorAll('[id]')].map((one) => one.id).filter((id, i, all) => all.indexOf(id) !== i)"
        )
        assert twice == []
        assert await page.evaluate("document.documentElement.lang") == "en"


async def test_a_conversation_and_a_file_leave_no_word_in_the_console(tmp_path: Path) -> None:
    talk = np.concatenate([silence(0.5), sound(1), silence(1.2)])
    said: list[str] = []
    async with serving(ScriptedModel(hear)) as running, browsing(f"{running.http}/", tmp_path, talk) as page:
        page.on("console", lambda message: said.append(message.text))
        await page.reload()
        await page.click("#listen")
        await expect(page.locator("#turns li:has(.why)")).to_have_count(1, timeout=30_000)
        await page.click("#listen")
        await page.click("#files-tab")
        await page.set_input_files("#choose", tmp_path / "microphone.wav")
        await expect(page.locator(".file-state")).to_have_text("Done.", timeout=20_000)
        await page.get_by_role("tab", name="Files").press("ArrowLeft")
        await expect(page.locator("#live")).to_be_visible()
    assert said == []


async def test_who_was_in_waits_for_a_place_and_loses_no_word(tmp_path: Path) -> None:
    """A server that starts anew may be filled by others first; what was said meanwhile is kept."""
    talk = np.concatenate([silence(0.5), sound(1), silence(1.2), sound(6), silence(3)])
    async with serving(ScriptedModel(hear)) as first, browsing(f"{first.http}/", tmp_path, talk) as page:
        await page.click("#listen")
        await expect(page.locator("#turns li")).to_have_count(2, timeout=30_000)  # the second one runs
        await page.clock.install(time=0)
        await page.clock.pause_at(60)  # it connects again when this test says so
        first.server.stop()
        first.server._hurry.set()
        await first.task
        state = page.locator("#state")
        async with serving(ScriptedModel(hear), port=first.port, max_sessions=1) as second:
            async with second.connect():
                await expect(state).to_contain_text("The connection is lost; what you say is kept.")
                await page.clock.run_for(500)
                await expect(state).to_contain_text("all 1 sessions are in use; try again later; what you say is kept")
            await second.until(lambda: not second.service.sessions)
            await page.clock.run_for(5_000)
            finals = page.locator("#turns li:has(.why)")
            await expect(finals).to_have_count(2, timeout=30_000)
            assert "word12" in await finals.last.inner_text()
