"""The engine canary-qwen on real words of a small domain: canary-toy, in the true layout."""

import asyncio
import json
import weakref
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from spoken import silence
from stt.audio import Samples
from stt.cli import main
from stt.engines import open_engine
from stt.engines.canary_qwen import CanaryQwen, _progress
from stt.errors import EngineError, EngineLostError
from stt.events import Event, TurnCompleted
from stt.recognition import Hypothesis, LocalRecognizer, Utterance
from stt.recognition.answers import Message
from stt.session import Session
from stt.settings import EngineSettings, TurnSettings
from stt.vad import SileroVad

TOY = Path(__file__).parent / "data" / "canary-toy"
CLIPS = [json.loads(line) for line in (TOY / "heldout" / "heldout.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def canary() -> CanaryQwen:
    return CanaryQwen(model_dir=str(TOY), device="cpu", threads=1)


def audio_of(clip: dict[str, Any]) -> Samples:
    return soundfile.read(TOY / "heldout" / clip["file"], dtype="float32")[0]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_stt_file_gives_the_recorded_texts_of_the_held_out_clips(dtype: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert len(CLIPS) == 40
    heard, err = transcribed(capfd, "--whole", "--dtype", dtype)
    assert heard == [clip["nemo"] for clip in CLIPS]
    assert f"({dtype}, cpu)" in err
    assert "slower than speech on a CPU" in err


def test_stt_file_in_turns_hears_the_same_words(capfd: pytest.CaptureFixture[str]) -> None:
    # multi_4 pauses for 1.57 s and so is two turns; whole, it makes NeMo lose a sentence.
    heard, _ = transcribed(capfd)
    assert [clip["id"] for clip, text in zip(CLIPS, heard, strict=True) if text != clip["nemo"]] == ["multi_4"]


def transcribed(capfd: pytest.CaptureFixture[str], *options: str) -> tuple[list[str], str]:
    paths = [str(TOY / "heldout" / clip["file"]) for clip in CLIPS]
    engine = ["--engine", "canary-qwen", "--model-dir", str(TOY), "--device", "cpu"]
    assert main(["file", *paths, *engine, "--format", "json", *options]) == 0
    out, err = capfd.readouterr()
    return [" ".join(turn["text"] for turn in json.loads(line)["turns"]) for line in out.splitlines()], err


async def test_four_live_sessions_hear_what_the_file_run_hears(canary: CanaryQwen) -> None:
    vad = SileroVad()

    async def hear(recognizer: LocalRecognizer, clip: dict[str, Any], settings: TurnSettings, size: int) -> str:
        texts: list[str] = []

        async def sink(event: Event) -> None:
            if isinstance(event, TurnCompleted):
                texts.append(event.text)

        async def source() -> AsyncIterator[Samples]:
            audio = np.concatenate([audio_of(clip), silence(2)])
            for at in range(0, len(audio), size):
                yield audio[at : at + size]
                await asyncio.sleep(0)

        await Session(recognizer, vad, settings=settings).run(source(), sink)
        return " ".join(texts)

    with LocalRecognizer(canary) as recognizer:
        offline = TurnSettings(interim_s=None, speculative=False)
        files = [await hear(recognizer, clip, offline, 32_000) for clip in CLIPS]
        live: list[str] = []
        for at in range(0, len(CLIPS), 4):
            live += await asyncio.gather(*(hear(recognizer, clip, TurnSettings(), 320) for clip in CLIPS[at : at + 4]))
    assert live == files
    assert all(files)


def test_drafts_change_the_time_and_not_the_words(canary: CanaryQwen) -> None:
    audio = audio_of(CLIPS[1])
    plain = canary.transcribe([Utterance(audio)])[0]
    prefix = canary.transcribe([Utterance(audio[: len(audio) // 2], kind="interim")])[0]
    for draft in (prefix, plain, Hypothesis("wrong", (5, 6, 7)), Hypothesis("")):
        drafted = canary.transcribe([Utterance(audio, draft=draft)])[0]
        assert (drafted.text, drafted.tokens) == (plain.text, plain.tokens)


def test_a_batch_that_does_not_fit_is_halved(canary: CanaryQwen, monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    inner, sizes = canary._model.transcribe, []

    def tight(waveforms: Sequence[Samples], **options: Any) -> Any:
        sizes.append(len(waveforms))
        if len(waveforms) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return inner(waveforms, **options)

    monkeypatch.setattr(canary._model, "transcribe", tight)
    heard = canary.transcribe([Utterance(audio_of(clip)) for clip in CLIPS[:3]])
    assert [hypothesis.text for hypothesis in heard] == [clip["nemo"] for clip in CLIPS[:3]]
    assert sizes == [3, 1, 2, 1, 1]

    def never(waveforms: Sequence[Samples], **options: Any) -> Any:
        raise RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")

    monkeypatch.setattr(canary._model, "transcribe", never)
    with pytest.raises(EngineError, match="out of memory on 2 s of audio"):
        canary.transcribe([Utterance(silence(2))])


def test_a_gpu_too_small_for_the_largest_batch_gets_smaller_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    import nemo_lite

    tried = []

    def warm_up(self: Any, batches: Sequence[int], *, largest: int, **options: Any) -> None:
        tried.append(largest)
        if largest > room:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(nemo_lite.CanaryQwen, "warm_up", warm_up)
    room = 1
    assert CanaryQwen(model_dir=str(TOY), device="cpu").max_batch == 1
    assert tried == [4, 2, 1]
    room = 0
    with pytest.raises(EngineError, match=r"cannot load canary-qwen from .* on cpu: CUDA out of memory"):
        CanaryQwen(model_dir=str(TOY), device="cpu")


def test_all_tries_to_find_a_batch_that_fits_share_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    import nemo_lite

    clock, budgets = [0.0], []

    def warm_up(self: Any, batches: Sequence[int], *, budget_s: float, largest: int, **options: Any) -> None:
        budgets.append(budget_s)
        clock[0] += 100.0
        if largest > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(nemo_lite.CanaryQwen, "warm_up", warm_up)
    monkeypatch.setattr("stt.engines.canary_qwen.time.monotonic", lambda: clock[0])
    CanaryQwen(model_dir=str(TOY), device="cpu")
    assert budgets == [240.0, 140.0, 60.0]


def test_a_gpu_that_torch_has_no_code_for_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    why = "GTX 1080 has compute capability 6.1, and torch 2.11.0 is built for 7.5, 9.0"
    monkeypatch.setattr("nemo_lite.device.unsupported", lambda device: why if device.type == "cuda" else None)
    for device in ("cuda", "auto"):
        with pytest.raises(EngineError, match=f"device: expected cpu, because {why}"):
            CanaryQwen(model_dir=str(TOY), device=device)


def test_a_question_that_memory_does_not_suffice_for_says_how_long_it_was(
    canary: CanaryQwen, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: Any) -> Any:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB ...")

    monkeypatch.setattr(canary._model.language_model, "answer", never)
    with pytest.raises(
        EngineError, match=r"^canary-qwen's language model: out of memory on a conversation of 4 words$"
    ):
        next(canary.language_model.answer([Message("system", "Be brief."), Message("user", "Who speaks?")]))


@pytest.mark.parametrize("name", ["silence", "noise", "hum", "clicks"])
def test_what_is_no_speech_gives_no_words(canary: CanaryQwen, name: str) -> None:
    t = np.arange(10 * 16_000) / 16_000
    clicks = np.zeros(len(t))
    clicks[::8_000] = 0.9
    audio = {
        "silence": np.zeros(len(t)),
        "noise": 0.1 * np.random.default_rng(0).standard_normal(len(t)),
        "hum": 0.2 * np.sin(2 * np.pi * 50 * t),
        "clicks": clicks,
    }[name].astype(np.float32)
    assert canary.transcribe([Utterance(audio)])[0].text == ""


def test_auto_takes_the_engine_whose_weights_are_named() -> None:
    opened = open_engine(EngineSettings(model=str(TOY), device="cpu"))
    assert isinstance(opened.model, CanaryQwen)
    assert opened.reason.startswith("auto: its weights were named")
    assert opened.model.languages == {"en"}


def test_auto_on_a_cpu_is_whisper_and_says_why() -> None:
    opened = open_engine(EngineSettings(device="cpu"))
    assert opened.model.name.startswith("whisper")
    assert "canary-qwen wants a GPU" in opened.reason


def test_what_cannot_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="no such directory"):
        CanaryQwen(model=str(tmp_path / "missing"))
    (tmp_path / "model.bin").touch()
    with pytest.raises(EngineError, match="no model in"):
        CanaryQwen(model_dir=str(tmp_path))
    with pytest.raises(EngineError, match="float32, bfloat16, float16, int8, fp8, got 'int4'"):
        CanaryQwen(model_dir=str(TOY), dtype="int4")


def test_int8_weights_hear_the_same_words() -> None:
    small = CanaryQwen(model_dir=str(TOY), device="cpu", dtype="int8")
    assert small.name.endswith("(float32, int8 weights, cpu)")
    assert [small.transcribe([Utterance(audio_of(clip))])[0].text for clip in CLIPS[:5]] == [
        c["nemo"] for c in CLIPS[:5]
    ]


def test_a_gpu_that_will_not_work_again_in_this_process_is_told_apart(
    canary: CanaryQwen, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def fails(*args: Any, **options: Any) -> Any:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(canary._model, "transcribe", fails)
    monkeypatch.setattr(canary, "_device", "cuda")
    monkeypatch.setattr(canary, "lost", None)
    with pytest.raises(RuntimeError, match="illegal memory access") as once:
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device: None)
        canary.transcribe([Utterance(silence(1))])
    assert not isinstance(once.value, EngineError)
    monkeypatch.setattr(torch.cuda, "synchronize", fails)
    with pytest.raises(EngineLostError, match=r"does not work any more in this process .*illegal memory access"):
        canary.transcribe([Utterance(silence(1))])
    monkeypatch.setattr(canary, "lost", None)
    monkeypatch.setattr(canary._model.language_model, "answer", fails)
    with pytest.raises(EngineLostError, match="illegal memory access") as lost:
        next(canary.language_model.answer([Message("user", "Who speaks?")]))
    assert canary.lost is lost.value, "whoever watches over the engine hears of it where nobody speaks as well"


def test_kernels_that_do_not_do_here_are_an_error_for_people_and_a_gpu_they_broke_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from nemo_lite.errors import KernelsError

    def broken(*_: Any) -> Any:
        raise KernelsError("the kernels in Triton do not do here: no compiler")

    monkeypatch.setattr("nemo_lite.model.choose", broken)
    with pytest.raises(EngineError, match=r"cannot load canary-qwen from .* on cpu: the kernels in Triton do not do"):
        CanaryQwen(model_dir=str(TOY), device="cpu", kernels="triton")
    monkeypatch.setattr("nemo_lite.device.lost", lambda device: True)
    with pytest.raises(EngineLostError, match="no compiler"):
        CanaryQwen(model_dir=str(TOY), device="cpu", kernels="triton")


def test_a_closed_engine_lets_its_model_go() -> None:
    engine = CanaryQwen(model_dir=str(TOY), device="cpu", rows=2)
    engine.transcribe([Utterance(silence(1))])
    rows = engine.running_batch()
    assert rows is not None
    rows.add([Utterance(silence(1))])
    model = weakref.ref(engine._model)
    engine.close()
    assert model() is None, "whoever still holds on to its rows"


def test_the_warm_up_of_a_gpu_says_how_far_it_is(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO", "stt.engines.canary_qwen"), _progress() as tell:
        for done in range(1, 41):
            tell(done, 40)
    assert [record.message for record in caplog.records] == [
        f"warming up: {done} of 40 shapes" for done in range(4, 41, 4)
    ]


def test_stt_models_verify_says_what_the_weights_on_this_machine_hear(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nemo_lite import CanaryQwen as Model

    warm_up, transcribe, most = Model.warm_up, Model.transcribe, []

    def warm(*args: Any, max_new_tokens: int, **options: Any) -> None:
        most[:] = [max_new_tokens]
        warm_up(*args, max_new_tokens=max_new_tokens, **options)

    def noted(*args: Any, max_new_tokens: int = 256, **options: Any) -> Any:
        most.append(max_new_tokens)
        return transcribe(*args, max_new_tokens=max_new_tokens, **options)

    monkeypatch.setattr(Model, "warm_up", warm)
    monkeypatch.setattr(Model, "transcribe", noted)
    assert main(["models", "verify", "canary-qwen", "--model-dir", str(TOY), "--device", "cpu"]) == 0
    assert len(most) > 10
    assert len(set(most)) == 1, "graphs are made for one number of tokens: with another, it would time what has none"
    out = capfd.readouterr().out
    assert "loaded and warm in" in out
    assert "word error rate: 0.0%" in out
    assert out.endswith("all is as it should be\n")
    assert main(["models", "verify", "small"]) == 2
    assert "verify: expected canary-qwen, got small" in capfd.readouterr().err
