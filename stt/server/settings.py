"""How a server behaves; one frozen dataclass, read from options by the command line only."""

from dataclasses import dataclass, field
from pathlib import Path

from stt.errors import SettingsError
from stt.server.access import is_key

DEFAULT_PORT = 15751


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Limits and rights. Times in seconds."""

    host: str = "127.0.0.1"
    """Address to listen on, or `unix:/path` for a Unix socket."""
    port: int = DEFAULT_PORT
    """0: any that is free; the log tells which."""
    api_keys: tuple[str, ...] = field(default=(), repr=False)
    """Clients must send one of these (`access.offered` tells where); none: everyone is let in."""
    allowed_origins: tuple[str, ...] = ()
    """Web pages beside those of this same host and port that may connect: `https://example.com`, or `*`."""
    forwarded_allow_ips: str = "127.0.0.1"
    """Proxies whose `X-Forwarded-For` tells where a client is: addresses and networks with commas between, or `*`."""
    tls_cert: Path | None = None
    """Certificate chain (PEM); with `tls_key`, the server speaks wss:// and https://."""
    tls_key: Path | None = None

    wyoming: tuple[str, int] | None = None
    """Address and port (0: any that is free) to speak Wyoming at, which has no keys; `None`: it is not spoken."""
    wyoming_ends_turns: bool = False
    """Whether the server finds out where an utterance of Wyoming ends; else its client says so."""
    wyoming_announce: bool = False
    """Whether the local network is told of it (zeroconf)."""
    page: bool = True
    """Whether `GET /` is a page to talk to."""
    max_sessions: int = 100
    """Sessions at once; one more is refused with 503."""
    max_buffer_s: float = 10.0
    """Audio of one session that waits to be listened to; beyond it the server stops reading from that client."""
    max_ahead_s: float = 60.0
    """Speech of one session in windows that wait for the engine; beyond it the server stops listening to it."""
    max_files: int = 16
    """Files that are heard at a time; the others that were sent wait, each in a session's place."""
    max_upload_bytes: int = 1 << 30
    """The longest body of a request; a longer one is refused with 413."""
    max_message_bytes: int = 1 << 20
    """A larger message closes the connection with 1009."""
    max_messages_per_s: int = 2_000
    """A client that sends more is read no faster than this."""
    max_errors: int = 20
    """Malformed messages that a session survives."""
    max_unsent_bytes: int = 256 << 10
    """Messages that wait for a client that reads slowly; beyond it the client is closed with 1008."""
    send_timeout_s: float = 10.0
    """A client that takes nothing for so long, with messages waiting, is closed; so is one whose machine is gone."""
    idle_timeout_s: float = 60.0
    """A client that sends nothing for so long is closed, after the final of its running turn."""
    handshake_timeout_s: float = 10.0
    """A request must be whole so long after its first byte, a connection's first one after it was made."""
    max_connections: int | None = None
    """In all; one more drops the one that waits longest without a whole request. `None`: twice `max_sessions` and some,
    as far as the limit of open files lets them."""
    max_waiting_per_address: int = 32
    """Connections of one address without a whole request; one more drops the oldest."""
    drain_timeout_s: float = 20.0
    """On SIGTERM, running turns have so long to get their finals."""
    engine_timeout_s: float = 60.0
    """An engine that works on one batch for longer is taken for hung and replaced."""

    @property
    def socket_path(self) -> Path | None:
        """Where the Unix socket is; `None`: it is TCP."""
        return Path(self.host.removeprefix("unix:")) if self.host.startswith("unix:") else None

    def __post_init__(self) -> None:
        def check(holds: bool, expected: str, got: object) -> None:
            if not holds:
                msg = f"expected {expected}, got {got}"
                raise SettingsError(msg)

        for port in (self.port, *(self.wyoming[1:] if self.wyoming is not None else ())):
            check(0 <= port <= 65535, "a port of 0 to 65535", port)
        more = self.wyoming_ends_turns or self.wyoming_announce
        check(self.wyoming is not None or not more, "an address for Wyoming beside its other options", "none")
        check(self.max_sessions >= 1, "max_sessions of 1 or more", self.max_sessions)
        check(
            self.max_connections is None or self.max_connections >= 8,
            "max_connections of 8 or more",
            self.max_connections,
        )
        check(self.max_waiting_per_address >= 1, "max_waiting_per_address of 1 or more", self.max_waiting_per_address)
        check(self.host != "unix:", "a path, as in unix:/run/stt.sock", self.host)
        check(1 <= self.max_buffer_s <= 600, "max_buffer_s of 1 to 600 seconds", self.max_buffer_s)
        check(self.max_ahead_s > 0, "max_ahead_s above 0", self.max_ahead_s)
        check(self.max_files >= 1, "max_files of 1 or more", self.max_files)
        check(self.max_upload_bytes >= 4096, "max_upload_bytes of 4096 or more", self.max_upload_bytes)
        check(self.max_message_bytes >= 4096, "max_message_bytes of 4096 or more", self.max_message_bytes)
        check(self.max_messages_per_s >= 100, "max_messages_per_s of 100 or more", self.max_messages_per_s)
        check(self.max_errors >= 0, "max_errors of 0 or more", self.max_errors)
        check(self.max_unsent_bytes >= 4096, "max_unsent_bytes of 4096 or more", self.max_unsent_bytes)
        for name in ("send_timeout_s", "idle_timeout_s", "handshake_timeout_s", "engine_timeout_s"):
            check(getattr(self, name) > 0, f"{name} above 0", getattr(self, name))
        check(self.drain_timeout_s >= 0, "drain_timeout_s of 0 or more", self.drain_timeout_s)
        check(
            (self.tls_cert is None) == (self.tls_key is None),
            "a certificate and its key together",
            "the certificate alone" if self.tls_key is None else "the key alone",
        )
        check(all(self.api_keys), "API keys that are not empty", "an empty one")
        check(
            all(map(is_key, self.api_keys)),
            "API keys of printable ASCII characters, without white space around them",
            "one with others",
        )
        check(
            all(origin == "*" or "://" in origin for origin in self.allowed_origins),
            "origins like https://example.com, or *",
            ", ".join(self.allowed_origins),
        )
