"""How fast models are on this machine, and what `--model auto` makes of it."""

import json
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from stt import machine
from stt.commands import models
from stt.engines import choice, open_engine, open_engines, settled, speed, whisper, whisper_weights
from stt.engines.speed import Speed
from stt.errors import EngineError, SettingsError
from stt.recognition import Hypothesis, Utterance
from stt.settings import EngineSettings

FAST, SLOW = Speed(1.0, 0.3, 20.0), Speed(3.0, 2.0, 5.0)


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("stt.engines.speed._cache", lambda: tmp_path / "cache" / "stt" / "speeds.json")
    monkeypatch.setattr(machine, "busy", lambda: False)
    return tmp_path / "cache" / "stt" / "speeds.json"


@pytest.fixture
def present(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Path]:
    """Weights that are said to be here, beside the embedded ones: copies of those."""
    found = {name: tmp_path / name for name in ("small.en", "base.en", "small")}
    for path in found.values():
        path.mkdir()
        for file in whisper_weights.embedded_path().iterdir():
            (path / file.name).symlink_to(file)
    sizes = {whisper_weights.sizes()[name]: path for name, path in found.items()}
    monkeypatch.setattr(whisper_weights, "cached", sizes.get)
    return found


@pytest.mark.parametrize(
    ("found", "live"),
    [
        (FAST, True),
        (SLOW, False),
        (Speed(9.0, 0.7, 4.5), True),
        (Speed(9.0, 0.9, 20.0), False),
        (Speed(9, 0.7, 3), False),
    ],
)
def test_what_keeps_up_is_on_time_and_does_not_fall_behind(found: Speed, *, live: bool) -> None:
    assert found.live == live


@pytest.mark.parametrize(
    ("found", "final"),
    [(FAST, True), (SLOW, True), (Speed(9, 2.5, 20), False), (Speed(9, 1.5, 1.5), False)],
)
def test_what_has_finals_alone_may_take_longer(found: Speed, *, final: bool) -> None:
    assert found.final == final


def test_the_time_of_a_turn_and_of_windows_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    class TakesATenth:
        name, languages, max_batch = "scripted", frozenset({"en"}), 1

        def cost(self, seconds: Sequence[float]) -> float:
            return sum(seconds)

        def transcribe(self, batch: Sequence[Utterance]) -> list[Hypothesis]:
            now[0] += sum(len(utterance.audio) for utterance in batch) / 160_000
            assert all(utterance.audio.any() for utterance in batch), "speech is measured, not silence"
            return [Hypothesis("")] * len(batch)

        def close(self) -> None: ...

    found = speed.measure(TakesATenth(), 2.0)
    assert found == Speed(pytest.approx(2.6), pytest.approx(0.6), pytest.approx(10.0))


