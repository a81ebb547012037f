"""Fronts inside a real Ray: one command runs everything, and clients of Serve's proxy see the server they know."""

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from conversations import FOUR, Finals, free_port, heard, locally, ready, said, same_words
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from stt.audio import to_pcm16
from stt.client import RemoteSession

pytestmark = [pytest.mark.timeout(400), pytest.mark.filterwarnings("ignore")]  # Ray's own warnings are not ours to mend

KEY = "a-key-of-the-test"
PORT = free_port()
URL = f"ws://127.0.0.1:{PORT}"
PATH = f"{URL}/ws/transcribe"
ALL = Path(__file__).parents[2] / "deploy/ray/all.yaml"


def run(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-Pm", module, *words], capture_output=True, text=True, timeout=240, check=False
    )


def stt(*words: str) -> subprocess.CompletedProcess[str]:
    return run("stt.cli", *words)


@pytest.fixture(scope="module")
def with_dashboard() -> bool:
    return True


@pytest.fixture(scope="module", autouse=True)
def deployed(nodes: Any, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """One command for everything; returns its words, so that it can be said again."""
    keys = tmp_path_factory.mktemp("keys") / "keys"
    keys.write_text(KEY + "\n")
    up = ["cluster", "up", "--address", nodes.address, "--engine", "whisper", "--device", "cpu", "--threads", "1"]
    up += ["--replicas", "1", "--fronts", "2", "--port", str(PORT), "--api-key-file", str(keys), "--max-sessions", "3"]
    up += ["--end-of-turn", "silence", "--drain-timeout", "8"]
    done = stt(*up)
    assert done.returncode == 0, done.stderr
    assert f"ws://127.0.0.1:{PORT}" in done.stdout
    asyncio.run(ready(PORT))
    return up


def remote(**more: Any) -> RemoteSession:
    return RemoteSession(URL, api_key=KEY, patience_s=120, **more)


def headers() -> dict[str, str]:
    return {"Authorization": f"Bearer {KEY}"}


async def open_one(url: str = PATH, **more: Any) -> ClientConnection:
    """Come in once there is room: what is in use is measured over some seconds, those of the test before as well."""
    more = more or {"additional_headers": headers()}
    async with asyncio.timeout(60):
        while True:
            try:
                return await connect(url, compression=None, **more)
            except InvalidStatus as refused:
                if refused.response.status_code != 503:
                    raise
            await asyncio.sleep(0.2)


async def refusal(url: str = PATH, **more: Any) -> tuple[int, str]:
    """Be refused for good: that others had the engine a moment ago passes."""
    async with asyncio.timeout(60):
        while True:
            with pytest.raises(InvalidStatus) as refused:
                await connect(url, compression=None, **more)
            told = refused.value.response.status_code, json.loads(refused.value.response.body)["code"]
            if told != (503, "overloaded"):
                return told
            await asyncio.sleep(0.2)


@pytest.fixture(autouse=True)
async def room() -> None:
    """Wait until nobody is refused because of the test before."""
    await (await open_one()).close()


def fronts() -> dict[str, int]:
    """Return the processes of the fronts that run, by their names."""
    from ray.serve.context import _get_global_client

    deployments = _get_global_client().get_serve_details()["applications"]["stt"]["deployments"]
    found = deployments["Front"]["replicas"] if deployments else []  # none are told while a file is being read
    return {front["replica_id"]: front["pid"] for front in found if front["state"] == "RUNNING"}


async def test_four_conversations_through_the_proxy_end_with_the_finals_of_a_local_run():
    expected = await asyncio.to_thread(locally)
    found = await asyncio.gather(*(heard(remote(), said(seed)) for seed in FOUR))
    assert list(found) == expected


async def test_who_may_not_come_in_is_told_as_by_any_front():
    assert await refusal() == (401, "unauthorized")
    assert await refusal(additional_headers={"Authorization": "Bearer no"}) == (401, "unauthorized")
    assert await refusal(URL + "/nowhere", additional_headers=headers()) == (404, "not_found")
    assert await refusal(PATH + "?language=xx", additional_headers=headers()) == (400, "bad_option")
    origin = {**headers(), "Origin": "https://example.com"}
    assert await refusal(additional_headers=origin) == (403, "forbidden_origin")
    async with httpx.AsyncClient(base_url=URL.replace("ws", "http")) as client:
        assert (await client.get("/metrics")).status_code == 401
        told = (await client.get("/metrics", headers=headers())).text
        assert "stt_replica_used{" in told
        assert "stt_cluster_calls_total{" in told
        assert (await client.get("/health")).json() == {"status": "alive"}
        assert "<html" in (await client.get("/")).text


async def test_a_key_in_a_query_lets_in_and_is_in_no_log(nodes: Any):
    key = "?api_key=" + KEY
    async with await open_one(PATH + key, additional_headers={}) as websocket:
        await websocket.send('{"type": "finish"}')
        with pytest.raises(ConnectionClosed):
            while True:
                await websocket.recv()
    session = Path(nodes.head_node.get_session_dir_path())
    logs = [path for path in (session / "logs").rglob("*") if path.is_file()]
    assert any("session=" in path.read_text(errors="replace") for path in logs if "Front" in path.name)
    assert not [path for path in logs if KEY.encode() in path.read_bytes()]


async def test_a_front_that_is_full_refuses_with_503_and_a_message_that_is_too_long_ends_one():
    taken = []
    try:
        while len(taken) < 6:  # where Serve chooses the one of two that is full, again
            taken.append(await open_one())
        assert await refusal(additional_headers=headers()) == (503, "too_many_sessions")
        await taken[0].send(bytes((1 << 20) + 1))
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                await taken[0].recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1009
    finally:
        await asyncio.gather(*(websocket.close() for websocket in taken))


async def test_an_update_replaces_the_fronts_and_running_turns_get_their_finals(deployed: list[str]):
    """Conversations go on at the new ones; a client that does not come back has its final and a reason to."""
    before = fronts()
    updating: list[asyncio.Task[Any]] = []

    async def update() -> None:
        if not updating:
            newer = [*deployed, "--eagerness", "fast"]
            updating.append(asyncio.create_task(asyncio.to_thread(stt, *newer)))

    async def stays() -> tuple[list[dict[str, Any]], int]:
        messages: list[dict[str, Any]] = []
        pcm = to_pcm16(said(0))
        async with await open_one() as websocket:
            try:
                for at in range(0, len(pcm) // 3, 6_400):
                    await websocket.send(pcm[at : at + 6_400])
                while True:
                    messages.append(json.loads(await websocket.recv()))
            except ConnectionClosed as closed:
                return messages, closed.rcvd.code if closed.rcvd is not None else 1006

    async def talks() -> list[Finals]:
        return await asyncio.gather(*(heard(remote(), said(seed), update) for seed in range(2)))

    (messages, code), found = await asyncio.gather(stays(), talks())
    done = await updating[0]
    assert done.returncode == 0, done.stderr
    same_words(found, (await asyncio.to_thread(locally))[:2])
    assert code == 1001
    assert [m["text"] for m in messages if m.get("isFinal")]
    assert not before.keys() & fronts().keys()
    assert len(fronts()) == 2


async def test_a_front_that_is_killed_is_left_by_its_clients_for_the_other():
    async def kill() -> None:
        if not killed:
            killed.append(min(fronts().values()))
            os.kill(killed[0], signal.SIGKILL)

    killed: list[int] = []
    found = await asyncio.gather(*(heard(remote(), said(seed), kill) for seed in FOUR))
    same_words(list(found), await asyncio.to_thread(locally))


async def test_a_configuration_file_deploys_all_of_it(deployed: list[str], nodes: Any, tmp_path: Path):
    """`serve deploy deploy/ray/all.yaml`, but for what is not to be had here: a GPU, its engine, its keys, its port."""
    config = yaml.safe_load(ALL.read_text())
    engine, fronts_ = config["applications"]
    config["http_options"].update(host="127.0.0.1", port=PORT)
    engine["args"].update(engine={"engine": "whisper", "device": "cpu", "threads": 1}, gpus=0)
    fronts_["args"]["api_key_file"] = deployed[deployed.index("--api-key-file") + 1]
    file, before = tmp_path / "all.yaml", fronts()
    file.write_text(yaml.safe_dump(config))
    done = run("ray.serve.scripts", "deploy", "--address", f"http://{nodes.head_node.webui_url}", str(file))
    assert done.returncode == 0, done.stderr
    async with asyncio.timeout(120):
        while len(there := fronts()) < 2 or there.keys() & before.keys():
            await asyncio.sleep(0.1)
    same_words([await heard(remote(), said(0))], (await asyncio.to_thread(locally))[:1])


async def test_fronts_are_seen_and_taken_down_and_the_engine_stays(deployed: list[str], nodes: Any):
    address = ["--address", nodes.address]
    there = json.loads(stt("cluster", "status", "--json", *address).stdout)
    assert {name: app["status"] for name, app in there.items()} == {"default": "RUNNING", "fronts": "RUNNING"}
    elsewhere = [str(PORT + 1) if word == str(PORT) else word for word in deployed]
    refused = stt(*elsewhere)
    assert refused.returncode == 1
    assert f"Serve runs at 127.0.0.1:{PORT}" in refused.stderr
    assert stt("cluster", "down", "--name", "fronts", *address).returncode == 0
    assert list(json.loads(stt("cluster", "status", "--json", *address).stdout)) == ["default"]
