"""Which of several audio tracks is heard. Pure."""

from collections.abc import Sequence

from stt.errors import AudioError

# ISO 639-1 codes whose ISO 639-2 codes, which containers carry, do not begin with them, or have two of them.
_LONG = {
    "cs": ("ces", "cze"),
    "cy": ("cym", "wel"),
    "de": ("deu", "ger"),
    "el": ("ell", "gre"),
    "es": ("spa",),
    "et": ("est",),
    "eu": ("eus", "baq"),
    "fa": ("fas", "per"),
    "fr": ("fra", "fre"),
    "ga": ("gle",),
    "hr": ("hrv",),
    "hy": ("hye", "arm"),
    "is": ("isl", "ice"),
    "ja": ("jpn",),
    "ka": ("kat", "geo"),
    "kk": ("kaz",),
    "lt": ("lit",),
    "lv": ("lav",),
    "mk": ("mkd", "mac"),
    "ml": ("mal",),
    "mn": ("mon",),
    "mr": ("mar",),
    "ms": ("msa", "may"),
    "mt": ("mlt",),
    "my": ("mya", "bur"),
    "nl": ("nld", "dut"),
    "pa": ("pan",),
    "pl": ("pol",),
    "pt": ("por",),
    "ro": ("ron", "rum"),
    "sk": ("slk", "slo"),
    "sq": ("sqi", "alb"),
    "sr": ("srp",),
    "sv": ("swe",),
    "sw": ("swa",),
    "tl": ("tgl",),
    "tr": ("tur",),
    "zh": ("zho", "chi"),
}


def choose_track(
    tracks: Sequence[tuple[str | None, bool]], wanted: int | str | None, name: str
) -> tuple[int, str | None]:
    """Choose by number (from 1), by language (two or three letters), or the one flagged as default (`None`).

    Args:
        tracks: language and default flag of each.
        wanted: number or language.
        name: of the file, for messages.

    Returns:
        The index, and a line that says which it is where there are several.

    Raises:
        AudioError: there is no such track.

    """
    listed = ", ".join(f"{number} {language or 'unknown'}" for number, (language, _) in enumerate(tracks, 1))
    default = next((index for index, (_, flagged) in enumerate(tracks) if flagged), 0)
    if wanted is None:
        chosen = default
    elif isinstance(wanted, int) or wanted.isdecimal():
        chosen = int(wanted) - 1
        if not 0 <= chosen < len(tracks):
            msg = f"{name}: no audio track {wanted}; there are: {listed}"
            raise AudioError(msg)
    else:
        fitting = [index for index, (language, _) in enumerate(tracks) if _speaks(language, wanted)]
        if not fitting:
            msg = f"{name}: no audio track in {wanted!r}; there are: {listed}"
            raise AudioError(msg)
        chosen = default if default in fitting else fitting[0]
    if len(tracks) == 1:
        return chosen, None
    what = f"audio track {chosen + 1} of {len(tracks)}"
    return chosen, f"{name}: {what} is heard; there are: {listed} (--track chooses)"


def _speaks(language: str | None, wanted: str) -> bool:
    if not language:
        return False
    (tag, *_), (code, *_) = language.casefold().split("-"), wanted.casefold().replace("_", "-").split("-")
    short, long = sorted((tag, code), key=len)
    if len(short) == 2 and len(long) == 3:
        return long in _LONG.get(short, ()) or (short not in _LONG and long.startswith(short))
    same = [codes for codes in _LONG.values() if tag in codes]
    return tag == code or any(code in codes for codes in same)
