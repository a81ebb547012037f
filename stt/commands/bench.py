"""`stt bench`: live sessions at the pace of speech, and how the server bears them."""

import asyncio
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import numpy as np

from stt import turnbench
from stt.audio import Samples
from stt.bench import Figures, percentiles, run, script
from stt.client import authorization, session_url, trusting
from stt.errors import OutputError, reason
from stt.sources import FileSource


def bench(
    paths: list[str],
    *,
    url: str,
    api_key: str | None,
    ca: str | None,
    sessions: int,
    duration_s: float,
    frame_ms: int,
    binary: bool,
    gap_s: float,
    as_json: bool,
    quiet: bool = False,
) -> int:
    """Run the load and print its figures; returns 0 if nothing was lost, else 1.

    A gap in the URL wins over `gap_s`.

    Raises:
        AudioError: a file cannot be read.
        RemoteError: the server cannot be reached, or refuses.
        SettingsError: the URL is not one of a WebSocket, or the key is none.

    """
    authorization(api_key)  # said before the files are read
    url = session_url(url, {}, {"end_of_turn_ms": str(round(gap_s * 1000))})
    gap_ms = dict(parse_qsl(urlsplit(url).query, keep_blank_values=True))["end_of_turn_ms"]
    gap_s = int(gap_ms) / 1000 if gap_ms.isdecimal() else gap_s  # the server refuses others
    clips = asyncio.run(_read(paths))
    # Sessions that all say the same at once would share every pause: each begins with another file.
    count = min(len(clips), sessions)
    scripts = [script(clips[i:] + clips[:i], duration_s, frame_ms, binary=binary) for i in range(count)]
    figures, server = asyncio.run(
        run(
            scripts,
            url,
            api_key=api_key,
            tls=trusting(ca),
            sessions=sessions,
            say=lambda line: None if quiet else print(line, file=sys.stderr, flush=True),
        )
    )
    print(json.dumps(_summary(figures, server, gap_s)) if as_json else "\n".join(_lines(figures, server, gap_s)))
    return 1 if figures.errors or figures.turns != figures.expected_turns else 0


def bench_turns(
    directory: Path,
    *,
    url: str,
    api_key: str | None,
    ca: str | None,
    sessions: int,
    some: int | None,
    traces: Path | None,
    as_json: bool,
    quiet: bool = False,
) -> int:
    """Score when a server ends turns, of all or of `some`, and print the table; returns 0.

    Raises:
        AudioError: a recording cannot be read.
        OutputError: the traces cannot be written.
        RemoteError: the server cannot be reached, refuses, or breaks off.
        SettingsError: there is no such benchmark, or the URL or the key cannot be used.

    """
    authorization(api_key)
    turnbench.wire_of(url)  # said before the recordings are read
    turns = turnbench.spread(asyncio.run(turnbench.read(directory)), some)
    found = asyncio.run(
        turnbench.score(
            turns,
            url,
            sessions=sessions,
            api_key=api_key,
            tls=trusting(ca),
            say=lambda line: None if quiet else print(line, file=sys.stderr, flush=True),
        )
    )
    if traces is not None:
        try:
            traces.write_text(found.traces(), "utf-8")
        except OSError as error:
            msg = f"--traces {traces}: {reason(error)}"
            raise OutputError(msg) from error
    print(json.dumps(found.figures()) if as_json else "\n".join(table(directory.name, found.figures())))
    return 0


def table(name: str, f: dict[str, Any]) -> list[str]:
    """Return the lines that tell the figures of a `turnbench.Score`."""

    def percent(value: float) -> str:
        return f"{100 * value:.1f} %"

    cut = f"{percent(f['cut_off'])} of {f['holds']} [{' to '.join(map(percent, f['cut_off_95']))}]"
    low, high = (f"{1000 * s:.0f}" for s in f["latency_s_95"])
    p50, p90 = (f"{1000 * f[f'latency_s_p{q}']:.0f}" for q in (50, 90))
    return [
        f"{name:15}{f['turns']} turns",
        f"pauses cut off {cut}",
        f"turns cut off  {percent(f['turns_cut_off'])}",
        f"ends after     {1000 * f['latency_s']:.0f} ms on average [{low} to {high}], p50 {p50}, p90 {p90}",
        f"never ended    {f['not_ended']}",
        *_finals(f),
        "[]: 95 % intervals, speakers resampled; an end that did not come counts as 4 s",
    ]


def _finals(f: dict[str, Any]) -> list[str]:
    if "finals" not in f:
        return []
    p50, p95 = (f"{1000 * f[f'final_s_p{q}']:.0f}" for q in (50, 95))
    there = f"{100 * f['finals_there']:.1f} % of {f['finals']} there when it was decided"
    return [f"finals         {there}: {p50} ms after it (p50), {p95} (p95)"]


async def _read(paths: list[str]) -> list[Samples]:
    clips = []
    for path in paths:
        with FileSource(path) as source:
            clips.append(np.concatenate([piece async for piece in source]))
    return clips


def _lines(figures: Figures, server: dict[str, float], gap_s: float) -> list[str]:
    errors = f"{', '.join(sorted(set(figures.errors)))} ({len(figures.errors)})" if figures.errors else "none"
    late = f"{{}} s after the end of the turn was decided (silence of {gap_s:g} s)"
    memory = f"{server['rss_mb']:.0f} MB ({server['rss_mb_per_session']:+.2f} MB per session)"
    return [
        f"sessions       {figures.sessions}; turns {figures.turns} of {figures.expected_turns} expected",
        f"first interim  {percentiles(figures.first_interim, '{} s after speech begins (p50 / p95 / p99)')}",
        f"interims       {percentiles(figures.cadence, 'every {} s while someone speaks')}",
        f"finals         {percentiles(figures.final, late)}",
        f"lag slope      {figures.slope:+.3f} s per minute",
        f"word errors    {figures.wrong_words} of {figures.words} words against the reference run",
        f"server         {server['cpu']:.2f} cores, {memory}, event loop lag p99 <= {server['loop_lag_p99_s']:g} s",
        f"this tool      {percentiles(figures.late, 'sent {} s late')}",
        f"errors         {errors}",
    ]


def _summary(figures: Figures, server: dict[str, float], gap_s: float) -> dict[str, Any]:
    lists = ("first_interim", "cadence", "final", "late")
    summary = {k: v for k, v in asdict(figures).items() if k not in (*lists, "ended_at")}
    for name in lists:
        values = getattr(figures, name)
        summary[name] = {f"p{q}": round(float(np.percentile(values, q)), 4) for q in (50, 95, 99)} if values else None
    return {**summary, "gap_s": gap_s, "slope_s_per_min": figures.slope, "server": server}