def test_what_was_measured_is_known_for_the_same_way_of_running_only(cache: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.mkdir()
    default, single = EngineSettings(), EngineSettings(device="cpu", threads=1)
    assert speed.recall(weights, default) is None
    speed.remember(weights, default, FAST)
    speed.remember(weights, single, SLOW)
    assert speed.recall(weights, default) == FAST
    assert speed.recall(weights, single) == SLOW
    assert speed.recall(weights, EngineSettings(device="cpu", threads=1, dtype="float32")) is None
    assert sorted(file.name for file in cache.parent.iterdir()) == ["speeds.json"]
    cache.write_text("{")
    assert speed.recall(weights, default) is None
    speed.remember(weights, default, FAST)  # a damaged file is begun anew
    assert speed.recall(weights, default) == FAST


def test_the_most_accurate_come_first_and_know_the_language(present: dict[str, Path]) -> None:
    assert [name for name, _ in choice.here("en")] == ["small.en", "small", "base.en", "tiny.en"]
    assert [name for name, _ in choice.here("de")] == [name for name, _ in choice.here(None)] == ["small"]
    wers = [choice.PUBLISHED_WER[name] for name, _ in choice.here("en") if name in choice.PUBLISHED_WER]
    assert wers == sorted(wers)


def test_auto_takes_the_best_that_keeps_up(
    present: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = {"small.en": SLOW, "small": SLOW, "base.en": FAST, "tiny.en": FAST}
    asked: list[str] = []

    def measure(model: whisper.Whisper, _: float) -> Speed:
        asked.append(model.name.split()[1])
        return said[asked[-1]]

    monkeypatch.setattr(speed, "measure", measure)
    settings = EngineSettings("whisper", model="auto", device="cpu")
    opened = open_engine(settings)
    assert opened.model.name == "whisper base.en (int8, cpu)"
    assert opened.reason.startswith("auto: the best here that keeps up: a turn of 6 s in 0.30 s")
    assert "small.en" in opened.reason
    assert asked == ["small.en", "small", "base.en"]
    assert "timing base.en on this machine, once" in capsys.readouterr().err
    assert open_engine(settings).model.name == opened.model.name
    assert asked == ["small.en", "small", "base.en"], "what was measured is remembered"


def test_what_is_slow_beside_other_programs_is_no_verdict(
    present: dict[str, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A server that was once started while something compiled would have the smallest model for ever."""
    found = {"small.en": SLOW, "small": SLOW, "base.en": FAST}
    monkeypatch.setattr(speed, "measure", lambda model, _: found[model.name.split()[1]])
    monkeypatch.setattr(machine, "busy", lambda: True)
    settings = EngineSettings("whisper", model="auto", device="cpu")
    assert open_engine(settings).model.name == "whisper base.en (int8, cpu)"
    assert "busy: small.en will be timed again" in capsys.readouterr().err
    monkeypatch.setattr(machine, "busy", lambda: False)
    found = {"small.en": FAST}  # what keeps up even so is not timed again
    assert open_engine(settings).model.name == "whisper small.en (int8, cpu)"


@pytest.mark.parametrize(("load", "busy"), [(0.0, False), (2.0, False), (2.1, True)])
def test_busy_is_more_than_there_are_cores(load: float, busy: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(machine, "cores", lambda: 2)
    monkeypatch.setattr("os.getloadavg", lambda: (load, 0.0, 0.0))
    assert machine.busy() == busy


WITHOUT = pytest.mark.parametrize("others", [True, False])


@WITHOUT
def test_where_the_embedded_weights_are_not_others_are_taken_and_timed(
    others: bool,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if others:
        request.getfixturevalue("present")

    def gone() -> Path:
        raise EngineError("the embedded weights are not installed; do this")

    monkeypatch.setattr(whisper_weights, "embedded_path", gone)
    monkeypatch.setattr(speed, "measure", lambda *_: FAST)
    settings = EngineSettings("whisper", model="auto", device="cpu")
    if others:
        assert open_engine(settings).model.name == "whisper small.en (int8, cpu)"
        assert models.bench([], settings, as_json=True) == 0
        names = [json.loads(line)["name"] for line in capsys.readouterr().out.splitlines()]
        assert names == ["small.en", "small", "base.en"]
    else:
        with pytest.raises(EngineError, match="not installed; do this"):
            open_engine(settings)


@pytest.mark.parametrize(
    ("model", "interim", "chosen"),
    [
        ("small.en", "tiny.en", ("small.en", "tiny.en")),
        ("auto", "tiny.en", ("small.en", "tiny.en")),
        ("auto", "auto", ("small.en", "base.en")),
        ("base.en", "auto", ("base.en", None)),
        (None, "tiny.en", (None, None)),
        ("tiny.en", "tiny.en", ("tiny.en", None)),
        ("small.en", None, ("small.en", None)),
        ("auto", None, ("auto", None)),
    ],
)
def test_a_pair_is_two_models_each_with_a_task_that_it_can_do(
    model: str | None,
    interim: str | None,
    chosen: tuple[str | None, str | None],
    present: dict[str, Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = {"small.en": Speed(3, 1.5, 5), "small": Speed(3, 1.5, 5), "base.en": FAST, "tiny.en": FAST}
    monkeypatch.setattr(speed, "measure", lambda model, _: said[model.name.split()[1]])
    settings = settled(EngineSettings("whisper", model=model, interim_model=interim, device="cpu"))
    assert (settings.model, settings.interim_model) == chosen


def test_both_models_of_a_pair_are_opened_and_have_to_know_the_language() -> None:
    here = str(whisper_weights.embedded_path())
    settings = EngineSettings(model=here, interim_model="tiny.en", device="cpu")
    opened = open_engines(settings, "en")
    assert opened.interims is not None
    assert opened.name == f"whisper {here} (int8, cpu), interims by whisper tiny.en (int8, cpu)"
    with pytest.raises(SettingsError, match=r"whisper tiny.en.* knows en, got 'de'"):
        open_engines(settings, "de")


def test_auto_takes_the_fastest_where_none_keeps_up(present: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "measure", lambda *_: SLOW)
    opened = open_engine(EngineSettings("whisper", model="auto", device="cpu"))
    assert opened.model.name == "whisper tiny.en (int8, cpu)"
    assert "none keeps up" in opened.reason


def test_bench_times_what_is_here_and_the_list_shows_it(capsys: pytest.CaptureFixture[str]) -> None:
    """With the embedded weights, really."""
    assert models.bench([], EngineSettings(), as_json=True) == 0
    [row] = map(json.loads, capsys.readouterr().out.splitlines())
    assert (row["name"], row["wer"]) == ("tiny.en", 20.1)
    assert row["final_s"] > 0
    assert row["factor"] > 0
    assert models.list_models(as_json=False) == 0
    line = capsys.readouterr().out.splitlines()[1]
    assert f"{row['factor']:.0f} x" in line
    with pytest.raises(SettingsError, match=r"small.en is not here \(`stt models download small.en`\)"):
        models.bench(["small.en"], EngineSettings(), as_json=False)
