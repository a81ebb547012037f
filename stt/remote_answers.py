"""`RemoteAnswers`: the language model of a server's engine, over `POST /v1/chat/completions`."""

import json
import ssl
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPSHandler, ProxyHandler, Request, build_opener

from stt.client import authorization, session_url
from stt.errors import EngineError
from stt.recognition.answers import MOST_TOKENS, Answer, Finished, Message
from stt.server.access import is_loopback
from stt.server.dialects.native import PATH as SESSIONS

_PATH: Final = "/v1/chat/completions"  # as `stt.server.dialects.openai_chat` has it, which imports a server
_TIMEOUT_S: Final = 120.0  # between two pieces: before the first the model reads what may be hours of speech


class RemoteAnswers:
    """`LanguageModel` on a server.

    Args:
        url: as `RemoteSession` takes it: `ws://host:port` or `wss://...`.
        api_key: likewise.
        tls: whom to trust, for `wss`; `None`: the authorities that the system trusts.

    Raises:
        SettingsError: the URL is not one of a WebSocket, or the key is none.

    """

    def __init__(self, url: str, *, api_key: str | None = None, tls: ssl.SSLContext | None = None) -> None:
        sessions = urlsplit(session_url(url, {}))
        scheme = "https" if sessions.scheme == "wss" else "http"
        self.url = f"{scheme}://{sessions.netloc}{sessions.path.removesuffix(SESSIONS)}{_PATH}"
        self._headers = {"Content-Type": "application/json", **authorization(api_key)}
        self._own = is_loopback(sessions.hostname or "")
        proxies = ProxyHandler({}) if self._own else ProxyHandler()
        self._opener = build_opener(proxies, HTTPSHandler(context=tls))

    def answer(self, messages: Sequence[Message], most_tokens: int = MOST_TOKENS) -> Answer:
        """Have the server answer a conversation.

        Raises:
            EngineError: it cannot be reached, refuses, or its engine has no language model.

        """
        body = {
            "model": "canary-qwen",
            "messages": [message._asdict() for message in messages],
            "max_tokens": most_tokens,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        request = Request(self.url, json.dumps(body).encode(), self._headers)  # noqa: S310 - http or https, by us
        why, usage = None, {}
        try:
            with self._opener.open(request, timeout=_TIMEOUT_S) as response:
                for chunk in _chunks(response):
                    usage = chunk.get("usage") or usage
                    for choice in chunk.get("choices", ()):
                        why = choice.get("finish_reason") or why
                        if piece := choice["delta"].get("content"):
                            yield piece
        except HTTPError as error:
            with error:
                raise EngineError(_said(error)) from error
        except (OSError, HTTPException, ValueError, TypeError, KeyError, AttributeError) as error:
            why = error.reason if isinstance(error, URLError) else error
            hint = "; is `stt serve` running?" if self._own and isinstance(why, ConnectionRefusedError) else ""
            msg = f"{self.url}: {why}{hint}"
            raise EngineError(msg) from error
        if why is None:
            msg = f"{self.url}: the answer broke off"
            raise EngineError(msg)
        tokens = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
        return Finished("stop" if why == "stop" else "length", *tokens)


def _chunks(lines: Iterator[bytes]) -> Iterator[Mapping[str, Any]]:
    """Read server-sent events."""
    for line in lines:
        field, _, data = line.decode().partition(":")
        if field != "data" or data.strip() == "[DONE]":
            continue
        chunk = json.loads(data)
        if (error := chunk.get("error")) is not None:
            raise EngineError(str(error.get("message")))
        yield chunk


def _said(error: HTTPError) -> str:
    """Return what a refusal says, whoever refuses."""
    try:
        return str(json.loads(error.read())["error"]["message"])
    except (OSError, ValueError, TypeError, KeyError):
        return f"{error.url}: {error.code} {error.reason}"
