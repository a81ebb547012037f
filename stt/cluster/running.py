"""The replicas that get calls now, as the routers of this process hear it from Ray Serve; knows nothing of Ray.

Ray makes a router's class anew from its code wherever it is used. What it shares with the rest of the process is in a
module that is imported: this one.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, Final
from weakref import WeakKeyDictionary

_RUNNING: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, Mapping[str, Any]]]] = WeakKeyDictionary()
_WATCHING: Final[defaultdict[str, list[Callable[[set[str]], object]]]] = defaultdict(list)


def tell(application: str, replicas: Mapping[str, Any]) -> None:
    """Note which replicas of an application get calls, by their names; from the event loop of its router."""
    _RUNNING.setdefault(asyncio.get_running_loop(), {})[application] = replicas
    for told in _WATCHING[application]:
        told(set(replicas))


def watch(application: str, told: Callable[[set[str]], object]) -> None:
    """Have it told, in the event loop of the router, the names of those that get calls, whenever they are others."""
    _WATCHING[application].append(told)


def within_reach(application: str, name: str) -> Any | None:
    """Return a replica that gets calls, where a router of this event loop knows it: connections are of one, too."""
    return _RUNNING.get(asyncio.get_running_loop(), {}).get(application, {}).get(name)
