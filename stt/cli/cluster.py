"""Options of `stt cluster`."""

import argparse
from dataclasses import replace
from typing import Final

from stt.cli.options import Argument, Command, Flag, Group, Option, count, number
from stt.cli.shared import (
    API_KEY_FILE,
    DRAIN_TIMEOUT,
    ENGINE_TIMEOUT,
    HOST,
    MAX_SESSIONS,
    PORT,
    TERMS,
    TURNS,
    engine_options,
    engine_settings,
    said_terms,
    spoken_language,
    turn_settings,
)

_DESCRIPTION: Final = """\
Put engines on a running Ray cluster, for any number of `stt serve --cluster ADDRESS` in front (docs/cluster.md), or for
fronts inside Ray (--fronts). up deploys an engine or updates it, without losing what is under way; status shows what
there is; down takes an engine down, or the fronts (--name fronts).
"""

_EPILOG: Final = """\
examples:
  ray start --head                                            a cluster of one machine
  stt cluster up --replicas 2                                 the engine that comes with stt, twice
  stt serve --cluster auto                                    a front for it
  stt cluster up --replicas 2 --fronts 2                      or everything by one command, at port 15751
  stt cluster up --engine canary-qwen --gpus 1 --min 1 --max 8
  stt cluster up --name german --languages de --engine whisper --model large-v3 --gpus 0.5
  stt cluster status
  stt cluster down --name german
"""


def _run(args: argparse.Namespace) -> int:
    from stt.commands import cluster

    if args.action == "status":
        return cluster.status(args.address, as_json=args.json)
    if args.action == "down":
        return cluster.down(args.address, args.name)
    return cluster.up(
        args.address,
        name=args.name,
        engine=engine_settings(args),
        languages=tuple(filter(None, map(str.strip, args.languages.split(",")))),
        replicas=args.replicas,
        least=args.min,
        most=max(args.min, args.max or 1),
        gpus=args.gpus,
        cpus=args.cpus,
        timeout_s=args.engine_timeout,
        fronts=_fronts(args),
        host=args.host,
        port=args.port,
    )


def _fronts(args: argparse.Namespace) -> dict[str, object] | None:
    """Return the fields of `FrontSpec` that are asked for."""
    if args.fronts is None:
        return None
    from stt.server.settings import ServerSettings

    return {
        "fronts": args.fronts,
        "api_key_file": None if args.api_key_file is None else str(args.api_key_file.absolute()),
        "language": spoken_language(args),
        "terms": said_terms(args),
        "turns": turn_settings(args),
        "server": ServerSettings(max_sessions=args.max_sessions, drain_timeout_s=args.drain_timeout),
    }


CLUSTER: Final = Command(
    name="cluster",
    help="put engines on a Ray cluster",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    run=_run,
    arguments=(
        Argument(name="action", nargs="?", choices=("up", "status", "down"), default="status", help="default: status"),
    ),
    options=(
        Option(
            name="--address",
            default="auto",
            metavar="HOST:PORT",
            help="of the Ray cluster; auto: the one that this machine is part of",
        ),
        Option(name="--name", default="default", help="what sessions call the engine"),
        Option(
            name="--languages",
            default="",
            metavar="CODES",
            help="with commas between: sessions in these get it before other engines, and others do not",
            shown_default="all that it knows",
        ),
        Flag(name="--json", help="status as one JSON document"),
        Group(
            "replicas",
            (
                Option(
                    name="--replicas",
                    convert=count(1, 10_000),
                    metavar="N",
                    help="as many, always",
                    shown_default="from --min to --max, as there is work",
                ),
                Option(name="--min", default=1, convert=count(1, 10_000), metavar="N", help="at least"),
                Option(
                    name="--max",
                    convert=count(1, 10_000),
                    metavar="N",
                    help="at most",
                    shown_default="as --min",
                ),
                Option(
                    name="--gpus",
                    default=0.0,
                    convert=number(0, 64),
                    metavar="N",
                    help="for each replica; 0.5: two share a GPU",
                ),
                Option(name="--cpus", default=1.0, convert=number(0, 1024), metavar="N", help="for each replica"),
                ENGINE_TIMEOUT,
            ),
        ),
        Group(
            "fronts inside Ray",
            (
                Option(
                    name="--fronts",
                    convert=count(1, 10_000),
                    metavar="N",
                    help="deploy so many as well, behind Ray's proxy on every machine",
                    shown_default="none: `stt serve --cluster` is one",
                ),
                replace(
                    HOST,
                    help="address where Ray's proxy listens; 0.0.0.0: all",
                    shown_default="127.0.0.1, programs on the machines of the cluster only",
                ),
                replace(PORT, convert=count(1, 65535, "a port"), help="of Ray's proxy"),
                replace(
                    API_KEY_FILE,
                    help="a file with a key on each line, at the same place on every machine that has a front",
                ),
                replace(MAX_SESSIONS, help="sessions at once of each front; more are refused with 503"),
                replace(
                    DRAIN_TIMEOUT,
                    help="seconds that running turns have to get their finals when a front is replaced",
                ),
            ),
        ),
        engine_options(live=True),
        TERMS,
        TURNS,
    ),
)
