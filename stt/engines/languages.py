"""Names of languages, as people write them and as engines know them."""

_AUTO = "auto"


def language_code(language: str | None) -> str | None:
    """Bring a language to ISO 639-1, whatever its case and its region: `EN`, `en-US` and `en_us` are `en`.

    `None` for `None`, `auto` and what is empty: the engine is to find out. Whether it knows the language is another
    question (`check_language`).
    """
    if language is None:
        return None
    code = language.strip().replace("_", "-").partition("-")[0].lower()
    return None if code in ("", _AUTO) else code
