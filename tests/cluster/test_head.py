"""The head of the cluster is lost, and with it all there is; another one takes its place. A front outlives both."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from conversations import Front, free_port, heard, locally, ready, said, same_words

pytestmark = [pytest.mark.timeout(500), pytest.mark.filterwarnings("ignore")]  # Ray's own warnings are not ours to mend

PORT = free_port()


class Machine:
    """A cluster of one machine, at the same address each time."""

    def start(self) -> None:
        from ray.cluster_utils import Cluster

        args = {"num_cpus": 2, "object_store_memory": 100 << 20, "include_dashboard": False, "gcs_server_port": PORT}
        self.cluster = Cluster(initialize_head=True, head_node_args=args)

    def up(self) -> None:
        command = [sys.executable, "-Pm", "stt.cli", "cluster", "up", "--address", self.cluster.address]
        engine = ["--engine", "whisper", "--device", "cpu", "--threads", "1"]
        done = subprocess.run([*command, *engine], capture_output=True, text=True, timeout=240, check=False)
        assert done.returncode == 0, done.stderr

    def kill(self) -> None:
        self.cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False)


@pytest.fixture
def machine() -> Iterator[Any]:
    made = Machine()
    made.start()
    made.up()
    try:
        yield made
    finally:
        made.kill()


async def test_a_front_outlives_the_head_and_goes_on_with_the_next_one(machine: Machine) -> None:
    """Who talks meanwhile is heard on, and has all finals on the same connection; who comes is refused."""
    front = Front(machine.cluster.address)
    lost: list[asyncio.Task[None]] = []

    async def lose() -> None:
        if lost:
            return
        await asyncio.to_thread(machine.kill)
        lost.append(asyncio.create_task(replace()))

    async def replace() -> None:
        await ready(front.port, 503)
        machine.start()  # in the main thread, where Ray wants it
        await asyncio.to_thread(machine.up)

    try:
        await ready(front.port)
        process, expected = front.process.pid, await asyncio.to_thread(locally)
        told: list[str] = []
        found = await heard(front.talk_to(told.append), said(0), lose)
        same_words([found], expected[:1])
        assert told[1:] == []  # the connection was never lost
        await lost[0]
        await ready(front.port)
        assert (front.process.poll(), front.process.pid) == (None, process)
        front.process.terminate()
        assert await asyncio.to_thread(front.process.wait, 60) == 0
    finally:
        front.kill()
