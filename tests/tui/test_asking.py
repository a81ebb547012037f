"""`a`: a question about what was said, asked on the screen, and answered by the engine's language model."""

import sys
import threading
from collections.abc import Iterator, Sequence

import pytest
from soundsystem import SoundSystem, live
from stage import SENTENCES, on_stage, talk

import tui.live
from scripted import LoudnessVad, ScriptedModel
from stt.engines import OpenedEngine
from stt.errors import EngineError
from stt.recognition.answers import Answer, Finished, Message, about
from stt.settings import EngineSettings, TurnSettings
from tui.condition import Options
from tui.dialogs import QuestionScreen
from tui.live import Plan
from tui.loading import LoadingEngine
from tui.updates import Answered, EngineReady, NotAnswered

TRANSCRIPT = "\n".join(SENTENCES)


async def test_a_asks_and_the_answer_is_shown_as_it_comes():
    async with on_stage() as play:
        await talk(play)
        await play.press("a", *"Who?", "enter")
        assert isinstance(play.app.screen, QuestionScreen)
        assert play.backend.asked[-1] == ("ask", 1, TRANSCRIPT, "Who?")
        assert "answering · Esc gives up" in play.screen_text
        await play.tell(Answered(1, "The [b]chair"))
        assert "The [b]chair" in play.screen_text
        assert "answering" in play.screen_text
        await play.tell(Answered(1, "The [b]chair speaks.", "whole"))
        assert "The [b]chair speaks." in play.screen_text
        assert "Enter asks" in play.screen_text
        await play.press("escape")
        assert not isinstance(play.app.screen, QuestionScreen)
        assert play.backend.asked[-1] == "drop"


async def test_the_next_question_takes_the_place_of_the_one_before():
    async with on_stage() as play:
        await talk(play)
        await play.press("a", *"One?", "enter")
        await play.say(3, "Good bye.")
        await play.press(*" Two?", "enter")
        assert play.backend.asked[-1] == ("ask", 2, f"{TRANSCRIPT}\nGood bye.", "One? Two?")
        await play.tell(Answered(1, "to the first"))
        assert "to the first" not in play.screen_text
        await play.tell(Answered(2, "to the second", "cut off"))
        assert "to the second" in play.screen_text
        assert "The answer was cut off" in play.screen_text
        await play.press("escape")
        await play.tell(Answered(2, "too late"), NotAnswered(2, "too late"))
        assert "too late" not in play.screen_text


async def test_what_goes_wrong_is_shown_where_it_was_asked():
    async with on_stage() as play:
        await talk(play)
        await play.press("a", "space", "enter")
        assert "ask" not in [asked[0] for asked in play.backend.asked if isinstance(asked, tuple)]
        await play.press(*"Who?", "enter")
        await play.tell(NotAnswered(1, "expected a conversation of at most 32256 tokens, got one of 40000"))
        assert "at most 32256 tokens" in play.screen_text
        await play.press("enter")
        assert "at most 32256 tokens" not in play.screen_text


async def test_where_no_question_can_be_answered_the_key_says_why():
    async with on_stage() as play:
        await play.press("a")
        assert play.told == "There is no finished turn to ask about yet."
        await talk(play)
        play.backend.no_questions = "scripted has no language model to answer with"
        await play.press("a")
        assert play.told == "No questions: scripted has no language model to answer with"
        assert not isinstance(play.app.screen, QuestionScreen)
    async with on_stage(options=Options(replay=True)) as play:
        play.app._backend = object()  # type: ignore[assignment] - as of a replay: it cannot be asked
        await play.press("a")
        assert play.told == "A replay has no engine to ask: save the turns, and ask with `stt ask`."


# the listening side


class Answers(ScriptedModel):
    """Says a question back, word by word; `for ever`: as long as anybody listens."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Sequence[Message]] = []
        self.given_up = threading.Event()

    @property
    def language_model(self) -> "Answers":
        return self

    def answer(self, messages: Sequence[Message], most_tokens: int = 512) -> Answer:
        self.asked.append(messages)
        question = messages[-1].content.rpartition("Question: ")[2]
        try:
            yield "So: "
            while question == "for ever":
                yield "on "
            if question == "fail":
                raise EngineError("out of memory")
            if question == "break":
                raise ZeroDivisionError("secret")
            yield question
        finally:
            self.given_up.set()
        return Finished("length" if question == "long" else "stop", 1, 2)


@pytest.fixture
def _sound(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "sounddevice", SoundSystem())
    monkeypatch.setattr(tui.live, "SileroVad", LoudnessVad)
    return


@pytest.mark.usefixtures("_sound")
def test_an_engine_that_can_answers():
    model = Answers()
    with live(model=model) as (listening, told):
        told.wait(EngineReady)
        assert listening.unaskable() == ""
        for number, (question, last) in enumerate(
            {
                "Who?": Answered(1, "So: Who?", "whole"),
                "long": Answered(2, "So: long", "cut off"),
                "fail": NotAnswered(3, "out of memory"),
                "break": NotAnswered(4, "ZeroDivisionError: secret"),
            }.items(),
            1,
        ):
            listening.ask(number, "We meet.", question)
            told.wait(type(last), fits=lambda update, last=last: update == last)
        assert Answered(1, "So: ") in told.told
    assert model.asked[0] == about("We meet.", "Who?")


@pytest.mark.usefixtures("_sound")
@pytest.mark.parametrize("how", ["drop", "another", "close"])
def test_an_answer_that_nobody_waits_for_ends(how: str):
    model = Answers()
    with live(model=model) as (listening, told):
        told.wait(EngineReady)
        listening.ask(1, "We meet.", "for ever")
        told.wait(Answered)
        model.given_up.clear()
        match how:
            case "drop":
                listening.drop_question()
            case "another":
                listening.ask(2, "We meet.", "Who?")
                told.wait(Answered, fits=lambda update: update == Answered(2, "So: Who?", "whole"))
            case _:
                listening.close()
        assert model.given_up.wait(10)


@pytest.mark.usefixtures("_sound")
def test_who_cannot_be_asked_says_why():
    loaded = threading.Event()

    def slowly(_: object) -> OpenedEngine:
        loaded.wait(10)
        return OpenedEngine(ScriptedModel(), "asked for")

    with live(open_engine=slowly) as (listening, told):
        assert listening.unaskable() == "the engine is still loading"
        loaded.set()
        told.wait(EngineReady)
        assert "scripted has no language model to answer with; canary-qwen has" in listening.unaskable()
        listening.ask(1, "We meet.", "Who?")
        assert "no language model" in told.wait(NotAnswered).why

    engine = LoadingEngine(EngineSettings(), "en", TurnSettings())
    engine.give_up("no weights")
    with pytest.raises(EngineError, match="the engine cannot be opened"):
        engine.language_model()
    with live(Plan(server="ws://127.0.0.1:9")) as (listening, told):
        assert listening.unaskable() == ""  # it is not known before
        listening.ask(1, "We meet.", "Who?")
        assert "http://127.0.0.1:9/v1/chat/completions: " in told.wait(NotAnswered).why
