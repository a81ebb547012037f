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


def figures(sim, sessions: int, replicas: int, *, engine: str = "gpu", seconds: float = 8.0, here: bool = False):
    simulation = sim.Simulation(sim.ENGINES[engine], sim.Assumptions(), sessions, replicas, here=here)
    asyncio.run(simulation.run(seconds))
    return simulation.figures


def test_twice_the_replicas_carry_twice_the_sessions_and_half_of_them_do_not(sim):
    one, two, crowded = figures(sim, 60, 1), figures(sim, 120, 2), figures(sim, 600, 1)
    for few in (one, two):
        assert sim.quantile(few.finals, 95) < sim.FINAL_S
        assert sim.quantile(few.gaps, 95) < 1.0
    assert sim.quantile(crowded.gaps, 95) > 1.0
    assert len(two.finals) > 1.5 * len(one.finals)


@pytest.mark.parametrize(("engine", "seconds"), [("gpu", 30.0), ("cpu", 900.0)])
def test_a_replica_carries_what_its_preset_says_and_not_half_as_much_again(sim, engine: str, seconds: float):
    preset = sim.ENGINES[engine]
    for sessions, carried in ((preset.sessions, True), (preset.sessions * 3 // 2, False)):
        assert sim.report(preset, sim.Assumptions(), sessions, 1, seconds, here=False) is carried


@pytest.mark.parametrize(
    ("costs", "sessions", "seconds"),
    [  # of a call, each row, each second of audio; rows at most
        ((0.055, 0.0015, 0.0003, 16), 530, 20.0),
        ((0.2, 0.002, 0.0, 16), 170, 20.0),
        ((0.05, 0.0, 0.002, 1), 48, 60.0),
        ((0.15, 0.0, 0.01, 1), 10, 300.0),
        ((0.25, 0.0, 0.011, 1), 5, 600.0),
    ],
)
def test_who_is_let_in_has_finals_in_time_whatever_a_call_costs(
    sim, costs: tuple[float, ...], sessions: int, seconds: float
):
    """With as many sessions as admission lets in."""
    engine = sim.Engine("", *costs, dollars_per_h=1.0, interim_s=9.0, sessions=1)
    simulation = sim.Simulation(engine, sim.Assumptions(), sessions, 1, here=False)
    asyncio.run(simulation.run(seconds))
    found = simulation.figures
    taken = found.used_s / seconds / sim.full_at(sum(found.standing_s) / len(found.standing_s))
    assert 0.8 < taken <= 1.0
    assert sim.quantile(found.finals, 95) <= sim.FINAL_S


def test_the_way_to_a_replica_costs_and_nothing_is_lost_on_it(sim):
    here, there = figures(sim, 20, 1, here=True), figures(sim, 20, 1)
    assert sim.quantile(here.texts, 50) < sim.quantile(there.texts, 50)
    assert len(here.finals) == pytest.approx(len(there.finals), abs=3)


def test_the_same_run_gives_the_same_figures(sim):
    one, two = (figures(sim, 40, 1) for _ in range(2))
    assert (one.finals, one.gaps) == (two.finals, two.gaps)


def test_it_says_what_it_found(sim, capsys: pytest.CaptureFixture[str]):
    assert sim.report(sim.ENGINES["gpu"], sim.Assumptions(), 2_000, 20, 4.0, here=False)
    assert "too much" not in capsys.readouterr().out
