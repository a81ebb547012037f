"""OpenAI's Realtime API, against bytes on the wire."""

import asyncio
import base64
import json

import pytest
from websockets.exceptions import InvalidStatus

from realtime import TRANSCRIPTION, append, kinds, send, talking, until, update
from scripted import ScriptedModel, tone
from serving import rest, serving
from spoken import silence
from stt.audio import to_pcm16
from stt.recognition import Utterance
from stt.settings import TurnSettings


def grows() -> ScriptedModel:
    """One word for each half second."""

    def hear(utterance: Utterance) -> str:
        return " ".join(f"w{i}" for i in range(round((utterance.speech_s or 0) * 2)))

    return ScriptedModel(hear)


async def test_the_server_speaks_first() -> None:
    async with serving(grows()) as running, talking(running, "?intent=transcription&model=gpt-4o") as websocket:
        created = json.loads(await websocket.recv())
    assert created["type"] == "session.created"
    session = created["session"]
    assert (session["type"], session["object"]) == ("transcription", "realtime.transcription_session")
    assert session["id"].startswith("sess_")
    assert session["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24_000}
    assert session["audio"]["input"]["transcription"] == {"model": "gpt-4o"}
    assert session["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 500


async def test_turns_that_the_server_finds() -> None:
    async with serving(grows()) as running, talking(running) as websocket:
        await update(websocket)
        await append(websocket, silence(1.0), tone(2.0), silence(1.0), tone(1.0), silence(1.0))
        first = await until(websocket, f"{TRANSCRIPTION}.completed")
        second = await until(websocket, f"{TRANSCRIPTION}.completed")
    ids = [{event["item_id"] for event in turn} for turn in (first, second)]
    assert [len(one) for one in ids] == [1, 1]
    assert ids[0] != ids[1]
    for turn, start_ms, end_ms in ((first, 700, 3_500), (second, 3_700, 5_500)):
        assert kinds(turn) == ["speech_started", "speech_stopped", "committed", "completed"]
        by_kind = {event["type"]: event for event in turn}
        started, stopped = (by_kind[f"input_audio_buffer.speech_{what}"] for what in ("started", "stopped"))
        assert started["audio_start_ms"] == pytest.approx(start_ms, abs=40)
        assert stopped["audio_end_ms"] == pytest.approx(end_ms, abs=70)
        completed = turn[-1]
        assert completed["content_index"] == 0
        assert completed["usage"]["type"] == "duration"
        assert isinstance(completed["usage"]["seconds"], float)
        deltas = [event["delta"] for event in turn if event["type"].endswith("delta")]
        assert "".join(deltas) == completed["transcript"]
    assert first[-1]["transcript"] == "w0 w1 w2 w3"
    committed = [event for event in first + second if event["type"].endswith("committed")]
    assert [event["previous_item_id"] for event in committed] == [None, *ids[0]]
    every = [event["event_id"] for event in first + second]
    assert len(set(every)) == len(every)


async def test_a_turn_starts_no_earlier_than_the_stream() -> None:
    async with serving(grows()) as running, talking(running) as websocket:
        await update(websocket)
        await append(websocket, tone(0.5))
        (started,) = [e for e in await until(websocket, "input_audio_buffer.speech_started") if "audio_start_ms" in e]
    assert started["audio_start_ms"] == 0


async def test_turns_that_the_client_commits() -> None:
    """However long the silences, an item is what was committed."""
    async with serving(grows()) as running, talking(running) as websocket:
        assert (await update(websocket, turn_detection=None))["audio"]["input"]["turn_detection"] is None
        await append(websocket, tone(1.0), silence(5.0), tone(1.0), silence(3.0))
        await send(websocket, "input_audio_buffer.commit")
        await append(websocket, silence(0.5))
        await send(websocket, "input_audio_buffer.commit")
        await append(websocket, tone(0.5))
        await send(websocket, "input_audio_buffer.commit")
        items = [await until(websocket, f"{TRANSCRIPTION}.completed") for _ in range(3)]
    every = [event for item in items for event in item]
    ids = [item[-1]["item_id"] for item in items]
    assert [kinds([event for event in every if event["item_id"] == one]) for one in ids] == [
        ["committed", "completed"]
    ] * 3
    assert [item[-1]["transcript"] for item in items] == ["w0 w1 w0 w1", "", "w0"]
    assert {event["item_id"] for event in every} == set(ids)


async def test_what_the_client_commits_is_committed_at_once() -> None:
    """Before the engine has said anything; texts that come later are of the items that were told."""
    model = grows()
    async with serving(model) as running, talking(running) as websocket:
        await update(websocket, turn_detection=None)
        model.free.clear()
        for sound in (tone(1.0), silence(1.0), tone(2.0)):
            await append(websocket, sound)
            await send(websocket, "input_audio_buffer.commit")
        committed = [event for _ in range(3) for event in await until(websocket, "input_audio_buffer.committed")]
        assert kinds(committed) == ["committed"] * 3
        ids = [event["item_id"] for event in committed]
        assert [event["previous_item_id"] for event in committed] == [None, *ids[:2]]
        model.free.set()
        items = [await until(websocket, f"{TRANSCRIPTION}.completed") for _ in range(3)]
    assert [[{event["item_id"] for event in item}, item[-1]["transcript"]] for item in items] == [
        [{ids[0]}, "w0 w1"],
        [{ids[1]}, ""],
        [{ids[2]}, "w0 w1 w2 w3"],
    ]


async def test_deltas_before_a_commit_have_its_item() -> None:
    async with serving(grows()) as running, talking(running) as websocket:
        await update(websocket, turn_detection=None)
        for kind in ("clear", "commit", "commit"):
            await append(websocket, tone(3.0))
            delta = (await until(websocket, f"{TRANSCRIPTION}.delta"))[-1]
            await send(websocket, f"input_audio_buffer.{kind}")
            if kind == "clear":
                cleared = delta["item_id"]
                await until(websocket, "input_audio_buffer.cleared")
                continue
            rest = await until(websocket, f"{TRANSCRIPTION}.completed")
            assert {event["item_id"] for event in rest} == {delta["item_id"]} != {cleared}
            assert rest[-1]["transcript"] == "w0 w1 w2 w3 w4 w5"


@pytest.mark.parametrize("vad", [True, False])
async def test_a_commit_of_nothing_is_an_error_that_the_session_survives(vad: bool) -> None:
    async with serving(grows(), max_errors=2) as running, talking(running) as websocket:
        await update(websocket, **({} if vad else {"turn_detection": None}))
        for _ in range(4):
            await append(websocket, tone(0.05))
            await send(websocket, "input_audio_buffer.commit", event_id="mine")
            wrong = (await until(websocket, "error"))[-1]["error"]
            assert (wrong["code"], wrong["event_id"]) == ("input_audio_buffer_commit_empty", "mine")
            assert set(wrong) == {"type", "code", "message", "param", "event_id"}
        await append(websocket, tone(1.0))
        await send(websocket, "input_audio_buffer.commit")
        assert (await until(websocket, f"{TRANSCRIPTION}.completed"))[-1]["transcript"]


async def test_a_commit_beside_turn_detection() -> None:
    """It ends the running turn at once; after one that ended by itself it gets an item without words, and no error."""
    async with serving(grows()) as running, talking(running) as websocket:
        await update(websocket)
        await append(websocket, tone(1.0))
        await send(websocket, "input_audio_buffer.commit")
        first = await until(websocket, f"{TRANSCRIPTION}.completed")
        await append(websocket, tone(1.0), silence(0.7))
        second = await until(websocket, f"{TRANSCRIPTION}.completed")
        await send(websocket, "input_audio_buffer.commit")
        third = await until(websocket, f"{TRANSCRIPTION}.completed")
    for turn in (first, second):
        assert kinds(turn) == ["speech_started", "speech_stopped", "committed", "completed"]
        assert turn[-1]["transcript"]
    assert (kinds(third), third[-1]["transcript"]) == (["committed", "completed"], "")


async def test_a_cough_is_closed() -> None:
    async with serving(ScriptedModel(lambda _: "")) as running, talking(running) as websocket:
        await update(websocket)
        await append(websocket, tone(0.4), silence(1.0))
        turn = await until(websocket, f"{TRANSCRIPTION}.completed")
    assert kinds(turn) == ["speech_started", "speech_stopped", "committed", "completed"]
    assert turn[-1]["transcript"] == ""


async def test_clear_forgets_what_is_not_committed() -> None:
    async with serving(grows()) as running, talking(running) as websocket:
        await update(websocket, turn_detection=None)
        await append(websocket, tone(2.0))
        await send(websocket, "input_audio_buffer.clear")
        assert kinds(await until(websocket, "input_audio_buffer.cleared")) == ["cleared"]
        await append(websocket, tone(0.5))
        await send(websocket, "input_audio_buffer.commit")
        assert (await until(websocket, f"{TRANSCRIPTION}.completed"))[-1]["transcript"] == "w0"


async def test_half_a_sample_is_cleared_as_well() -> None:
    """What comes then would be noise."""
    async with serving(grows()) as running, talking(running) as websocket:
        await update(websocket, turn_detection=None)
        await send(websocket, "input_audio_buffer.append", audio=base64.b64encode(b"odd").decode())
        await send(websocket, "input_audio_buffer.clear")
        await append(websocket, tone(0.5))
        await send(websocket, "input_audio_buffer.commit")
        assert (await until(websocket, f"{TRANSCRIPTION}.completed"))[-1]["transcript"] == "w0"


@pytest.mark.parametrize("line_break", ["\n", "\r\n"])
async def test_base64_may_come_in_lines(line_break: str) -> None:
    """As encoders of MIME write it."""
    async with serving(grows()) as running, talking(running) as websocket:
        await update(websocket, turn_detection=None, format={"type": "audio/pcm", "rate": 16_000})
        lines = base64.encodebytes(to_pcm16(tone(1.0))).decode().replace("\n", line_break)
        await send(websocket, "input_audio_buffer.append", audio=lines)
        await send(websocket, "input_audio_buffer.commit")
        assert (await until(websocket, f"{TRANSCRIPTION}.completed"))[-1]["transcript"] == "w0 w1"


async def test_an_update_keeps_what_it_does_not_mention() -> None:
    async with serving(grows()) as running, talking(running) as websocket:
        await update(websocket, transcription={"model": "m", "language": "en", "prompt": "Zaphod"})
        vad = {"type": "server_vad", "threshold": 0.6, "silence_duration_ms": 350}
        session = await update(websocket, turn_detection=vad, noise_reduction={"type": "near_field"})
        heard = session["audio"]["input"]
        assert heard["transcription"] == {"model": "m", "language": "en", "prompt": "Zaphod"}
        assert heard["turn_detection"] | vad == heard["turn_detection"]
        assert heard["turn_detection"]["prefix_padding_ms"] == 300
        session = await update(websocket, transcription={"prompt": None}, noise_reduction=None)
        assert session["audio"]["input"]["transcription"] == {"model": "m", "language": "en"}
        assert session["audio"]["input"]["noise_reduction"] is None
        assert session["audio"]["input"]["turn_detection"]["threshold"] == 0.6
        session = await update(websocket, turn_detection={"type": "semantic_vad", "eagerness": "high"})
        assert session["audio"]["input"]["turn_detection"] == {"type": "semantic_vad", "eagerness": "high"}
        await append(websocket, tone(1.0), silence(0.9))
        stopped = (await until(websocket, "input_audio_buffer.speech_stopped"))[-1]
        assert stopped["audio_end_ms"] == pytest.approx(1_700, abs=70)


@pytest.mark.parametrize("model", ["gpt-realtime-whisper", "gpt-live-transcribe-2"])
async def test_models_whose_clients_commit(model: str) -> None:
    async with serving(grows()) as running, talking(running) as websocket:
        heard = (await update(websocket, transcription={"model": model}))["audio"]["input"]
        assert heard["turn_detection"] is None
        await append(websocket, tone(1.0), silence(2.0))
        await send(websocket, "input_audio_buffer.commit")
        assert kinds(await until(websocket, f"{TRANSCRIPTION}.completed")) == ["committed", "completed"]
        heard = (await update(websocket, turn_detection={"type": "server_vad"}))["audio"]["input"]
        assert heard["turn_detection"]["type"] == "server_vad"


async def test_the_beta_has_flat_fields() -> None:
    flat = {
        "input_audio_format": "g711_ulaw",
        "input_audio_transcription": {"model": "gpt-4o-transcribe", "language": "en"},
        "turn_detection": {"type": "server_vad", "silence_duration_ms": 300},
        "input_audio_noise_reduction": {"type": "far_field"},
        "include": ["item.input_audio_transcription.logprobs"],
    }
    async with (
        serving(grows()) as running,
        talking(running, additional_headers={"OpenAI-Beta": "realtime=v1"}) as websocket,
    ):
        assert "input_audio_format" in json.loads(await websocket.recv())["session"]
        await send(websocket, "transcription_session.update", session=flat)
        (updated,) = await until(websocket, "transcription_session.updated")
        vad = flat["turn_detection"]
        assert {**updated["session"], "turn_detection": vad} == updated["session"] | flat
        await send(websocket, "session.update", session={"input_audio_format": "g711_alaw"})
        (updated,) = await until(websocket, "session.updated")
        assert updated["session"]["audio"]["input"]["format"] == {"type": "audio/pcma"}


@pytest.mark.parametrize(("kind", "loud", "quiet"), [("audio/pcmu", 0x90, 0xFF), ("audio/pcma", 0xB5, 0xD5)])
async def test_g711(kind: str, loud: int, quiet: int) -> None:
    async with serving(grows()) as running, talking(running) as websocket:
        await update(websocket, format={"type": kind})
        data = bytes([loud]) * 8_000 + bytes([quiet]) * 8_000
        await send(websocket, "input_audio_buffer.append", audio=base64.b64encode(data).decode())
        turn = await until(websocket, f"{TRANSCRIPTION}.completed")
    assert turn[-1]["usage"]["seconds"] == pytest.approx(1.0, abs=0.05)


async def test_an_append_of_15_mib() -> None:
    async with serving(grows()) as running, talking(running) as websocket:
        await update(websocket, turn_detection=None)
        audio = base64.b64encode(bytes(11 << 20)).decode()
        await send(websocket, "input_audio_buffer.append", audio=audio)
        await send(websocket, "input_audio_buffer.commit")
        assert (await until(websocket, f"{TRANSCRIPTION}.completed"))[-1]["transcript"] == ""


@pytest.mark.parametrize(
    "message",
    [
        "no json",
        "[1]",
        b"binary",
        "{}",
        '{"type": "response.create"}',
        '{"type": ["a"]}',
        '{"type": "input_audio_buffer.append"}',
        '{"type": "input_audio_buffer.append", "audio": "%%%"}',
        '{"type": "input_audio_buffer.append", "audio": "\\ud800"}',
        '{"type": "session.update", "session": {"type": "realtime"}}',
        '{"type": "session.update", "session": 5}',
        '{"type": "session.update", "session": {"audio": {"input": {"format": {"type": "audio/mp3"}}}}}',
        '{"type": "session.update", "session": {"audio": {"input": {"format": {"type": "audio/pcm", "rate": 1}}}}}',
        '{"type": "session.update", "session": {"turn_detection": {"type": "server_vad", "threshold": "NaN"}}}',
        '{"type": "session.update", "session": {"turn_detection": {"silence_duration_ms": -1}}}',
        '{"type": "session.update", "session": {"turn_detection": {"type": "psychic"}}}',
        '{"type": "session.update", "session": {"turn_detection": {"type": "semantic_vad", "eagerness": {}}}}',
        '{"type": "session.update", "session": {"input_audio_transcription": {"language": "tlh"}}}',
        '{"type": "session.update", "session": {"input_audio_transcription": {"keywords": [1]}}}',
        '{"type": "session.update", "session": {"include": "all"}}',
        json.dumps({"type": "session.update", "session": {"input_audio_transcription": {"prompt": "a" * 70_000}}}),
    ],
)
async def test_what_is_wrong_is_told_and_the_session_goes_on(message: str | bytes) -> None:
    async with serving(grows()) as running, talking(running) as websocket:
        before = await update(websocket)
        await websocket.send(message)
        (event,) = await until(websocket, "error")
        assert set(event) == {"type", "event_id", "error"}
        assert set(event["error"]) == {"type", "code", "message", "param", "event_id"}
        assert event["error"]["type"] == "invalid_request_error"
        assert await update(websocket) == before
        await append(websocket, tone(1.0), silence(1.0))
        assert (await until(websocket, f"{TRANSCRIPTION}.completed"))[-1]["transcript"]


async def test_an_engine_that_fails() -> None:
    def hear(utterance: Utterance) -> str:
        if utterance.speech_s:
            raise RuntimeError("secret words")
        return ""

    async with serving(ScriptedModel(hear)) as running, talking(running) as websocket:
        await update(websocket)
        await append(websocket, tone(1.0), silence(1.0))
        turn = await until(websocket, f"{TRANSCRIPTION}.failed")
    assert kinds(turn) == ["speech_started", "speech_stopped", "committed", "failed"]
    assert turn[-1]["error"]["type"] == "server_error"
    assert "secret" not in json.dumps(turn)


@pytest.mark.parametrize("vad", [True, False])
async def test_an_engine_that_fails_on_a_part(vad: bool) -> None:
    """What there is of the text comes as deltas; that it is not all is told, and the next item is none the worse."""

    def hear(utterance: Utterance) -> str:
        if utterance.key.window == 1 and utterance.key.turn == 0:
            raise RuntimeError("secret words")
        return "Well."

    turns = TurnSettings(window_s=5, overlap_s=0)
    async with serving(ScriptedModel(hear), turns=turns) as running, talking(running) as websocket:
        await update(websocket, **({} if vad else {"turn_detection": None}))
        for wanted in ("failed", "completed"):
            await append(websocket, tone(7.0), silence(1.0))
            if not vad:
                await send(websocket, "input_audio_buffer.commit")
            item = await until(websocket, f"{TRANSCRIPTION}.{wanted}")
            assert kinds(item) == [*(["speech_started", "speech_stopped"] if vad else []), "committed", wanted]
            assert len({event["item_id"] for event in item}) == 1
            text = "".join(event["delta"] for event in item if event["type"].endswith("delta"))
            assert text == ("Well." if wanted == "failed" else "Well. Well.")


async def test_keys_of_programs_and_of_browsers() -> None:
    async with serving(grows(), api_keys=("geheim",)) as running:
        async with talking(running, additional_headers={"Authorization": "Bearer geheim"}):
            pass
        protocols = ["realtime", "openai-insecure-api-key.geheim", "openai-beta.realtime-v1"]
        async with talking(running, subprotocols=protocols) as websocket:
            assert websocket.subprotocol == "realtime"
            assert "input_audio_format" in json.loads(await websocket.recv())["session"]
        with pytest.raises(InvalidStatus) as refused:
            await talking(running, additional_headers={"Authorization": "Bearer wrong"})
    response = refused.value.response
    error = json.loads(response.body)["error"]
    assert (response.status_code, error["code"], set(error)) == (
        401,
        "invalid_api_key",
        {"message", "type", "param", "code"},
    )


async def test_who_says_nothing_is_closed_without_an_error() -> None:
    """LiveKit's plugin would never connect again."""
    async with serving(grows(), idle_timeout_s=0.1) as running, talking(running) as websocket:
        assert [event["type"] for event in await rest(websocket)] == ["session.created"]
        assert (websocket.close_code, websocket.close_reason) == (1008, "idle")


async def test_an_error_names_the_event_that_it_is_about() -> None:
    async with serving(grows()) as running, talking(running) as websocket:
        await send(websocket, "input_audio_buffer.append", audio=7, event_id="mine")
        wrong = (await until(websocket, "error"))[-1]["error"]
        assert (wrong["event_id"], wrong["param"]) == ("mine", "audio")


async def test_an_update_while_somebody_speaks_loses_nothing() -> None:
    async with serving(grows()) as running, talking(running) as websocket:
        await update(websocket)
        await append(websocket, tone(1.0))
        await until(websocket, "input_audio_buffer.speech_started")
        heard = (await update(websocket, turn_detection={"silence_duration_ms": 900}))["audio"]["input"]
        assert heard["turn_detection"]["silence_duration_ms"] == 900
        await append(websocket, tone(1.0), silence(1.2))
        turn = await until(websocket, f"{TRANSCRIPTION}.completed")
    assert turn[-1]["transcript"] == "w0 w1 w2 w3"
    (stopped,) = [event for event in turn if event["type"].endswith("speech_stopped")]
    assert stopped["audio_end_ms"] == pytest.approx(2_900, abs=70)


async def test_who_waits_for_a_late_text_gets_it_however_long_that_takes() -> None:
    """It says nothing meanwhile: that is not idle."""
    model = grows()
    async with serving(model, idle_timeout_s=0.1) as running, talking(running) as websocket:
        await update(websocket, turn_detection=None)
        model.free.clear()
        await append(websocket, tone(1.0))
        await send(websocket, "input_audio_buffer.commit")
        await until(websocket, "input_audio_buffer.committed")
        await asyncio.sleep(0.3)
        model.free.set()
        assert kinds(await until(websocket, f"{TRANSCRIPTION}.completed"))[-1] == "completed"
