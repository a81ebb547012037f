"""These tests run on the event loop that a server gets: uvicorn's choice."""

from collections.abc import Callable
from typing import Any

import pytest
from uvicorn import Config


@pytest.hookimpl(optionalhook=True)  # pytest-asyncio before 1.5 does not ask
def pytest_asyncio_loop_factories(config: Any, item: Any) -> dict[str, Callable[[], Any]]:
    factory = Config(app="").get_loop_factory()
    assert factory is not None
    return {factory.__module__: factory}
