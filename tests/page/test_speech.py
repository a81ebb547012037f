"""A spoken conversation through Chromium's microphone, the page, the real detector and the real engine."""

from pathlib import Path

from browser import browsing
from playwright.async_api import expect

from serving import serving
from spoken import sentences, talk, word_errors
from stt.engines import open_engine
from stt.recognition import SpeechModel
from stt.settings import EngineSettings
from stt.vad_pool import VadPool


async def test_a_conversation_of_six_turns_is_six_turns(tmp_path: Path) -> None:
    said = sentences(6, seed=13)
    audio = talk(said, [1.8] * 6)

    def whisper() -> SpeechModel:
        return open_engine(EngineSettings(engine="whisper", device="cpu")).model

    async with serving(whisper, vad=VadPool, ready=False) as running:
        await running.until(lambda: running.service.state == "ready", 60)
        async with browsing(f"{running.http}/", tmp_path, audio) as page:
            await page.click("#listen")
            finals = page.locator("#turns li:has(.why)")
            await expect(finals).to_have_count(6, timeout=90_000)
            texts = await finals.evaluate_all(
                "items => items.map((item) => item.lastChild.innerText.replace(/\\n.*$/, ''))"
            )
    errors, words = zip(*map(word_errors, said, texts), strict=True)
    assert sum(errors) <= 0.2 * sum(words), texts
