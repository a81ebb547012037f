"""What is deployed, how many replicas there should be, and the command without Ray."""

import sys
from pathlib import Path

import pytest

from scripted import ScriptedModel, tone
from stt.cli import main
from stt.cluster.load import Gauged, Load
from stt.cluster.spec import EngineSpec, read_spec, replicas_wanted
from stt.errors import SettingsError
from stt.recognition import Utterance
from stt.settings import EngineSettings


def test_a_spec_is_read_from_a_configuration_file():
    args = {"name": "german", "engine": {"engine": "whisper", "model": "large-v3"}, "least": 1, "most": 8, "gpus": 0.5}
    spec = read_spec(args)
    assert spec == EngineSpec("german", EngineSettings("whisper", model="large-v3"), least=1, most=8, gpus=0.5)
    assert (spec.application, spec.fixed) == ("stt-german", None)
    assert read_spec({"replicas": 3}).fixed == 3
    assert read_spec({"languages": ["DE", "en-US"]}).languages == ("de", "en")
    assert read_spec({}).fixed == 1


@pytest.mark.parametrize(
    ("args", "complaint"),
    [
        ({"name": "No Good"}, "a name of a-z, 0-9 and -"),
        ({"name": "fronts"}, "a name other than that of the fronts"),
        ({"replicas": 0}, "1 replica or more"),
        ({"least": 3, "most": 2}, "1 <= min <= max"),
        ({"gpus": 1.5}, "a part of a GPU, or whole ones"),
        ({"gpu": 1}, "got 'gpu'"),
        ({"gpus": "1"}, "gpus: expected a number, got '1'"),
        ({"languages": "de"}, "languages: expected a list of strings, got 'de'"),
        ({"languages": ["deutsch"]}, "languages by codes like de, got deutsch"),
        ({"engine": {"modell": "x"}}, "got 'modell'"),
    ],
)
def test_a_spec_that_cannot_work_is_told(args: dict, complaint: str):
    with pytest.raises(SettingsError, match=complaint):
        read_spec(args)


@pytest.mark.parametrize(
    ("now", "taken", "lags_s", "fill", "wanted"),
    [
        (2, [], [], [], 2),  # nobody has said anything yet
        (2, [0.7, 0.7], [0, 0], [0.2, 0.2], 2),
        (2, [1.4, 1.0], [0, 0], [0.2, 0.2], 4),
        (4, [0.1] * 4, [0] * 4, [0.1] * 4, 1),
        (1, [0.0], [0], [0.0], 1),
        (2, [0.1, 0.1], [0, 2.5], [0.2, 0.2], 3),  # late, whatever was measured
        (4, [0.4] * 4, [0] * 4, [1.0] * 4, 4),  # batches are full: none to spare
    ],
)
def test_replicas_follow_what_they_say_of_themselves(now, taken, lags_s, fill, wanted):
    assert replicas_wanted(now, taken, lags_s, fill) == wanted


def test_only_what_stands_counts_as_in_use_and_of_rows_beside_each_other_its_share():
    now = 0.0
    gauged: Gauged

    class Slow(ScriptedModel):
        def transcribe(self, batch):
            nonlocal now
            now += 1.0
            return super().transcribe(batch)

    gauged = Gauged(Slow(max_batch=4), clock=lambda: now)
    now = 10.0
    gauged.transcribe([Utterance(tone(2.0), kind=kind) for kind in ("final", "speculative", "interim")])
    gauged.transcribe([Utterance(tone(1.0), kind="interim")])
    load = gauged.load("r")
    assert (load.used, load.call_s, load.fill, load.speed) == (
        0.05,
        1.0,
        0.5,
        3.5,
    )  # two rows of four for one second of ten
    assert load.full is None
    now = 30.0
    assert gauged.load("r").used == 0.0
    gauged.transcribe([Utterance(tone(1.0))])
    gauged.reset()
    assert gauged.load("r").used == 0.0
    assert Load("r", used=0.8).full
    assert Load("r", used=0.6, call_s=0.1).full is None
    assert Load("r", used=0.6, call_s=0.4).full  # a wait for others is longer where each takes longer
    assert Load("r", lag_s=1.5).full


def test_without_ray_the_command_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "stt.cluster.ray_serve", raising=False)
    for argv in (["cluster", "up"], ["cluster", "status"], ["serve", "--cluster", "auto"]):
        assert main(argv) == 2
        assert "pip install 'stt-live[cluster]'" in capsys.readouterr().err


def test_a_front_takes_no_engine_of_its_own(capsys: pytest.CaptureFixture[str]):
    assert main(["serve", "--cluster", "auto", "--language", "de", "--model", "small"]) == 2
    assert "chosen by `stt cluster up`" in capsys.readouterr().err


def test_only_two_modules_import_ray():
    root = Path(__file__).parents[1]
    importing = [
        path.relative_to(root).as_posix()
        for folder in ("stt", "tui", "nemo_lite")
        for path in (root / folder).rglob("*.py")
        if any(line.split()[:2] in (["import", "ray"], ["from", "ray"]) for line in path.read_text().splitlines())
    ]
    assert sorted(importing) == ["stt/cluster/ray_fronts.py", "stt/cluster/ray_serve.py"]


def test_rows_that_come_and_go_are_measured_step_by_step():
    now = 0.0

    class Rows:
        rows, free, running = 4, 4, 0

        def add(self, batch):
            return list(range(len(batch)))

        def step(self):
            nonlocal now
            now += 1.0
            return {0: None}

        def drop(self, tickets):
            pass

    class Continuous(ScriptedModel):
        def running_batch(self):
            return Rows()

    gauged = Gauged(Continuous(), clock=lambda: now)
    batch = gauged.running_batch()
    batch.add([Utterance(tone(1.0)), Utterance(tone(1.0), kind="interim")])
    now = 8.0
    batch.step()  # a final and an interim
    batch.step()  # the interim alone
    assert gauged.load("r").used == 0.025
    batch.drop([1])
    assert Gauged(ScriptedModel()).running_batch() is None
