"""Options of `stt serve`."""

import argparse
from typing import Final

from stt.cli.options import Command, Flag, Group, Option, ValueProblem, address, count, items, path, seconds
from stt.cli.shared import (
    API_KEY_FILE,
    DRAIN_TIMEOUT,
    ENGINE_TIMEOUT,
    HOST,
    MAX_SESSIONS,
    PORT,
    TERMS,
    TURNS,
    WEEK_S,
    engine_options,
    engine_settings,
    said_terms,
    spoken_language,
    turn_settings,
)

_DESCRIPTION: Final = """\
Serve live sessions over WebSockets (ws://HOST:PORT/ws/transcribe, docs/protocol.md), all over one engine.
http://HOST:PORT/ is a page to talk to: microphone in, text out, in any browser (docs/page.md).
GET /health says that the process lives, /ready that the engine is loaded, /metrics gives figures for Prometheus.
SIGTERM, SIGINT and SIGHUP let running turns get their finals, then the server exits.
"""

_EPILOG: Final = """\
examples:
  stt serve --open                                talk to it in the browser
  stt serve                                       for programs on this machine
  STT_API_KEY=... stt serve --host 0.0.0.0        for others, with a key (also --api-key-file)
  stt serve --interim-model tiny.en --model small.en   two models: one keeps up, the other has the last word
  stt serve --wyoming 0.0.0.0:10300 --wyoming-announce   for Home Assistant as well
  stt serve --host unix:/run/stt/stt.sock         for a proxy on this machine
  stt serve --tls-cert chain.pem --tls-key key.pem --host 0.0.0.0 --api-key-file /etc/stt/keys

exit status: 0 after SIGTERM, SIGINT or SIGHUP, 1 if the engine cannot be opened, 2 for a wrong option.
"""


def _run(args: argparse.Namespace) -> int:
    from stt.commands.serve import run

    level = args.log_level
    if level == "info":
        level = "warning" if args.quiet else "debug" if args.verbose else level
    return run(
        engine=engine_settings(args),
        turns=turn_settings(args),
        language=spoken_language(args),
        terms=said_terms(args),
        api_keys=args.api_key,
        api_key_file=args.api_key_file,
        log_format=args.log_format,
        log_level=level,
        host=args.host,
        dialects=args.dialects,
        wyoming=args.wyoming,
        wyoming_ends_turns=args.wyoming_ends_turns,
        wyoming_announce=args.wyoming_announce,
        page=not args.no_page,
        open_page=args.open,
        port=args.port,
        allowed_origins=tuple(args.allowed_origin),
        forwarded_allow_ips=args.forwarded_allow_ips,
        tls_cert=args.tls_cert,
        tls_key=args.tls_key,
        max_sessions=args.max_sessions,
        max_connections=args.max_connections,
        max_waiting_per_address=args.max_waiting_per_address,
        max_buffer_s=args.max_buffer,
        max_upload_bytes=args.max_upload << 20,
        max_files=args.max_files,
        idle_timeout_s=args.idle_timeout,
        drain_timeout_s=args.drain_timeout,
        engine_timeout_s=args.engine_timeout,
        cluster=args.cluster,
    )


def _dialects(text: str) -> list[str]:
    names = items(text)
    for name in names:
        if name not in DIALECTS:
            raise ValueProblem(f"names of {', '.join(DIALECTS)}", text)
    return names


DIALECTS: Final = ("native", "openai", "deepgram")
"""The families of `stt.server.families`, which is not imported for a help text."""

