"""The simulation of one GPU: the scheduler as it is, in simulated time."""

import argparse
import importlib.util
import sys
import time
from pathlib import Path

import pytest

from stt.recognition import local


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
    return argparse.Namespace(**{"rows": 64, "joins": 16, "seconds": 6.0, "mode": "continuous"} | more)


def test_few_sessions_are_carried_and_far_too_many_are_not(sim):
    few, many = (sim.run(sim.Assumptions(), n, args()) for n in (20, 3000))
    assert few.carried
    assert not many.carried
    assert few.busy < many.busy


def test_the_same_run_gives_the_same_figures(sim):
    one, two = (sim.run(sim.Assumptions(), 100, args()) for _ in range(2))
    assert (one.finals, one.gaps) == (two.finals, two.gaps)


def test_rows_that_come_and_go_carry_more_than_whole_calls(sim):
    runs = [sim.run(sim.Assumptions(), 400, args(mode=mode, seconds=10.0)) for mode in ("continuous", "calls")]
    assert sim.p95(runs[0].gaps) < sim.p95(runs[1].gaps)
    assert runs[0].carried
