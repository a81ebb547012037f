"""The command line. Only this module reads the environment, and it imports nothing heavy before a command needs it."""

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

_ENGINES: Final = ("auto", "whisper", "canary-qwen")
_DEVICES: Final = ("auto", "cuda", "cpu")
_DTYPES: Final = ("auto", "float32", "bfloat16", "float16", "int8")
_FORMATS: Final = ("txt", "srt", "vtt", "json")

_DESCRIPTION: Final = """\
Live speech-to-text you run yourself: turn by turn, from files, a microphone or over a WebSocket.
"""

_FILE_DESCRIPTION: Final = """\
Transcribe audio files. The text goes to standard output, turn by turn, as soon as each turn is recognized;
everything else (progress, the engine, errors) goes to standard error.
"""

_FILE_EPILOG: Final = """\
examples:
  stt file talk.flac                          print what is said
  stt file *.mp3 --output texts/              one text file per recording
  stt file talk.m4a --format srt --output -   subtitles to standard output
  stt file '**/*.wav' --format json | jq .    a JSON document (one line) per file
  ffmpeg -i film.mkv -f wav - | stt file -    from another program
  arecord -f S16_LE -r 16000 -t raw | stt file - --raw 16000

exit status: 0 if every file was transcribed whole, 1 if any was not, 2 for a wrong option, 130 after Ctrl-C.
"""

_SERVE_DESCRIPTION: Final = """\
Serve live sessions over WebSockets (ws://HOST:PORT/ws/transcribe, docs/protocol.md), all over one engine.
GET /health says that the process lives, /ready that the engine is loaded, /metrics gives figures for Prometheus.
SIGTERM and SIGINT let running turns get their finals, then the server exits.
"""

_SERVE_EPILOG: Final = """\
examples:
  stt serve                                       for programs on this machine
  STT_API_KEY=... stt serve --host 0.0.0.0        for others, with a key (also --api-key-file)
  stt serve --tls-cert chain.pem --tls-key key.pem --host 0.0.0.0 --api-key-file /etc/stt/keys

exit status: 0 after SIGTERM or SIGINT, 1 if the engine cannot be opened, 2 for a wrong option.
"""

_TUI_DESCRIPTION: Final = """\
Talk and watch it being written: interim words as you speak, turns as you pause. Press ? in it for the keys.
Everything is kept as it is said; --resume goes on with it.
"""

_TUI_EPILOG: Final = """\
examples:
  stt tui                                the default microphone, the engine in this process
  stt tui --device usb                   the microphone whose name has "usb" in it (stt devices lists them)
  stt tui --source talk.flac             a recording, played as if it were spoken now
  stt tui --connect ws://box:15751       a server recognizes; its key: --api-key or STT_API_KEY
  stt tui --resume                       go on with the last session
  stt tui --replay session.jsonl         watch a session again, with its timing

exit status: 0, 1 if a session cannot be read, 2 for a wrong option.
"""

_CLIENT_DESCRIPTION: Final = """\
Stream a file or the microphone to a server (`stt serve`) and print what it hears, live. When the server restarts, the
client connects again and goes on where it was. Ctrl-C ends the audio and waits for the last final; twice: at once.
"""

_BENCH_DESCRIPTION: Final = """\
Load a server with live sessions that speak the given files in real time, over and over, and print how it bears them.
Before that, each file is heard once as fast as the server goes: the turns and words that the live sessions must give.
"""

_BENCH_EPILOG: Final = """\
examples:
  stt serve & stt bench talk.wav                     one session, on this machine
  stt bench *.wav --sessions 4 --duration 120        four people for two minutes

exit status: 0 if no turn was lost and no session failed, else 1.
"""


_MODELS_DESCRIPTION: Final = """\
List the speech models stt knows, where they are on this machine and how big, or download some.

examples:
  stt models                               what there is
  stt models download canary-qwen          5 GB, for a GPU
  stt models download small --model-dir weights/small
"""