_ACCESS: Final = Group(
    "access",
    (
        Option(
            name="--dialects",
            default=[],
            convert=_dialects,
            repeats=True,
            metavar="NAME[,NAME]",
            help=f"what clients may speak: {', '.join(DIALECTS)}; default: all (the page needs native)",
        ),
        Option(
            name="--api-key",
            secret=True,
            default=[],
            convert=items,
            repeats=True,
            metavar="KEY[,KEY]",
            help="clients must send one of these as `Authorization: Bearer KEY`; other users of this machine can see "
            "options, but neither the variable nor the file",
        ),
        API_KEY_FILE,
        Option(
            name="--allowed-origin",
            default=[],
            convert=items,
            repeats=True,
            metavar="ORIGIN[,ORIGIN]",
            help="web pages that may connect beside those of the host and port of this server: https://example.com, "
            "or *",
        ),
        Option(
            name="--forwarded-allow-ips",
            default="127.0.0.1",
            metavar="ADDRESS[,ADDRESS]",
            help="proxies that are believed when they say who a client is (X-Forwarded-For): addresses, networks, or "
            "*; behind a Unix socket *",
        ),
        Option(name="--tls-cert", convert=path, metavar="FILE", help="certificate chain (PEM): serve wss://"),
        Option(name="--tls-key", convert=path, metavar="FILE", help="its private key (PEM)"),
    ),
)
_LIMITS: Final = Group(
    "limits",
    (
        MAX_SESSIONS,
        Option(
            name="--max-connections",
            convert=count(8, 1_000_000),
            metavar="N",
            help="connections in all; one more drops the one that waits longest without a whole request",
            shown_default="twice --max-sessions and 56, as far as the limit of open files goes",
        ),
        Option(
            name="--max-waiting-per-address",
            default=32,
            convert=count(1, 1_000_000),
            metavar="N",
            help="connections of one address without a whole request; one more drops the oldest",
        ),
        Option(
            name="--max-buffer",
            default=10.0,
            convert=seconds(1, 600),
            metavar="SECONDS",
            help="seconds of audio of one session that may wait; then its client has to",
        ),
        Option(
            name="--max-upload",
            default=1024,
            convert=count(1, 1 << 20),
            metavar="MIB",
            help="the longest file that is taken, in MiB; a longer one is refused with 413",
        ),
        Option(
            name="--max-files",
            default=16,
            convert=count(1, 1_000_000),
            metavar="N",
            help="files that are recognized at a time; others wait, each in the place of a session",
        ),
        Option(
            name="--idle-timeout",
            default=60.0,
            convert=seconds(0.001, WEEK_S),
            metavar="SECONDS",
            help="seconds without a message after which a session is ended",
        ),
        DRAIN_TIMEOUT,
        ENGINE_TIMEOUT,
    ),
)
_WYOMING: Final = Group(
    "Wyoming (Home Assistant)",
    (
        Option(
            name="--wyoming",
            convert=address,
            metavar="[HOST:]PORT",
            help="speak Wyoming there as well, by custom at 10300; it has no keys; without a host, this machine only",
        ),
        Flag(
            name="--wyoming-ends-turns",
            help="end utterances by --end-of-turn of silence instead of waiting for the client to end them",
        ),
        Flag(name="--wyoming-announce", help="let Home Assistant find it (zeroconf; pip install 'stt-live[zeroconf]')"),
    ),
)
SERVE: Final = Command(
    name="serve",
    help="serve live sessions over WebSockets",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    run=_run,
    options=(
        HOST,
        PORT,
        Flag(name="--open", help="show the page in the default browser"),
        Flag(name="--no-page", help="no page at /"),
        _ACCESS,
        _WYOMING,
        _LIMITS,
        Option(
            name="--log-format",
            default="text",
            choices=("text", "json"),
            help="log lines for people or for programs, on standard error",
        ),
        Option(
            name="--log-level",
            default="info",
            choices=("debug", "info", "warning", "error"),
            help="the least that is logged",
        ),
        Option(
            name="--cluster",
            metavar="ADDRESS",
            help="recognize on the engines of a Ray cluster (`stt cluster`) instead of one here: HOST:PORT, or auto: "
            "the cluster that this machine is part of",
        ),
        engine_options(interims=True),
        TERMS,
        TURNS,
    ),
)
