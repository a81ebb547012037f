"""The page's files: dropped or chosen, sent, heard, played and saved, in a real Chromium."""

import asyncio
import base64
import html
import io
import json
import sys
import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import srt
import webvtt
from browser import browsing
from playwright.async_api import Locator, Page, expect

from scripted import ScriptedModel
from serving import serving
from spoken import sentences, silence, talk
from stt.engines import open_engine
from stt.recognition import SpeechModel, Utterance
from stt.server.families import FAMILIES
from stt.settings import EngineSettings
from stt.vad_pool import VadPool


def tone(duration_s: float) -> np.ndarray:
    return np.full(round(duration_s * 16_000), 0.5, np.float32)


TWO_TURNS = np.concatenate([silence(0.5), tone(1.0), silence(2.0), tone(3.0), silence(2.0)])

# A big file must not go through the page's memory: whatever reads one into it fails.
NO_READING = """
const refuse = () => { throw Error("was read"); };
for (const name of ["arrayBuffer", "text", "bytes", "stream"]) Blob.prototype[name] = refuse;
for (const name of ["readAsArrayBuffer", "readAsText", "readAsDataURL"]) FileReader.prototype[name] = refuse;
null
"""


def hear(utterance: Utterance) -> str:
    """Long enough for several subtitles, with what subtitles have to escape."""
    return "Bread & butter <hot>. " + " ".join(f"word{i}" for i in range(len(utterance.audio) // 1_000)) + "."


def wav(folder: Path, name: str = "talk.wav", audio: np.ndarray = TWO_TURNS) -> Path:
    soundfile.write(folder / name, audio, 16_000, "PCM_16")
    return folder / name


async def choose(page: Page, *paths: Path) -> Locator:
    await page.click("#files-tab")
    await page.set_input_files("#choose", paths)
    return page.locator(".file")


async def saved(page: Page, item: Locator, kind: str) -> str:
    await item.locator(".format").select_option(kind)
    async with page.expect_download() as download:
        await item.locator(".save").click()
    path = await (await download.value).path()
    return await asyncio.to_thread(path.read_text, "utf-8")


async def test_files_are_heard_one_after_the_other_and_their_downloads_parse(tmp_path: Path) -> None:
    paths = [wav(tmp_path), wav(tmp_path, "second.flac")]
    async with serving(ScriptedModel(hear)) as running, browsing(f"{running.http}/", tmp_path) as page:
        await page.evaluate(NO_READING)
        items = await choose(page, *paths)
        await expect(page.locator(".file-state")).to_have_text(["Done.", "Done."], timeout=20_000)
        assert await items.locator("h2").all_inner_texts() == ["talk.wav", "second.flac"]
        turns = await items.first.locator(".turns li p").all_inner_texts()
        assert len(turns) == 2
        assert await saved(page, items.first, "txt") == "".join(f"{turn}\n" for turn in turns)
        cues = list(srt.parse(await saved(page, items.first, "srt"), ignore_errors=False))
        captions = list(webvtt.from_buffer(io.StringIO(await saved(page, items.first, "vtt"))))
        document = json.loads(await saved(page, items.first, "json"))
    assert document["file"] == "talk.wav"
    assert [turn["text"] for turn in document["turns"]] == turns
    assert ["".join(word["text"] for word in turn["words"]) for turn in document["turns"]] == turns
    assert " ".join(cue.content.replace("\n", " ") for cue in cues) == " ".join(turns)
    assert " ".join(html.unescape(caption.text).replace("\n", " ") for caption in captions) == " ".join(turns)
    assert len(cues) == len(captions) > 4
    for cue, after in pairwise(cues):
        assert cue.start < cue.end <= after.start
    lines = [line for cue in cues for line in cue.content.splitlines()]
    assert max(map(len, lines)) <= 42
    assert max(len(cue.content.splitlines()) for cue in cues) <= 2


async def test_a_click_on_a_word_plays_it(tmp_path: Path) -> None:
    async with serving(ScriptedModel(hear)) as running, browsing(f"{running.http}/", tmp_path) as page:
        await choose(page, wav(tmp_path))
        await expect(page.locator(".file-state")).to_have_text("Done.", timeout=20_000)
        await page.evaluate("document.querySelector('audio').play = function () { this.played_at = this.currentTime; }")
        word = page.locator(".turns li:nth-child(2) [data-start]").nth(8)
        await word.click()
        start = float(await word.get_attribute("data-start") or "nan")
        assert await page.evaluate("document.querySelector('audio').played_at") == pytest.approx(start, abs=0.01)
        assert 3.4 < start < 6.6
        await expect(word).to_have_class("played")
        await page.get_by_role("button", name="Play from 0:00.5").press("Enter")
        assert await page.evaluate("document.querySelector('audio').played_at") == pytest.approx(0.5, abs=0.1)


async def test_turns_come_while_the_file_is_heard_and_cancelling_ends_the_work(tmp_path: Path) -> None:
    gate, calls = threading.Event(), []

    def hear_one(utterance: Utterance) -> str:
        if utterance.audio.any():
            calls.append(utterance)
            if len(calls) > 1:
                assert gate.wait(20)
        return "yes"

    async with serving(ScriptedModel(hear_one, max_batch=1)) as running, browsing(f"{running.http}/", tmp_path) as page:
        items = await choose(page, wav(tmp_path), wav(tmp_path, "next.wav", TWO_TURNS[:40_000]))
        await expect(items.first.locator(".turns li")).to_have_count(1, timeout=20_000)
        await expect(items.first.locator(".file-state")).to_contain_text("Heard up to 0:01.5 of 0:08.5")
        await expect(items.nth(1).locator(".file-state")).to_have_text("Waits for its turn.")
        await items.first.locator(".cancel").click()
        await expect(items.first.locator(".file-state")).to_have_text("Cancelled.")
        await running.until(lambda: running.service.describe()["sessions"] == 1)  # the next one's
        gate.set()
        await expect(items.nth(1).locator(".file-state")).to_have_text("Done.", timeout=20_000)
        await items.first.locator(".again").click()
        await expect(items.first.locator(".file-state")).to_have_text("Done.", timeout=20_000)
        await expect(items.first.locator(".turns li")).to_have_count(2)
        await items.first.locator(".remove").click()
        await expect(items).to_have_count(1)


async def test_what_is_no_audio_says_so_and_the_next_file_is_heard(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no sound")
    async with serving(ScriptedModel(hear)) as running, browsing(f"{running.http}/", tmp_path) as page:
        await choose(page, tmp_path / "notes.txt", wav(tmp_path))
        states = page.locator(".file-state")
        await expect(states.nth(1)).to_have_text("Done.", timeout=20_000)
        await expect(states.first).to_contain_text("Failed:")
        await expect(states.first).to_contain_text("audio")
        await expect(page.locator(".player").first).to_contain_text("This browser cannot play this file")


async def test_a_file_that_is_broken_off_gives_what_it_has_and_says_so(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 64_000)
    whole = wav(tmp_path, "half.flac", noise).read_bytes()
    (tmp_path / "half.flac").write_bytes(whole[: len(whole) // 2])
    async with serving(ScriptedModel(hear)) as running, browsing(f"{running.http}/", tmp_path) as page:
        await choose(page, tmp_path / "half.flac")
        await expect(page.locator(".file-state")).to_contain_text(
            "Done, but not all of it could be read:", timeout=20_000
        )
        await expect(page.locator(".turns li")).not_to_have_count(0)


async def test_a_server_without_room_is_asked_again(tmp_path: Path) -> None:
    async with serving(ScriptedModel(hear), max_sessions=1) as running, browsing(f"{running.http}/", tmp_path) as page:
        await page.clock.install()
        async with running.connect():
            await choose(page, wav(tmp_path))
            await expect(page.locator(".file-state")).to_contain_text("It is sent again in 5 s.")
        await running.until(lambda: running.service.describe()["sessions"] == 0)
        await page.clock.fast_forward(5_000)
        await expect(page.locator(".file-state")).to_have_text("Done.", timeout=20_000)


async def test_what_is_refused_is_told_before_a_long_file_is_sent(tmp_path: Path) -> None:
    """A server that refuses does not read a long body to its end; a browser then knows of a lost connection alone."""
    with (tmp_path / "long.wav").open("wb") as file:
        file.truncate(200 << 20)
    async with (
        serving(api_keys=("right",), max_upload_bytes=2 << 20) as running,
        browsing(f"{running.http}/", tmp_path) as page,
    ):
        await choose(page, tmp_path / "long.wav")
        await expect(page.locator(".file-state")).to_contain_text("This server wants an API key")
        await page.fill("#key", "right")
        await page.click("#key-form button")
        await expect(page.locator(".file-state")).to_contain_text("The server takes at most 2 MiB")


async def test_a_key_that_is_wanted_is_asked_for_and_the_file_sent(tmp_path: Path) -> None:
    async with (
        serving(ScriptedModel(hear), api_keys=("right",)) as running,
        browsing(f"{running.http}/", tmp_path) as page,
    ):
        await choose(page, wav(tmp_path))
        await page.fill("#key", "right")
        await page.click("#key-form button")
        await expect(page.locator(".file-state")).to_have_text("Done.", timeout=20_000)


async def test_a_server_that_takes_no_files_says_how_it_would(tmp_path: Path) -> None:
    async with (
        serving(dialects=(FAMILIES["native"],)) as running,
        browsing(f"{running.http}/", tmp_path) as page,
    ):
        await choose(page, wav(tmp_path))
        await expect(page.locator(".file-state")).to_contain_text("start it with openai among its --dialects")


async def test_language_and_terms_of_the_settings_are_asked_for(tmp_path: Path) -> None:
    model = ScriptedModel(hear)
    async with serving(model) as running, browsing(f"{running.http}/", tmp_path) as page:
        await page.locator("summary", has_text="Settings").click()
        await page.fill("[name=terms]", "Hibari\n\n zizmor \n")
        await page.fill("[name=language]", "auto")
        await page.press("[name=language]", "Tab")
        await choose(page, wav(tmp_path))
        await expect(page.locator(".file-state")).to_have_text("Done.", timeout=20_000)
    asked = [utterance.options for batch in model.batches for utterance in batch if utterance.audio.any()]
    assert {(options.language, options.terms, options.live) for options in asked} == {
        (None, ("Hibari", "zizmor"), False)
    }


async def test_a_dropped_file_gives_the_text_of_stt_file(tmp_path: Path) -> None:
    path = wav(tmp_path, audio=talk(sentences(4, seed=5), [2.0, 0.6, 2.0, 1.0]))
    command = (sys.executable, "-m", "stt.cli", "file", "--quiet", "--engine", "whisper", "--device", "cpu", str(path))
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    expected = (await process.communicate())[0].decode()
    assert expected

    def whisper() -> SpeechModel:
        return open_engine(EngineSettings(engine="whisper", device="cpu")).model

    async with serving(whisper, vad=VadPool, ready=False) as running:
        await running.until(lambda: running.service.state == "ready", 60)
        async with browsing(f"{running.http}/", tmp_path) as page:
            dropped = await page.evaluate_handle(
                """(content) => {
                    const carried = new DataTransfer();
                    const bytes = Uint8Array.from(atob(content), (char) => char.charCodeAt());
                    carried.items.add(new File([bytes], "talk.wav", { type: "audio/wav" }));
                    return carried;
                }""",
                base64.b64encode(path.read_bytes()).decode(),
            )
            await page.dispatch_event("body", "drop", {"dataTransfer": dropped})
            await expect(page.locator(".file-state")).to_have_text("Done.", timeout=60_000)
            assert await saved(page, page.locator(".file"), "txt") == expected
