"""The simulation of one GPU: the scheduler as it is, in simulated time."""

import argparse
import importlib.util
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from stt.recognition import Utterance, WindowKey, local

pytestmark = pytest.mark.canary  # the simulation takes the sizes of its work from the model's own code


@pytest.fixture
def sim(monkeypatch: pytest.MonkeyPatch):
    path = Path(__file__).parents[1] / "benchmarks" / "gpu_sim.py"
    spec = importlib.util.spec_from_file_location("gpu_sim", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "gpu_sim", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(local, "time", time)  # it sets another one
    return module


def args(**more) -> argparse.Namespace:
    same = {"rows": 64, "joins": 16, "seconds": 6.0, "mode": "continuous", "fast_interims": False}
    return argparse.Namespace(**same | more)


def test_few_sessions_are_carried_and_far_too_many_are_not(sim):
    few, many = (sim.run(sim.Assumptions(), n, args()) for n in (20, 3000))
    assert few.carried
    assert not many.carried
    assert few.busy < many.busy


def test_the_same_run_gives_the_same_figures(sim):
    one, two = (sim.run(sim.Assumptions(), 100, args()) for _ in range(2))
    assert (one.finals, one.gaps) == (two.finals, two.gaps)


def test_rows_that_come_and_go_carry_more_than_whole_calls(sim):
    runs = [sim.run(sim.Assumptions(), 300, args(mode=mode, seconds=10.0)) for mode in ("continuous", "calls")]
    assert sim.p95(runs[0].gaps) < sim.p95(runs[1].gaps)
    assert runs[0].carried


def test_a_batch_costs_what_its_padding_costs_too(sim):
    assumed = sim.Assumptions()
    for of in (assumed.encode, assumed.prefill):
        assert of([20.0, 200.0, 20.0]) == of([200.0] * 4) < of([200.0] * 8)


def test_fp8_computes_faster_and_launches_more(sim):
    plain, small = sim.Assumptions(), sim.Assumptions(fp8=True)
    assert small.prefill([200.0] * 16) < 0.7 * plain.prefill([200.0] * 16)
    assert (
        small.step(1, 200.0) > small.step(1, 200.0) - small.launch * sim.QUANTIZING * 112 > 0.4 * plain.step(1, 200.0)
    )


def test_ends_of_windows_are_encoded_where_that_saves_more_than_a_pass_costs(sim):
    def requests(n, seconds, kind="interim"):
        audio = np.zeros(int(seconds * 16_000), np.float32)
        return [local._Request(Utterance(audio, kind=kind, key=WindowKey(i)), None) for i in range(n)]

    engine = sim.Engine(sim.Assumptions(), 64, fast_interims=True)
    whole = engine.encode(requests(16, 20.0))
    assert whole == sim.Engine(sim.Assumptions(), 64).encode(requests(16, 20.0))
    assert engine.encode(requests(16, 20.5)) < 0.5 * whole
    assert engine.encode(requests(16, 21.0, "final")) > whole
    final = requests(1, 5.0, "final")
    assert engine.encode([*requests(1, 21.0), *final]) == engine.assumed.encode([21.0, 5.0])
    assert engine.encode([*requests(15, 21.0), *final]) < engine.assumed.encode([21.0] * 15 + [5.0])
