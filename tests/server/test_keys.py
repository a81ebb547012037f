"""Keys that no header can carry are refused where they are set, and never shown."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from spoken import silence
from stt.bench import open_session, script
from stt.client import RemoteSession
from stt.errors import SettingsError
from stt.server import ServerSettings
from stt.server.access import is_key, read_keys

BAD = ["k\u00e9y-secret", "\u65e5\u672c-secret", "secret\nX: y", "secret\n", " secret", "se\x7fcret", "se\tcret"]


def open_load_session(key: str) -> None:
    asyncio.run(open_session(script([silence(1)], 0, 20, binary=True), "ws://127.0.0.1:1", key))


@pytest.mark.parametrize("key", BAD)
@pytest.mark.parametrize(
    "use",
    [
        lambda key: ServerSettings(api_keys=("good", key)),
        lambda key: RemoteSession("ws://127.0.0.1:1", api_key=key),
        open_load_session,
    ],
    ids=["server", "client", "bench"],
)
def test_a_key_that_cannot_be_sent(use: Callable[[str], object], key: str) -> None:
    with pytest.raises(SettingsError, match=r"expected .*printable ASCII") as raised:
        use(key)
    assert "cret" not in str(raised.value)


def test_keys_that_can() -> None:
    assert all(map(is_key, ("k", "a b", "!~#%", "0123456789abcdef")))
    assert not is_key("")


def test_a_file_with_such_a_key_tells_the_line(tmp_path: Path) -> None:
    path = tmp_path / "keys"
    path.write_text("# K\u00e4se\n good \n\nk\u00e9y-secret\n", "utf-8")
    with pytest.raises(SettingsError, match=r"keys, line 4: expected a key of printable ASCII characters") as raised:
        read_keys(path)
    assert "secret" not in str(raised.value)
