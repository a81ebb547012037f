"""Texts for clients that only append: what is new of a text that replaces itself. Pure."""


class Deltas:
    """What was sent of one turn, piece by piece; joined, the pieces are `sent`."""

    def __init__(self) -> None:
        self.sent = ""

    def extend(self, text: str) -> str:
        """Return what to append so that `text` stands there; nothing where it contradicts what was sent."""
        if not text.startswith(self.sent):
            return ""
        new, self.sent = text[len(self.sent) :], text
        return new
