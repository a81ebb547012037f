"""Options of `stt file`."""

import argparse
from typing import Final

from stt.cli.options import Argument, Command, Flag, Option, raw_pcm, track
from stt.cli.shared import (
    FILE_TURNS,
    TERMS,
    engine_options,
    engine_settings,
    said_terms,
    spoken_language,
    turn_settings,
)

_DESCRIPTION: Final = """\
Transcribe audio files. The text goes to standard output, turn by turn, as soon as each turn is recognized;
everything else (progress, the engine, errors) goes to standard error.
"""

_EPILOG: Final = """\
examples:
  stt file talk.flac                          print what is said
  stt file *.mp3 --output texts/              one text file per recording
  stt file talk.m4a --format srt --output -   subtitles to standard output
  stt file talk.m4a -o talk.vtt --words       subtitles that show each word as it is said
  stt file '**/*.wav' --format json | jq .    a JSON document (one line) per file
  ffmpeg -i film.mkv -f wav - | stt file -    from another program
  arecord -f S16_LE -r 16000 -t raw | stt file - --raw 16000

exit status: 0 if every file was transcribed whole, 1 if any was not, 2 for a wrong option, 130 after Ctrl-C.
"""


def _run(args: argparse.Namespace) -> int:
    from stt.commands.destinations import kind_of
    from stt.commands.file import run

    # A suffix that was written says more than a variable that is set.
    set_to = args.format if "format" in args.said else None
    kind = args.format if "format" in args.given else kind_of(args.output, set_to) or args.format
    return run(
        args.paths,
        engine=engine_settings(args),
        turns=turn_settings(args, interim_s=None, speculative=False),
        language=spoken_language(args),
        terms=said_terms(args),
        kind=kind,
        output=args.output,
        raw=args.raw,
        track=args.track,
        quiet=args.quiet,
        whole=args.whole,
        words=args.words,
    )


FILE: Final = Command(
    name="file",
    help="transcribe audio files",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    run=_run,
    arguments=(
        Argument(name="paths", nargs="+", metavar="PATH", help="audio file, glob pattern, or - for standard input"),
    ),
    options=(
        Option(
            name="--format",
            default="txt",
            choices=("txt", "srt", "vtt", "json"),
            help="txt: a line per turn; srt, vtt: subtitles; json: one document per file, with the times of words",
            shown_default="by the suffix of --output, else txt",
        ),
        Option(
            name="--output",
            aliases=("-o",),
            variable=None,
            default="-",
            metavar="DIR|FILE|-",
            help="write to a file, or into a directory one file per input (made if the name ends in /)",
            shown_default="-, standard output",
        ),
        Option(
            name="--raw",
            variable=None,
            convert=raw_pcm,
            metavar="RATE[xCHANNELS]",
            help="the input is headerless 16-bit little-endian PCM: 16000, 44100x2",
        ),
        Option(
            name="--track",
            variable=None,
            convert=track,
            metavar="N|LANGUAGE",
            help="of several audio tracks the one with this number (from 1) or language: 2, de, eng",
            shown_default="the default one",
        ),
        Flag(
            name="--words",
            help="subtitles word by word: in srt a cue for each, in vtt a moment for each in its cue",
        ),
        Flag(
            name="--whole",
            help="give each recording to the engine in one piece, as it is; at most 30 s (to score sets of short "
            "clips)",
        ),
        Flag(name="--quiet", aliases=("-q",), help="no progress and no engine line; errors still show"),
        engine_options(),
        TERMS,
        FILE_TURNS,
    ),
)
