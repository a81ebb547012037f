"""A Wyoming server that tells the network of itself."""

import asyncio
import logging
import socket
from typing import Any

import pytest
from zeroconf import asyncio as asynchronous

from stt.errors import SettingsError
from stt.server import ServerSettings, announce
from stt.server.run import _listen_wyoming


def test_addresses_that_others_reach() -> None:
    assert announce.reachable("192.0.2.7") == ["192.0.2.7"]
    assert not any(address.startswith("127.") for address in announce.reachable("0.0.0.0"))


def test_what_only_this_machine_reaches_is_not_announced() -> None:
    settings = ServerSettings(wyoming=("127.0.0.1", 0), wyoming_announce=True)
    with pytest.raises(SettingsError, match="others reach"):
        _listen_wyoming(settings)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(announce, "find_spec", lambda _: None)
    with pytest.raises(SettingsError, match="pip install"):
        announce.check()


async def test_a_server_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Home Assistant looks for the kind, then asks for address and port; on the loopback, where tests may speak."""
    monkeypatch.setattr(
        asynchronous, "AsyncZeroconf", lambda real=asynchronous.AsyncZeroconf: real(interfaces=["127.0.0.1"])
    )
    try:
        finder = asynchronous.AsyncZeroconf()
    except OSError:
        pytest.skip("there is no multicast here")
    found: asyncio.Queue[str] = asyncio.Queue()

    def changed(zeroconf: Any, service_type: str, name: str, state_change: Any) -> None:
        found.put_nowait(name)

    async with finder, announce.announced("127.0.0.1", 10300):
        browser = asynchronous.AsyncServiceBrowser(finder.zeroconf, "_wyoming._tcp.local.", handlers=[changed])
        async with asyncio.timeout(60):
            name = await found.get()
            service = await finder.async_get_service_info("_wyoming._tcp.local.", name)
        await browser.async_cancel()
    assert name == f"stt on {socket.gethostname().partition('.')[0]}._wyoming._tcp.local."
    assert (service.port, service.parsed_addresses()) == (10300, ["127.0.0.1"])


async def test_a_network_that_does_not_take_it_is_a_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:

    def fails() -> Any:
        raise OSError(19, "No such device")

    monkeypatch.setattr(asynchronous, "AsyncZeroconf", fails)
    with caplog.at_level(logging.WARNING):
        async with announce.announced("192.0.2.7", 10300):
            pass
    assert "cannot be announced" in caplog.text
