"""The simulation of a cluster: the scheduler as it is, in simulated time."""

import asyncio
import importlib.util
import sys
import time
from pathlib import Path

import pytest

from stt.recognition import local

pytest.importorskip("simpy", reason="needs the extra `dev`")


@pytest.fixture
def sim(monkeypatch: pytest.MonkeyPatch):
    path = Path(__file__).parents[1] / "benchmarks" / "cluster_sim.py"
    spec = importlib.util.spec_from_file_location("cluster_sim", path)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "cluster_sim", module)
    monkeypatch.setattr(local, "time", time)  # it sets another one
    spec.loader.exec_module(module)
    return module


def figures(sim, sessions: int, replicas: int, *, here: bool = False):
    simulation = sim.Simulation(sim.ENGINES["gpu"], sim.Assumptions(), sessions, replicas, here=here)
    asyncio.run(simulation.run(8.0))
    return simulation.figures


def test_twice_the_replicas_carry_twice_the_sessions_and_half_of_them_do_not(sim):
    one, two, crowded = figures(sim, 60, 1), figures(sim, 120, 2), figures(sim, 600, 1)
    for few in (one, two):
        assert sim.quantile(few.finals, 95) < sim.FINAL_S
        assert sim.quantile(few.gaps, 95) < sim.INTERIM_S
    assert sim.quantile(crowded.gaps, 95) > sim.INTERIM_S
    assert len(two.finals) > 1.5 * len(one.finals)


def test_the_way_to_a_replica_costs_and_nothing_is_lost_on_it(sim):
    here, there = figures(sim, 20, 1, here=True), figures(sim, 20, 1)
    assert sim.quantile(here.finals, 50) < sim.quantile(there.finals, 50)
    assert len(here.finals) == pytest.approx(len(there.finals), abs=3)


def test_the_same_run_gives_the_same_figures(sim):
    one, two = (figures(sim, 40, 1) for _ in range(2))
    assert (one.finals, one.gaps) == (two.finals, two.gaps)


def test_it_says_what_it_found(sim, capsys: pytest.CaptureFixture[str]):
    assert sim.report(sim.ENGINES["gpu"], sim.Assumptions(), 2_000, 20, 4.0, here=False)
    assert "too much" not in capsys.readouterr().out
