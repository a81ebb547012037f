"""Options that several commands have, and the settings that are made of them."""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from stt.cli.options import (
    Command,
    Flag,
    Group,
    Option,
    ValueProblem,
    count,
    host,
    items,
    language,
    number,
    path,
    seconds,
)

if TYPE_CHECKING:
    from stt.settings import EngineSettings, TurnSettings

ENGINES: Final = ("auto", "whisper", "canary-qwen")
DEVICES: Final = ("auto", "cuda", "cpu")
DTYPES: Final = ("auto", "float32", "bfloat16", "float16", "int8", "fp8")
MOST_THREADS: Final = 256
"""More of them than a machine has cores only slow it down, and tens of thousands end the process."""

KERNELS: Final = Option(
    name="--kernels",
    default="auto",
    choices=("auto", "torch", "triton"),
    help="of canary-qwen on a GPU: fused ones in Triton, or PyTorch's",
    shown_default="fused where they have shown that they are right",
)
FAST_INTERIMS: Final = Flag(
    name="--fast-interims",
    help="of canary-qwen: interims use what was encoded for those before them, for less work of the GPU; a word in a "
    "hundred of theirs may differ, what stands never does",
)
MODEL_DIR: Final = Option(
    name="--model-dir",
    metavar="DIR",
    help="where weights are, or are to be downloaded to",
    shown_default="the Hugging Face cache, HF_HOME",
)
POLICIES: Final = ("auto", "silence", "meaning")
EAGERNESSES: Final = ("fast", "medium", "careful")


def end_of_turn(text: str) -> str | float:
    """Convert the name of a policy, or the seconds of silence that end a turn."""
    if text in POLICIES:
        return text
    try:
        return seconds(0.05, 60)(text)
    except ValueProblem:
        raise ValueProblem(f"{', '.join(POLICIES)} or seconds from 0.05 to 60", text) from None


END_OF_TURN: Final = Option(
    name="--end-of-turn",
    default="auto",
    convert=end_of_turn,
    metavar="auto|silence|meaning|SECONDS",
    help="what ends a turn: so many seconds of silence (silence: 1.5), or that it sounds and reads as if the speaker "
    "were done (meaning); auto: meaning where its weights are (`stt models`), else silence",
)
EAGERNESS: Final = Option(
    name="--eagerness",
    default="medium",
    choices=EAGERNESSES,
    help="how soon turns end by meaning: fast cuts in more often, careful less",
)
_EOT: Final = (
    Option(
        name="--eot-threshold",
        convert=number(0.01, 1, "a probability"),
        metavar="P",
        help="end a turn by meaning when it is so probable that the speaker is done",
        shown_default="the eagerness's",
    ),
    Option(
        name="--eot-delay",
        convert=seconds(0.05, 60),
        metavar="SECONDS",
        help="end no turn by meaning before so much silence",
        shown_default="the eagerness's",
    ),
    Option(
        name="--eot-timeout",
        convert=seconds(0.05, 60),
        metavar="SECONDS",
        help="end a turn after so much silence whatever it means",
        shown_default="the eagerness's",
    ),
)
END_OF_TURN_OPTIONS: Final = (END_OF_TURN, EAGERNESS, *_EOT)
LANGUAGE: Final = Option(
    name="--language",
    default="en",
    convert=language,
    metavar="CODE",
    help="language spoken: en, de, fr ..., or auto; languages other than English need other weights than the default "
    "ones",
)
API_KEY: Final = Option(name="--api-key", secret=True, metavar="KEY", help="sent as `Authorization: Bearer KEY`")
URL: Final = Option(
    name="--url",
    default="ws://127.0.0.1:15751",
    help="of the server; options of a session may stand in its query",
)
CA: Final = Option(
    name="--ca",
    metavar="FILE",
    help="certificates (PEM) of the authorities to trust for wss, or the server's own",
    shown_default="those of the system",
)


def server_options(connect: str) -> Group:
    """Return the options for a server in place of an engine in this process; `connect`: what `--connect` does."""
    url = Option(name="--connect", metavar="URL", help=connect)
    return Group("server", (url, replace(API_KEY, help="the server's key"), CA))


WEEK_S: Final = 7 * 24 * 3600.0
# Of whatever serves: `stt serve`, and fronts inside Ray.
HOST: Final = Option(
    name="--host",
    default="127.0.0.1",
    convert=host,
    help="address to listen on; 0.0.0.0: all; unix:/PATH: a Unix socket",
    shown_default="127.0.0.1, this machine only",
)
PORT: Final = Option(name="--port", default=15751, convert=count(0, 65535, "a port"), help="0: any that is free")
API_KEY_FILE: Final = Option(name="--api-key-file", convert=path, metavar="FILE", help="a file with a key on each line")
MAX_SESSIONS: Final = Option(
    name="--max-sessions",
    default=100,
    convert=count(1, 1_000_000),
    metavar="N",
    help="sessions at once; more are refused with 503",
)
DRAIN_TIMEOUT: Final = Option(
    name="--drain-timeout",
    default=20.0,
    convert=seconds(0, WEEK_S),
    metavar="SECONDS",
    help="seconds that running turns have to get their finals when the server ends",
)
ENGINE_TIMEOUT: Final = Option(
    name="--engine-timeout",
    default=60.0,
    convert=seconds(0.001, WEEK_S),
    metavar="SECONDS",
    help="seconds after which an engine at work is taken for hung and replaced",
)
TERMS: Final = Group(
    "terms",
    (
        Option(
            name="--term",
            default=[],
            convert=items,
            repeats=True,
            metavar="TERM[,TERM]",
            help="a word or phrase that will be said, as it is to be written: names above all (docs/terms.md)",
        ),
        Option(name="--terms", convert=path, metavar="FILE", help="a file with a term on each line"),
    ),
)
_QUIET: Final = Flag(
    name="--quiet", aliases=("-q",), help="say nothing on standard error but what is wrong; the results stay"
)
_VERBOSE: Final = Flag(
    name="--verbose",
    aliases=("-v",),
    help="say which options are not at their defaults and who set them, and trace errors",
)
_SPEECH_THRESHOLD: Final = Option(
    name="--speech-threshold",
    default=0.5,
    convert=number(0.01, 0.99, "a probability"),
    metavar="P",
    help="speech probability at which speech begins; higher hears less",
)
TURNS: Final = Group("turns", (*END_OF_TURN_OPTIONS, _SPEECH_THRESHOLD))
# Nobody waits for the turns of a file to end, so it is worth nothing to end them sooner.
FILE_TURNS: Final = Group("turns", (replace(END_OF_TURN, default="silence"), EAGERNESS, *_EOT, _SPEECH_THRESHOLD))


