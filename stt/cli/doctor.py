"""`stt doctor`: what may keep stt from working here, and the mend."""

import argparse
import json
import os
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from stt.cli.configfile import Config, ConfigProblem, locate, read
from stt.cli.options import Command, Flag
from stt.cli.parser import find

if TYPE_CHECKING:
    from stt.doctor import Finding

_DESCRIPTION: Final = """\
Look at what stt needs on this machine, one thing a line, and say how to mend what is wrong: Python, processor,
libraries, microphone (listens for half a second), GPU and driver, torch, weights, disk, locale, clipboard,
configuration and the port of `stt serve`.
Nothing is changed, downloaded or kept.
"""

_EPILOG: Final = """\
ok: works. note: something cannot be done here that need not be. bad: something will fail.

exit status: 0, 1 if anything is bad.
"""

_SHOWN: Final = "stt config shows what is in force"


def configuration() -> "Finding":
    """The configuration file, by the names in it."""
    from stt.cli import COMMANDS
    from stt.doctor import Finding

    path = locate()
    try:
        config = read(path, COMMANDS)
    except ConfigProblem as problem:
        return Finding("config", "bad", str(problem), _SHOWN)
    if config.path is None:
        return Finding("config", "ok", f"none ({path})" if path else "none")
    if any("api-key" in table for table in config.tables.values()) and config.path.stat().st_mode & 0o077:
        text = f"{config.path} has a key, and others may read it"
        return Finding("config", "bad", text, f"chmod 600 {config.path}")
    return Finding("config", "ok", str(config.path))


def port() -> "Finding":
    """The port that `stt serve` takes without an option that says so."""
    from stt import doctor
    from stt.cli import COMMANDS
    from stt.cli.serve import SERVE

    [option] = [option for option in SERVE.all_options if option.name == "--port"]
    try:
        config = read(locate(), COMMANDS)
    except ConfigProblem:  # which `configuration` tells of
        config = Config()
    try:
        number = find(SERVE, option, argparse.Namespace(), os.environ, config).value
    except ConfigProblem as problem:
        return doctor.Finding("port", "bad", str(problem), _SHOWN)
    return doctor.port(number)


def report(findings: Iterable["Finding"], *, as_json: bool, quiet: bool = False) -> int:
    """Print findings as they come, with `quiet` those alone that are not ok; returns the exit status."""
    status = 0
    for finding in findings:
        status = 1 if finding.state == "bad" else status
        if quiet and finding.state == "ok":
            continue
        if as_json:
            print(json.dumps(asdict(finding)), flush=True)
            continue
        print(f"{finding.state:4}  {finding.topic:10}  {finding.text}", flush=True)
        if finding.mend:
            print(f"{'':18}-> {finding.mend}", flush=True)
    return status


def _run(args: argparse.Namespace) -> int:
    from stt.doctor import CHECKS, examine

    return report(examine((*CHECKS, configuration, port)), as_json=args.json, quiet=args.quiet)


DOCTOR: Final = Command(
    name="doctor",
    help="look for what may keep stt from working here",
    description=_DESCRIPTION,
    epilog=_EPILOG,
    run=_run,
    options=(Flag(name="--json", help="one JSON object a line"),),
    configured=False,
)
