"""`stt ask`: a question about transcripts, answered by the engine's language model."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stt.errors import SettingsError, reason
from stt.recognition.answers import Finished, LanguageModel, about, language_model
from stt.settings import EngineSettings


def run(
    question: str,
    transcripts: Sequence[str],
    *,
    engine: EngineSettings,
    connect: str | None,
    api_key: str | None,
    ca: str | None,
    most_tokens: int,
    as_json: bool,
    quiet: bool,
) -> int:
    """Print the answer as it comes, or all of it as one JSON document; returns the exit status.

    Raises:
        SettingsError: a transcript cannot be read, there is nothing in it, or the server's address is none.
        EngineError: the engine cannot be opened or reached, has no language model, or cannot read that much.

    """
    text = "\n\n".join(read(name) for name in transcripts)
    if not text.strip():
        msg = f"there is no text in {', '.join(transcripts)}"
        raise SettingsError(msg)
    if connect is None:
        model = _here(engine, quiet=quiet)
    else:
        from stt.client import trusting
        from stt.remote_answers import RemoteAnswers

        model = RemoteAnswers(connect, api_key=api_key, tls=trusting(ca))
    answer = model.answer(about(text, question), most_tokens)
    pieces: list[str] = []
    while True:
        try:
            piece = next(answer)
        except StopIteration as ended:
            done: Finished = ended.value
            break
        pieces.append(piece)
        if not as_json:
            print(piece, end="", flush=True)
    if as_json:
        document = {
            "question": question,
            "answer": "".join(pieces),
            "complete": done.why == "stop",
            "prompt_tokens": done.prompt_tokens,
            "answer_tokens": done.answer_tokens,
        }
        print(json.dumps(document, ensure_ascii=False))
        return 0
    print()
    if done.why == "length" and not quiet:
        print(f"the answer was cut off after {most_tokens} tokens; see --most-tokens", file=sys.stderr)
    return 0


def _here(engine: EngineSettings, *, quiet: bool) -> LanguageModel:
    from stt.engines import open_engine

    opened = open_engine(engine, warm=False)
    if not quiet:
        print(f"engine: {opened.model.name} ({opened.reason})", file=sys.stderr)
    return language_model(opened.model)


def read(name: str) -> str:
    """Return the text of a transcript: what `stt file` wrote as JSON, or any other text as it stands; `-`: of a pipe.

    Raises:
        SettingsError: it cannot be read.

    """
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = reason(error) if isinstance(error, OSError) else "it is no text in UTF-8"
        msg = f"{name}: {why}"
        raise SettingsError(msg) from error
    try:
        documents = [json.loads(line) for line in text.splitlines() if line.strip()]
    except ValueError:
        documents = []
    if not documents:
        try:
            documents = [json.loads(text)]
        except ValueError:
            return text
    said = [_said(document) for document in documents]
    return "\n".join(part for part in said if part is not None) if None not in said else text


def _said(document: Any) -> str | None:
    """Return what was said, of a document as `stt file --format json` writes it, or one with a `text`."""
    if not isinstance(document, dict):
        return None
    turns = document.get("turns")
    if isinstance(turns, list) and all(isinstance(turn, dict) for turn in turns):
        return "\n".join(str(turn.get("text", "")) for turn in turns)
    text = document.get("text")
    return text if isinstance(text, str) else None