class _Parser(argparse.ArgumentParser):
    """Takes defaults from `STT_*` variables, checked like the options they stand for."""

    def option(
        self,
        group: Any,
        name: str,
        *,
        default: Any,
        help: str,  # noqa: A002 - argparse's word
        convert: Callable[[str], Any] = str,
        variable: str | None = None,
        **more: Any,
    ) -> None:
        variable = variable or "STT_" + name.removeprefix("--").replace("-", "_").upper()
        if (value := os.environ.get(variable)) is not None:
            try:
                default = convert(value)
            except (argparse.ArgumentTypeError, ValueError) as error:
                self.error(f"environment variable {variable}: {error}")
            choices = more.get("choices")
            if choices and default not in choices:
                self.error(f"environment variable {variable}: expected one of {', '.join(choices)}, got {value!r}")
        group.add_argument(name, type=convert, default=default, help=f"{help} [{variable}]", **more)

    def error(self, message: str) -> NoReturn:
        """Say what was wrong, and where to read more."""
        self.exit(2, f"{self.prog}: {message}\n{self.prog} --help tells more\n")


def _seconds(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        msg = f"expected seconds like 1.5, got {text!r}"
        raise argparse.ArgumentTypeError(msg) from None


def _count(text: str) -> int:
    if not text.isdecimal():
        msg = f"expected a whole number, got {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def _list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]


def _raw(text: str) -> tuple[int, int]:
    rate, _, channels = text.partition("x")
    return _count(rate), _count(channels or "1")


def _add_engine_options(parser: _Parser, device: str = "--device") -> None:
    group = parser.add_argument_group("engine")
    parser.option(
        group,
        "--engine",
        default="auto",
        choices=_ENGINES,
        help="auto: canary-qwen where a GPU and its weights are there, else whisper (default: auto)",
    )
    parser.option(
        group,
        "--model",
        default=None,
        metavar="DIR|ID",
        help="weights: a directory, a size (small) or a hub id (Systran/faster-whisper-small), which is downloaded "
        "once (default: those that installed with stt: Whisper tiny, English)",
    )
    parser.option(
        group,
        "--model-dir",
        default=None,
        metavar="DIR",
        help="where weights are, or are to be downloaded to (default: the Hugging Face cache, HF_HOME)",
    )
    parser.option(
        group,
        device,
        variable="STT_DEVICE",
        dest="engine_device",
        default="auto",
        choices=_DEVICES,
        help="where the engine runs; auto: cuda where it can be used (default: auto)",
    )
    parser.option(
        group,
        "--dtype",
        default="auto",
        choices=_DTYPES,
        help="what the engine computes in; int8 is for whisper (default: what suits the device)",
    )
    parser.option(
        group,
        "--threads",
        default=0,
        convert=_count,
        metavar="N",
        help="CPU threads of the engine (default: one per core)",
    )
    parser.option(
        group,
        "--language",
        default="en",
        metavar="CODE",
        help="language spoken: en, de, fr ..., or auto; languages other than English need other weights than the "
        "default ones (default: en)",
    )


def _add_turn_options(parser: _Parser) -> None:
    group = parser.add_argument_group("turns")
    parser.option(
        group,
        "--end-of-turn",
        default=1.5,
        convert=_seconds,
        metavar="SECONDS",
        help="silence that ends a turn (default: 1.5)",
    )
    parser.option(
        group,
        "--speech-threshold",
        default=0.5,
        convert=_seconds,
        metavar="P",
        help="speech probability at which speech begins, 0 to 1; higher hears less (default: 0.5)",
    )


def _build() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="stt",
        description=_DESCRIPTION,
        epilog="`stt COMMAND --help` tells more about a command. Options can also be set as STT_* variables.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=_Parser)

    file: Any = commands.add_parser(
        "file",
        help="transcribe audio files",
        description=_FILE_DESCRIPTION,
        epilog=_FILE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    file.add_argument("paths", nargs="+", metavar="PATH", help="audio file, glob pattern, or - for standard input")
    file.option(
        file,
        "--format",
        default="txt",
        choices=_FORMATS,
        help="txt: a line per turn; srt, vtt: subtitles; json: one document per file (default: txt)",
    )
    file.add_argument(
        "--output",
        "-o",
        default="-",
        metavar="DIR|FILE|-",
        help="write to a file, or into a directory one file per input (made if the name ends in /); -: standard output",
    )
    file.add_argument(
        "--raw",
        type=_raw,
        metavar="RATE[xCHANNELS]",
        help="the input is headerless 16-bit little-endian PCM: 16000, 44100x2",
    )
    file.add_argument(
        "--whole",
        action="store_true",
        help="give each recording to the engine in one piece, as it is; at most 30 s (to score sets of short clips)",
    )
    file.add_argument("--quiet", "-q", action="store_true", help="no progress and no engine line; errors still show")
    _add_engine_options(file)
    _add_turn_options(file)
    file.set_defaults(run=_file)
    _add_serve(commands)
    _add_client(commands)
    _add_bench(commands)
    _add_tui(commands)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:
        from importlib.metadata import version

        from stt.machine import DISTRIBUTION

        print(f"stt {version(DISTRIBUTION)}")
        parser.exit()


def _file(args: argparse.Namespace) -> int:
    from stt.commands.file import run

    return run(
        args.paths,
        engine=_engine_settings(args),
        turns=_turn_settings(args, interim_s=None, speculative=False),
        language=_language(args),
        kind=args.format,
        output=args.output,
        raw=args.raw,
        quiet=args.quiet,
        whole=args.whole,
    )


def _add_serve(commands: Any) -> None:
    serve: Any = commands.add_parser(
        "serve",
        help="serve live sessions over WebSockets",
        description=_SERVE_DESCRIPTION,
        epilog=_SERVE_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    serve.option(
        serve,
        "--host",
        default="127.0.0.1",
        help="address to listen on; 0.0.0.0: all (default: 127.0.0.1, this machine only)",
    )
    serve.option(serve, "--port", default=15751, convert=_count, help="default: 15751; 0: any that is free")
    access = serve.add_argument_group("access")
    serve.option(
        access,
        "--api-key",
        default=[],
        convert=_list,
        action="extend",
        metavar="KEY[,KEY]",
        help="clients must send one of these as `Authorization: Bearer KEY`; other users of this machine can see "
        "options, but neither the variable nor the file",
    )
    serve.option(
        access, "--api-key-file", default=None, convert=Path, metavar="FILE", help="a file with a key on each line"
    )
    serve.option(
        access,
        "--allowed-origin",
        default=[],
        convert=_list,
        action="extend",
        metavar="ORIGIN[,ORIGIN]",
        help="web pages of other hosts that may connect: https://example.com, or *",
    )
    serve.option(
        access, "--tls-cert", default=None, convert=Path, metavar="FILE", help="certificate chain (PEM): serve wss://"
    )
    serve.option(access, "--tls-key", default=None, convert=Path, metavar="FILE", help="its private key (PEM)")
    limits = serve.add_argument_group("limits")
    for name, default, convert, text in (
        ("--max-sessions", 100, _count, "sessions at once; more are refused with 503"),
        ("--max-buffer", 10.0, _seconds, "seconds of audio of one session that may wait; then its client has to"),
        ("--idle-timeout", 60.0, _seconds, "seconds without a message after which a session is ended"),
        ("--drain-timeout", 20.0, _seconds, "seconds that running turns have to get their finals when the server ends"),
        ("--engine-timeout", 60.0, _seconds, "seconds after which an engine at work is taken for hung and replaced"),
    ):
        metavar = "N" if convert is _count else "SECONDS"
        serve.option(
            limits, name, default=default, convert=convert, metavar=metavar, help=f"{text} (default: {default:g})"
        )
    serve.option(
        serve,
        "--log-format",
        default="text",
        choices=("text", "json"),
        help="log lines for people or for programs, on standard error (default: text)",
    )
    _add_engine_options(serve)
    _add_turn_options(serve)
    serve.set_defaults(run=_serve)


def _add_client(commands: Any) -> None:
    client: Any = commands.add_parser(
        "client",
        help="stream a file or the microphone to a server",
        description=_CLIENT_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    client.add_argument("path", nargs="?", metavar="FILE", help="audio file, or - for standard input; none: microphone")
    _add_remote_options(client)
    client.option(
        client,
        "--mic",
        default=None,
        metavar="NAME|INDEX",
        help="microphone (`stt devices`); asked for at a terminal if there are several",
    )
    # The predecessor's name for it; --device is where an engine runs in all other commands, and STT_DEVICE with it.
    client.add_argument("--device", dest="mic", metavar="NAME|INDEX", default=argparse.SUPPRESS, help="same as --mic")
    client.option(
        client, "--language", default=None, metavar="CODE", help="language spoken (default: that of the server)"
    )
    client.option(
        client,
        "--end-of-turn",
        default=None,
        convert=_seconds,
        metavar="SECONDS",
        help="silence that ends a turn (default: that of the server)",
    )
    client.add_argument("--fast", action="store_true", help="send a file as fast as the server takes it")
    client.add_argument("--json", action="store_true", help="print the messages as they come")
    client.set_defaults(run=_client)


def _add_bench(commands: Any) -> None:
    bench: Any = commands.add_parser(
        "bench",
        help="measure a server under live load",
        description=_BENCH_DESCRIPTION,
        epilog=_BENCH_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    bench.add_argument("paths", nargs="+", metavar="FILE", help="speech; sessions begin with different files")
    _add_remote_options(bench)
    bench.add_argument("--sessions", type=_count, default=1, metavar="N", help="speakers at once (default: 1)")
    bench.add_argument(
        "--duration",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="repeat the files until they last so long (default: once)",
    )
    bench.add_argument("--frame-ms", type=_count, default=20, metavar="MS", help="audio per message (default: 20)")
    bench.add_argument("--binary", action="store_true", help="send binary messages instead of JSON")
    bench.add_argument(
        "--end-of-turn", type=_seconds, default=1.5, metavar="SECONDS", help="silence that ends a turn (default: 1.5)"
    )
    bench.add_argument("--json", action="store_true", help="print one JSON object")
    bench.set_defaults(run=_bench)


def _bench(args: argparse.Namespace) -> int:
    from stt.commands.bench import bench

    if not args.sessions or not 1 <= args.frame_ms <= 1000:
        from stt.errors import SettingsError

        msg = f"expected 1 session or more and 1 to 1000 ms, got {args.sessions} and {args.frame_ms}"
        raise SettingsError(msg)
    return bench(
        args.paths,
        url=args.url,
        api_key=args.api_key,
        sessions=args.sessions,
        duration_s=args.duration,
        frame_ms=args.frame_ms,
        binary=args.binary,
        gap_s=args.end_of_turn,
        as_json=args.json,
    )


def _add_remote_options(parser: Any) -> None:
    parser.option(
        parser,
        "--url",
        default="ws://127.0.0.1:15751",
        help="of the server; options of a session may stand in its query (default: ws://127.0.0.1:15751)",
    )
    parser.option(parser, "--api-key", default=None, metavar="KEY", help="sent as `Authorization: Bearer KEY`")


def _client(args: argparse.Namespace) -> int:
    from stt.commands.client import run

    turns = None
    if args.end_of_turn is not None:
        from stt.settings import TurnSettings

        turns = TurnSettings(end_of_turn_s=args.end_of_turn, pause_s=min(0.3, args.end_of_turn))
    return run(
        args.path,
        url=args.url,
        api_key=args.api_key,
        device=args.mic,
        language=args.language,
        turns=turns,
        fast=args.fast,
        raw=args.json,
    )


def _serve(args: argparse.Namespace) -> int:
    from stt.commands.serve import run

    return run(
        engine=_engine_settings(args),
        turns=_turn_settings(args),
        language=_language(args),
        api_keys=args.api_key,
        api_key_file=args.api_key_file,
        log_format=args.log_format,
        host=args.host,
        port=args.port,
        allowed_origins=tuple(args.allowed_origin),
        tls_cert=args.tls_cert,
        tls_key=args.tls_key,
        max_sessions=args.max_sessions,
        max_buffer_s=args.max_buffer,
        idle_timeout_s=args.idle_timeout,
        drain_timeout_s=args.drain_timeout,
        engine_timeout_s=args.engine_timeout,
    )


def _add_tui(commands: Any) -> None:
    tui: Any = commands.add_parser(
        "tui",
        help="talk and watch it being written",
        description=_TUI_DESCRIPTION,
        epilog=_TUI_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    listening = tui.add_argument_group("what to listen to")
    tui.option(
        listening,
        "--device",
        variable="STT_MICROPHONE",
        default=None,
        metavar="NAME|INDEX",
        help="microphone: a part of its name, or its number (default: the system's)",
    )
    listening.add_argument("--source", metavar="FILE", help="play an audio file as the microphone, in real time")
    listening.add_argument("--replay", metavar="FILE", help="play a recorded session (.jsonl) back with its timing")
    server = tui.add_argument_group("server")
    tui.option(
        server,
        "--connect",
        default=None,
        metavar="URL",
        help="ws://HOST:PORT of an `stt serve` that is to recognize, in place of an engine here",
    )
    tui.option(server, "--api-key", default=None, metavar="KEY", help="the server's key")
    kept = tui.add_argument_group("what is kept")
    kept.add_argument(
        "--resume", nargs="?", const="", metavar="FILE", help="go on with the last session, or the one in FILE"
    )
    kept.add_argument("--no-autosave", action="store_true", help="do not keep the session as it grows")
    tui.option(
        kept,
        "--record-format",
        default="wav",
        choices=("wav", "flac"),
        help="of the audio that the key r records (default: wav)",
    )
    _add_engine_options(tui, device="--engine-device")
    _add_turn_options(tui)
    tui.set_defaults(run=_tui)
    models: Any = commands.add_parser(
        "models",
        help="list speech models, download them",
        description=_MODELS_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    models.add_argument("action", nargs="?", choices=("list", "download"), default="list", help="default: list")
    models.add_argument("names", nargs="*", metavar="NAME", help="canary-qwen, a Whisper size (small), or a hub id")
    models.option(
        models,
        "--model-dir",
        default=None,
        metavar="DIR",
        help="download into this directory (default: the Hugging Face cache, HF_HOME)",
    )
    models.add_argument("--json", action="store_true", help="one JSON document per model")
    models.set_defaults(run=_models)

    devices = commands.add_parser(
        "devices", help="list microphones", description="List the microphones, one a line: number, name, rate."
    )
    devices.set_defaults(run=_devices)


def _tui(args: argparse.Namespace) -> int:
    from stt.commands.tui import run

    return run(
        engine=_engine_settings(args),
        turns=_turn_settings(args),
        language=_language(args),
        source=args.source,
        device=args.device,
        connect=args.connect,
        api_key=args.api_key,
        resume=args.resume,
        replay=args.replay,
        autosave=not args.no_autosave,
        record_format=args.record_format,
    )


def _models(args: argparse.Namespace) -> int:
    from stt.commands import models

    if args.action == "list":
        return models.list_models(as_json=args.json)
    return models.download(args.names, args.model_dir)


def _devices(args: argparse.Namespace) -> int:  # noqa: ARG001 - called like the others
    from stt.commands.devices import run

    return run()


def _engine_settings(args: argparse.Namespace) -> Any:
    from stt.settings import EngineSettings

    return EngineSettings(
        args.engine,
        model=args.model,
        model_dir=args.model_dir,
        device=args.engine_device,
        dtype=args.dtype,
        threads=args.threads,
    )


def _turn_settings(args: argparse.Namespace, **more: Any) -> Any:
    from stt.settings import TurnSettings

    return TurnSettings(
        speech_threshold=args.speech_threshold,
        silence_threshold=max(0.01, args.speech_threshold - 0.15),
        end_of_turn_s=args.end_of_turn,
        pause_s=min(0.3, args.end_of_turn),
        **more,
    )


def _language(args: argparse.Namespace) -> str | None:
    return None if args.language == "auto" else args.language


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command `stt`; returns its exit status."""
    args = _build().parse_args(argv)
    from stt.errors import SettingsError, SttError

    try:
        return args.run(args)
    except SettingsError as error:
        print(f"stt {args.command}: {error}", file=sys.stderr)
        return 2
    except SttError as error:
        print(f"stt {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stt {args.command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # Whoever read our output has had enough (`stt file x | head`); nothing more can be written, at exit either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


if __name__ == "__main__":
    sys.exit(main())
