"""Tells the local network of a Wyoming server (zeroconf), so that Home Assistant finds it by itself."""

import contextlib
import logging
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import Final

from stt.errors import SettingsError
from stt.server.logs import log

_KIND: Final = "_wyoming._tcp.local."


def check() -> None:
    """See whether it can be done here.

    Raises:
        SettingsError: the package is missing.

    """
    if find_spec("zeroconf") is None:
        msg = "announcing Wyoming takes the package zeroconf: pip install 'stt-live[zeroconf]'"
        raise SettingsError(msg)


def reachable(host: str) -> list[str]:
    """Return the addresses under which others reach a listener at `host`: all of this machine's, if that is any."""
    import ifaddr

    if host not in ("0.0.0.0", "::"):  # noqa: S104 - read, not bound
        return [host]
    ips = [ip.ip for adapter in ifaddr.get_adapters() for ip in adapter.ips]
    return [ip for ip in ips if isinstance(ip, str) and not ip.startswith("127.")]


@asynccontextmanager
async def announced(host: str, port: int) -> AsyncIterator[None]:
    """Announce a server while it runs. Where the network does not take it, the server is none the worse for it."""
    from zeroconf import Error
    from zeroconf.asyncio import AsyncServiceInfo, AsyncZeroconf

    name = socket.gethostname().partition(".")[0]
    async with contextlib.AsyncExitStack() as opened:
        try:
            service = AsyncServiceInfo(
                _KIND, f"stt on {name}.{_KIND}", port=port, parsed_addresses=reachable(host), server=f"{name}.local."
            )
            zeroconf = await opened.enter_async_context(AsyncZeroconf())
            await zeroconf.async_register_service(service, allow_name_change=True)
            log("announced", name=service.name, port=port)
        except (Error, OSError) as error:
            log(f"Wyoming cannot be announced: {error or type(error).__name__}", logging.WARNING)
        yield
