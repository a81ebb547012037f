"""Warnings that are other people's own."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    # pipecat imports a module that is on its way out, and installs its successor where that is gone.
    config.addinivalue_line("filterwarnings", "ignore:'audioop' is deprecated:DeprecationWarning")
    # Deepgram's SDK asks websockets for a name that is on its way out.
    config.addinivalue_line("filterwarnings", "ignore:websockets:DeprecationWarning")
    # LiveKit's plugin and pipecat's services leave connections to the garbage collector, which finds them at any time.
    config.addinivalue_line("filterwarnings", "ignore:unclosed:ResourceWarning")
