"""The head of the cluster is lost, and with it all there is; another one takes its place. A front outlives both."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator

import httpx
import pytest
from conversations import Front, free_port, heard, locally, ready, said, same_words

pytestmark = [pytest.mark.timeout(90), pytest.mark.filterwarnings("ignore")]  # Ray's own warnings are not ours to mend

MACHINE = """
import sys
from ray.cluster_utils import Cluster
args = {"num_cpus": 2, "object_store_memory": 100 << 20, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args={**args, "gcs_server_port": int(sys.argv[1])})
print("there", flush=True)
sys.stdin.read()
cluster.remove_node(cluster.head_node, allow_graceful=False)
cluster.shutdown()
"""


class Machine:
    """A cluster of one machine, at the same address each time."""

    def __init__(self) -> None:
        self._port = free_port()
        self.address = f"127.0.0.1:{self._port}"
        self._pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}

    def start(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-Pc", MACHINE, str(self._port)], **self._pipes)  # pyright: ignore[reportArgumentType, reportCallIssue]
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"there\n"
        command = [sys.executable, "-Pm", "stt.cli", "cluster", "up", "--address", self.address]
        engine = ["--engine", "whisper", "--device", "cpu", "--threads", "1"]
        done = subprocess.run([*command, *engine], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def kill(self) -> None:
        """Lose it: SIGKILL for the head and all that makes this machine one of the cluster's."""
        self._process.communicate()


@pytest.fixture
def machine() -> Iterator[Machine]:
    made = Machine()
    made.start()
    try:
        yield made
    finally:
        made.kill()


async def test_a_front_outlives_the_head_and_goes_on_with_the_next_one(machine: Machine) -> None:
    """Who talks meanwhile is heard on, and has all finals on the same connection; who comes is refused."""
    front = Front(machine.address)
    lost: list[asyncio.Task[None]] = []
    said_while_lost: list[tuple[int, str]] = []

    async def lose() -> None:
        if not lost:
            lost.append(asyncio.create_task(replace()))

    async def replace() -> None:
        await asyncio.to_thread(machine.kill)
        await ready(front.port, 503)
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{front.port}") as client:
            for path, ask in (("/ready", client.get), ("/v1/audio/transcriptions", client.post)):
                answer = await ask(path)
                said_while_lost.append((answer.status_code, answer.text))
        await asyncio.to_thread(machine.start)

    try:
        await ready(front.port)
        process, expected = front.process, await asyncio.to_thread(locally)
        told: list[str] = []
        found = await asyncio.gather(*(heard(front.talk_to(told.append), said(seed), lose) for seed in range(2)))
        same_words(found, expected[:2])
        await lost[0]
        await ready(front.port)
        assert [status for status, _ in said_while_lost] == [503, 503]
        assert all("unreachable" in text for _, text in said_while_lost)
        assert len(told) == 2, "no connection was lost"
        assert front.process is process
        assert process.poll() is None
        process.terminate()
        assert await asyncio.to_thread(process.wait, 60) == 0
    finally:
        front.kill()
