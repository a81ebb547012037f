"""A real Ray on this machine: a head, and a simulated node for each replica."""

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
WITH_RAY = find_spec("ray") is not None
collect_ignore_glob = [] if WITH_RAY else ["test_*.py"]

if WITH_RAY:
    with warnings.catch_warnings():  # of Ray, about what it imports
        warnings.simplefilter("ignore")
        import ray.serve  # noqa: F401

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
# Of the processes that Ray starts:
os.environ["PYTHONPATH"] = os.pathsep.join(str(ROOT / folder) for folder in ("", "tests", "tests/cluster"))


def pytest_report_header() -> str | None:
    return None if WITH_RAY else "no extra `cluster`: the tests with a real Ray are left out"


@pytest.fixture(scope="module")
def with_dashboard() -> bool:
    """Whether the head answers `serve deploy`; that is a dozen processes more."""
    return False


@pytest.fixture(scope="module")
def nodes(with_dashboard: bool) -> Iterator[Any]:
    """Start a head without room for replicas, and two nodes with room for two each: one may take both."""
    from ray import serve
    from ray.cluster_utils import Cluster

    from stt.cluster import ray_serve

    store = 100 << 20
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 0, "object_store_memory": store, "include_dashboard": with_dashboard},
    )
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=2, object_store_memory=store)
        ray_serve.connect(cluster.address)
        yield cluster
    finally:
        with contextlib.suppress(Exception):
            serve.shutdown()
        ray_serve.disconnect()
        cluster.shutdown()
        sys.stdout.flush()
