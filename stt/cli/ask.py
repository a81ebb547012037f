"""Options of `stt ask`."""

import argparse
from typing import Final

from stt.cli.options import Argument, Command, Flag, Option, count
from stt.cli.shared import engine_options, engine_settings, server_options

_DESCRIPTION: Final = """\
Ask a question about transcripts. The language model inside canary-qwen answers, on this machine; other engines have
none. With --connect the one of a server does. The answer is printed as it comes.
"""

_EPILOG: Final = """\
examples:
  stt file --format json meeting.m4a > meeting.json
  stt ask "What was decided?" meeting.json
  stt file meeting.m4a | stt ask "Who has to do what?" -
  stt ask --connect ws://box:15751 "What was decided?" meeting.json

exit status: 0, 1 if it could not be answered, 2 for a wrong option.
"""


def _run(args: argparse.Namespace) -> int:
    from stt.commands.ask import run

    return run(
        args.question,
        args.transcripts,
        engine=engine_settings(args),
        connect=args.connect,
        api_key=args.api_key,
        ca=args.ca,
        most_tokens=args.most_tokens,
        as_json=args.json,
        quiet=args.quiet,
    )


ASK: Final = Command(
    name="ask",
    help="ask a question about transcripts (canary-qwen)",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    run=_run,
    arguments=(
        Argument(name="question", metavar="QUESTION", help="in any words"),
        Argument(
            name="transcripts",
            nargs="+",
            metavar="TRANSCRIPT",
            help="what `stt file --format json` wrote, or any other text; -: standard input",
        ),
    ),
    options=(
        Option(
            name="--most-tokens",
            default=512,
            convert=count(1, 8192),
            metavar="N",
            help="longest answer, in tokens: about three quarters of a word each",
        ),
        Flag(name="--json", help="one JSON document with question, answer and what it took"),
        server_options("ws://HOST:PORT of an `stt serve` whose engine is to answer, in place of one here"),
        engine_options(),
    ),
)
