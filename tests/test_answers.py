"""Questions to the engine's language model: `stt ask`, and chat completions over HTTP."""

import asyncio
import io
import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from scripted import ScriptedModel
from serving import Running, serving
from stt.cli import main
from stt.commands.ask import read
from stt.engines.canary_qwen import CanaryQwen
from stt.errors import EngineError, EngineLostError, SettingsError
from stt.recognition.answers import Answer, Finished, Message, about, language_model
from stt.remote_answers import RemoteAnswers

TOY = Path(__file__).parent / "data" / "canary-toy"
PATH = "/v1/chat/completions"


class Answering(ScriptedModel):
    """An engine whose language model says what it was asked, word by word; `for ever`: until nobody listens."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Sequence[Message]] = []
        self.closed_early = threading.Event()
        self.lost: EngineLostError | None = None

    @property
    def language_model(self) -> "Answering":
        return self

    def answer(self, messages: Sequence[Message], most_tokens: int = 512) -> Answer:
        self.asked.append(messages)
        words = messages[-1].content.split(" ")
        if words[0] == "fail":
            raise EngineError("too long for me")
        if words[0] == "lose":
            self.lost = EngineLostError("the GPU is gone")
            raise self.lost
        try:
            while messages[-1].content == "for ever":
                yield "word "
                time.sleep(0.001)
            for i, word in enumerate(words[:most_tokens]):
                yield word if i == 0 else f" {word}"
        except GeneratorExit:
            self.closed_early.set()
            raise
        return Finished("stop" if len(words) <= most_tokens else "length", 7, min(len(words), most_tokens))


async def ask(running: Running, content: Any = "Who speaks?", **fields: Any) -> httpx.Response:
    async with httpx.AsyncClient(base_url=running.http, timeout=20) as client:
        body = {"model": "canary-qwen", "messages": [{"role": "user", "content": content}]} | fields
        return await client.post(PATH, json=body)


async def test_an_answer_in_one_piece() -> None:
    model = Answering()
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Who?"}]},
    ]
    async with serving(model) as running:
        answer = (await ask(running, messages=messages)).json()
        short = (await ask(running, "one two three", max_completion_tokens=2)).json()
    assert model.asked[0] == (Message("system", "Be brief."), Message("user", "Who?"))
    assert answer["object"] == "chat.completion"
    assert answer["choices"][0]["message"] == {"role": "assistant", "content": "Who?", "refusal": None}
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"] == {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8}
    assert (short["choices"][0]["message"]["content"], short["choices"][0]["finish_reason"]) == ("one two", "length")


async def test_an_answer_as_it_comes() -> None:
    async with serving(Answering()) as running:
        answer = await ask(running, "Who speaks now?", stream=True, stream_options={"include_usage": True})
    assert answer.headers["content-type"] == "text/event-stream"
    *chunks, last = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert last == "[DONE]"
    *events, usage = map(json.loads, chunks)
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    assert len({event["id"] for event in (*events, usage)}) == 1
    assert [event["choices"][0]["delta"] for event in events] == [
        {"role": "assistant", "content": ""},
        {"content": "Who"},
        {"content": " speaks"},
        {"content": " now?"},
        {},
    ]
    assert events[-1]["choices"][0]["finish_reason"] == "stop"
    assert (usage["choices"], usage["usage"]["total_tokens"]) == ([], 10)


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"messages": []}, "messages", "a list of 1 to 200"),
        ({"messages": "x"}, "messages", "a list of 1 to 200"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages", "messages[0].role must be one of"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages", "messages[0].content"),
        ({"messages": [3]}, "messages", "messages[0].role"),
        ({"n": 2}, "n", "n must be 1"),
        ({"tools": [{}]}, "tools", "not supported"),
        ({"stream": "yes"}, "stream", "true or false"),
        ({"max_tokens": 0.5}, "max_tokens", "from 1 to 8192"),
        ({"messages": [{"role": "user", "content": "fail"}]}, "messages", "too long for me"),
    ],
)
async def test_what_cannot_work_is_told(fields: dict[str, Any], param: str, said: str) -> None:
    async with serving(Answering()) as running:
        answer = await ask(running, **fields)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == param
    assert said in answer.json()["error"]["message"]


async def test_an_engine_without_a_language_model_says_so() -> None:
    async with serving(ScriptedModel()) as running:
        answer = await ask(running)
    assert answer.status_code == 400
    assert "scripted has no language model to answer with; canary-qwen has" in answer.json()["error"]["message"]


async def test_a_gpu_that_is_lost_on_a_question_ends_the_server_too() -> None:
    """Where nobody speaks, no call of the recognizer would ever show it."""
    async with serving(Answering()) as running:
        running.service.on_failure = running.server.stop  # as `serve` has it
        answer = await ask(running, "lose it")
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "engine_failed")
        await running.until(lambda: running.service.state == "failed")
        assert isinstance(running.service.failure, EngineLostError)  # with which `stt serve` ends, and not with 0


def answered(model: RemoteAnswers, question: str, most_tokens: int = 512) -> tuple[list[str], Finished]:
    pieces: list[str] = []
    answer = model.answer([Message("user", question)], most_tokens)
    while True:
        try:
            pieces.append(next(answer))
        except StopIteration as ended:
            return pieces, ended.value


async def test_a_client_asks_the_server_it_is_connected_to() -> None:
    model = Answering()
    async with serving(model, api_keys=("secret",)) as running:
        for url in (running.ws, running.ws.removesuffix("/ws/transcribe"), f"{running.ws}?language=en"):
            remote = RemoteAnswers(url, api_key="secret")
            assert await asyncio.to_thread(answered, remote, "Who speaks now?") == (
                ["Who", " speaks", " now?"],
                Finished("stop", 7, 3),
            )
        assert await asyncio.to_thread(answered, remote, "one two three", 2) == (
            ["one", " two"],
            Finished("length", 7, 2),
        )
        for asked, question, said in (
            (remote, "fail", "too long for me"),
            (RemoteAnswers(running.ws, api_key="wrong"), "Who?", "key"),
        ):
            with pytest.raises(EngineError, match=said):
                await asyncio.to_thread(answered, asked, question)
    assert model.asked[0] == (Message("user", "Who speaks now?"),)
    with pytest.raises(EngineError, match=r"http://127.0.0.1:\d+/v1/chat/completions: \[Errno \d+\] .*refused; is"):
        await asyncio.to_thread(answered, remote, "Who?")
    async with serving(ScriptedModel()) as running:
        with pytest.raises(EngineError, match="scripted has no language model to answer with"):
            await asyncio.to_thread(answered, RemoteAnswers(running.ws), "Who?")


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"data: {", "completions: Expecting property name"),
        (b"data: [1]\n\n", "completions: 'list' object"),
        (b'data: {"choices": [{}]}\n\n', "completions: 'delta'"),
        (b'data: {"choices": [{"delta": {"content": "One"}}]}\n\n', "the answer broke off"),
        (b'data: {"error": {"message": "the server failed"}}\n\n', "the server failed"),
        (b"\xff\xff\n", "completions: 'utf-8' codec"),
    ],
)
async def test_an_answer_that_is_none_is_told(sent: bytes, said: str) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n" + sent)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(EngineError, match=said):
            await asyncio.to_thread(answered, RemoteAnswers(f"ws://127.0.0.1:{port}"), "Who?")


async def test_who_hangs_up_is_not_answered_any_further() -> None:
    model = Answering()
    async with serving(model) as running:
        with pytest.raises(httpx.ReadTimeout):
            async with httpx.AsyncClient(base_url=running.http, timeout=0.3) as client:
                await client.post(PATH, json={"messages": [{"role": "user", "content": "for ever"}]})
        await asyncio.to_thread(model.closed_early.wait, 10)
        assert model.closed_early.is_set()


@pytest.mark.parametrize(
    ("written", "text"),
    [
        ('{"file": "a", "turns": [{"text": "One."}, {"text": "Two."}]}\n', "One.\nTwo."),
        ('{"turns": [{"text": "One."}]}\n{"turns": [{"text": "Two."}]}\n', "One.\nTwo."),
        ('{\n "text": "Pretty."\n}\n', "Pretty."),
        ("1\n00:00:00,000 --> 00:00:01,000\nOne.\n", "1\n00:00:00,000 --> 00:00:01,000\nOne.\n"),
        ("[1, 2]", "[1, 2]"),
        ("12", "12"),
    ],
)
def test_transcripts_are_read_as_they_come(tmp_path: Path, written: str, text: str, monkeypatch: Any) -> None:
    (tmp_path / "x").write_text(written)
    assert read(str(tmp_path / "x")) == text
    monkeypatch.setattr("sys.stdin", io.StringIO(written))
    assert read("-") == text


def test_transcripts_that_cannot_be_read_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "latin").write_bytes(b"\xff\xfe\xfd")
    with pytest.raises(SettingsError, match="no text in UTF-8"):
        read(str(tmp_path / "latin"))
    assert main(["ask", "What?", str(tmp_path / "missing")]) == 2
    (tmp_path / "empty").touch()
    assert main(["ask", "What?", str(tmp_path / "empty")]) == 2
    assert "there is no text in" in capsys.readouterr().err


async def test_a_server_answers_on_the_command_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "x.json").write_text('{"turns": [{"text": "We meet on Monday."}]}')
    model = Answering()
    async with serving(model, api_keys=("secret",)) as running:
        asked = ["ask", "--connect", running.ws, "When do we meet?", str(tmp_path / "x.json"), "--api-key"]
        assert await asyncio.to_thread(main, [*asked, "secret"]) == 0
        assert capfd.readouterr().out == "Transcript:\nWe meet on Monday.\n\nQuestion: When do we meet?\n"
        assert await asyncio.to_thread(main, [*asked, "wrong"]) == 1
        assert "key" in capfd.readouterr().err
    assert await asyncio.to_thread(main, [*asked, "secret"]) == 1
    assert "refused" in capfd.readouterr().err


@pytest.mark.canary
def test_the_engine_answers_on_the_command_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("on a GPU that takes minutes, and answers need nothing of it")

    monkeypatch.setattr("nemo_lite.CanaryQwen.warm_up", never)
    (tmp_path / "x.json").write_text('{"turns": [{"text": "We meet on Monday."}]}')
    engine = ["--engine", "canary-qwen", "--model-dir", str(TOY), "--device", "cpu", "--most-tokens", "12", "-q"]
    assert main(["ask", "When?", str(tmp_path / "x.json"), *engine]) == 0
    plain = capfd.readouterr().out
    assert main(["ask", "When?", str(tmp_path / "x.json"), *engine, "--json"]) == 0
    document = json.loads(capfd.readouterr().out)
    assert plain == document["answer"] + "\n"
    assert document["answer_tokens"] <= 12
    assert document["prompt_tokens"] > 20


@pytest.mark.canary
def test_a_conversation_that_is_too_long_is_refused_before_anything_is_computed() -> None:
    engine = CanaryQwen(model_dir=str(TOY), device="cpu", threads=1)
    with pytest.raises(EngineError, match=r"expected a conversation of at most 32256 tokens, got one of \d+"):
        next(language_model(engine).answer(about("word " * 40_000, "What?")))
    with pytest.raises(EngineError, match="scripted has no language model"):
        language_model(ScriptedModel())