def talkative(command: Command) -> Command:
    """Add `-q` and `-v`, where the command has none of its own."""
    own = {option.name for option in command.all_options}
    flags = tuple(flag for flag in (_QUIET, _VERBOSE) if flag.name not in own)
    return replace(command, options=(*command.options, Group("messages", flags)))


INTERIM_MODEL: Final = Option(
    name="--interim-model",
    metavar="DIR|ID|auto",
    help="weights of a second model, for the running turn alone: one that keeps up (tiny.en), so that --model may err "
    "less (small.en) and take its time with what stands; auto: the best here that keeps up",
    shown_default="one model does both",
)


def engine_options(device: str = "--device", *, interims: bool = False, live: bool = False) -> Group:
    """Return the options that choose the engine.

    Args:
        device: the name of the one for where it runs.
        interims: whether there are any, and another model may have them.
        live: whether there are any.

    """
    return Group(
        "engine",
        (
            Option(
                name="--engine",
                default="auto",
                choices=ENGINES,
                help="auto: canary-qwen where a GPU and its weights are there, else whisper",
            ),
            Option(
                name="--model",
                metavar="DIR|ID|auto",
                help="weights: a directory, a size (small) or a hub id (Systran/faster-whisper-small), which is "
                "downloaded once; auto: the best of Whisper's here that keep up with speech (`stt models bench`)",
                shown_default="those that installed with stt: Whisper tiny, English",
            ),
            *((INTERIM_MODEL,) if interims else ()),
            MODEL_DIR,
            Option(
                name=device,
                variable="STT_DEVICE",
                dest="engine_device",
                default="auto",
                choices=DEVICES,
                help="where the engine runs; auto: cuda where it can be used",
            ),
            Option(
                name="--dtype",
                default="auto",
                choices=DTYPES,
                help="what the engine computes in; of canary-qwen int8: the weights alone; fp8: products, on new GPUs",
                shown_default="what suits the device",
            ),
            KERNELS,
            *((FAST_INTERIMS,) if interims or live else ()),
            Option(
                name="--threads",
                default=0,
                convert=count(0, MOST_THREADS),
                metavar="N",
                help="CPU threads of the engine",
                shown_default="one per core",
            ),
            LANGUAGE,
        ),
    )


def engine_settings(args: argparse.Namespace) -> "EngineSettings":
    """Return the settings that `engine_options` ask for."""
    from stt.settings import EngineSettings

    return EngineSettings(
        args.engine,
        model=args.model,
        interim_model=getattr(args, INTERIM_MODEL.attribute, None),
        model_dir=args.model_dir,
        device=args.engine_device,
        dtype=args.dtype,
        kernels=args.kernels,
        fast_interims=getattr(args, FAST_INTERIMS.attribute, False),
        threads=args.threads,
        language=spoken_language(args),
    )


def turn_settings(args: argparse.Namespace, **more: Any) -> "TurnSettings":
    """Return the settings that `TURNS` ask for."""
    return turn_ends(
        args,
        speech_threshold=args.speech_threshold,
        silence_threshold=max(0.01, args.speech_threshold - 0.15),
        **more,
    )


def turn_ends(args: argparse.Namespace, **more: Any) -> "TurnSettings":
    """Return the settings that `END_OF_TURN_OPTIONS` ask for."""
    from stt.settings import TurnSettings

    if isinstance(args.end_of_turn, float):
        return TurnSettings(**more).after_silence(args.end_of_turn)
    return TurnSettings(
        end_of_turn=args.end_of_turn,
        eagerness=args.eagerness,
        eot_threshold=args.eot_threshold,
        eot_delay_s=args.eot_delay,
        eot_timeout_s=args.eot_timeout,
        **more,
    )


def said_terms(args: argparse.Namespace) -> tuple[str, ...]:
    """Return the terms that `TERMS` name.

    Raises:
        SettingsError: the file cannot be read, or something is no term, or there are too many.

    """
    from stt import terms

    return terms.checked([*args.term, *(terms.read(args.terms) if args.terms is not None else ())])


def spoken_language(args: argparse.Namespace) -> str | None:
    """Return the code; `None`: the engine finds out."""
    return None if args.language == "auto" else args.language
