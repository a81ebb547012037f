"""What all fuzzing of the server shares: a whole app without sockets, and a dozen clients at once.

`STT_FUZZ` sets how many sequences there are.
"""

import asyncio
import contextlib
import gc
import os
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import HypothesisWarning

from scripted import ScriptedModel
from serving import LoudnessBatch
from stt.server import ServerSettings, create_app
from stt.vad_pool import VadPool

SEQUENCES = int(os.environ.get("STT_FUZZ", "5000"))
AT_ONCE = 12
# A server is no function of what it is sent: what failed once is told as it is, not tried again in smaller ways. How
# long it takes to make up sequences is the machine's business.
FUZZING = settings(deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
_KEEPERS = ("keeper", "vad keeper", "lag")

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=8,
)


@contextlib.contextmanager
def reporting() -> Iterator[None]:
    """Let what is wrong be told, not what Hypothesis says about it: that it is long, or that memory was frozen."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", HypothesisWarning)
        yield


class Model(ScriptedModel):
    """Keeps nothing of what it was asked."""

    def transcribe(self, batch: Any) -> Any:
        result = super().transcribe(batch)
        self.batches.clear()
        return result


class Client:
    """The ASGI side of one connection or request."""

    def __init__(self, app: Any, path: str, query: str = "", **scope: Any) -> None:
        self.incoming: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.sent: list[dict[str, Any]] = []
        scope = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": path,
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 2),
            "subprotocols": [],
            "extensions": {},
        } | scope
        if scope["type"] == "websocket":
            self.incoming.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.create_task(app(scope, self.incoming.get, self.send))

    async def send(self, message: dict[str, Any]) -> None:
        self.sent.append(message)

    def put(self, message: str | bytes) -> None:
        kind = "text" if isinstance(message, str) else "bytes"
        self.incoming.put_nowait({"type": "websocket.receive", kind: message})

    def vanish(self) -> None:
        self.incoming.put_nowait({"type": "websocket.disconnect", "code": 1006})

    async def end(self) -> None:
        async with asyncio.timeout(120):  # a hang is one on a very busy machine as well
            await self.task


def fuzz(
    sequence: st.SearchStrategy[Any],
    one: Callable[[Any, Any], Coroutine[Any, Any, None]],
    healthy: Callable[[Any], Coroutine[Any, Any, None]] | None = None,
    count: int = SEQUENCES,
) -> None:
    """Play sequences on an app, a dozen at once and beside them somebody healthy: nothing hangs, nothing is left."""
    loop = asyncio.new_event_loop()
    limits = ServerSettings(idle_timeout_s=0.01, max_errors=6, max_messages_per_s=100_000)
    app = create_app(limits, open_model=Model, open_vad=lambda: VadPool(LoudnessBatch()))
    service = app.state.service
    ran = 0

    async def start() -> None:
        await service.__aenter__()
        while service.state != "ready":
            await asyncio.sleep(0.001)

    @settings(FUZZING, max_examples=-(-count // AT_ONCE))
    @given(st.lists(sequence, min_size=AT_ONCE, max_size=AT_ONCE))
    def play(sequences: list[Any]) -> None:
        nonlocal ran
        ran += len(sequences)

        async def together() -> None:
            async with asyncio.TaskGroup() as tasks:
                for each in sequences:
                    tasks.create_task(one(app, each))
                if healthy is not None:
                    tasks.create_task(healthy(app))
            assert not service.sessions
            assert service.recognizer is not None
            assert service.recognizer.waiting == 0

        loop.run_until_complete(together())

    loop.run_until_complete(start())
    try:
        with reporting():
            play()
        assert ran >= count
        gc.collect()
        leftover = [task for task in asyncio.all_tasks(loop) if task.get_name() not in _KEEPERS]
        assert leftover == []
        assert service.state == "ready"
    finally:
        loop.run_until_complete(service.__aexit__())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
