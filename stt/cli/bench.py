"""Options of `stt bench`."""

import argparse
from dataclasses import replace
from typing import Final

from stt.cli.options import Argument, Command, Flag, Option, count, path, seconds
from stt.cli.shared import API_KEY, CA, END_OF_TURN, URL

_DESCRIPTION: Final = """\
Load a server with live sessions that speak the given files in real time, over and over, and print how it bears them.
Before that, each file is heard once as fast as the server goes: the turns and words that the live sessions must give.
"""

_EPILOG: Final = """\
examples:
  stt serve & stt bench talk.wav                     one session, on this machine
  stt bench *.wav --sessions 4 --duration 120        four people for two minutes
  stt bench --turns eot/real --sessions 8            when turns end: too early, too late (docs/turn-taking.md)
  stt bench --turns eot/real --url 'ws://127.0.0.1:15751?end_of_turn=meaning&eagerness=fast'
  stt bench --turns eot/real --url ws://other:8000/v2/listen    a server that speaks Deepgram's Flux

exit status: with --turns 0, else 0 if no turn was lost and no session failed, else 1.
"""

_DAY_S: Final = 24 * 3600.0


def _run(args: argparse.Namespace) -> int:
    from stt.commands.bench import bench, bench_turns
    from stt.errors import SettingsError

    if (args.turns is None) == (not args.paths):
        raise SettingsError("expected files to speak, or --turns DIR, got " + ("both" if args.paths else "neither"))
    if args.turns is not None:
        return bench_turns(
            args.turns,
            url=args.url,
            api_key=args.api_key,
            ca=args.ca,
            sessions=args.sessions,
            some=args.some,
            traces=args.traces,
            as_json=args.json,
            quiet=args.quiet,
        )

    return bench(
        args.paths,
        url=args.url,
        api_key=args.api_key,
        ca=args.ca,
        sessions=args.sessions,
        duration_s=args.duration,
        frame_ms=args.frame_ms,
        binary=args.binary,
        gap_s=args.end_of_turn,
        as_json=args.json,
        quiet=args.quiet,
    )


BENCH: Final = Command(
    name="bench",
    help="measure a server under live load",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    run=_run,
    arguments=(Argument(name="paths", nargs="*", metavar="FILE", help="speech; sessions begin with different files"),),
    options=(
        URL,
        API_KEY,
        CA,
        Option(
            name="--sessions",
            variable=None,
            default=1,
            convert=count(1, 100_000),
            metavar="N",
            help="speakers at once",
        ),
        Option(
            name="--duration",
            variable=None,
            default=0.0,
            convert=seconds(0, _DAY_S),
            metavar="SECONDS",
            help="repeat the files until they last so long",
            shown_default="once",
        ),
        Option(
            name="--frame-ms",
            variable=None,
            default=20,
            convert=count(1, 1000, "milliseconds"),
            metavar="MS",
            help="audio per message",
        ),
        Flag(name="--binary", help="send binary messages instead of JSON"),
        replace(
            END_OF_TURN,
            variable=None,
            default=1.5,
            convert=seconds(0.05, 60),
            metavar="SECONDS",
            help="silence that ends a turn",
        ),
        Option(
            name="--turns",
            variable=None,
            convert=path,
            metavar="DIR",
            help="score when the server ends the turns of this benchmark, each a session of its own",
        ),
        Option(
            name="--some",
            variable=None,
            convert=count(1, 1_000_000),
            metavar="N",
            help="with --turns: so many of its turns, evenly spread",
            shown_default="all",
        ),
        Option(
            name="--traces", variable=None, convert=path, metavar="FILE", help="write what was done in each pause there"
        ),
        Flag(name="--json", help="print one JSON object"),
    ),
)
