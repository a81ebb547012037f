"""Where the page is, and whether it is shown."""

import pytest

from stt.cli import main
from stt.server.run import page_address


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("ws://127.0.0.1:15751", "http://localhost:15751/"),
        ("ws://0.0.0.0:80", "http://localhost:80/"),
        ("ws://[::1]:9", "http://localhost:9/"),
        ("ws://127.0.0.2:9", "http://127.0.0.2:9/"),
        ("ws://10.1.2.3:9", "http://10.1.2.3:9/"),
        ("wss://[fe80::1]:9", "https://[fe80::1]:9/"),
        ("unix:/run/stt.sock", None),
    ],
)
def test_the_page_is_where_a_browser_gives_it_the_microphone(url: str, page: str | None) -> None:
    assert page_address(url) == page


def test_open_needs_a_page(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--open", "--no-page"]) == 2
    assert "--open shows the page, and --no-page turns it off" in capsys.readouterr().err
