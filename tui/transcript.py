"""A document and where it is kept: whatever changes it is written down in the same step."""

from collections.abc import Iterable

from tui.document import Document, Record, StretchBegan, Unfinished
from tui.journal import Journal


class Transcript:
    """Owns the document, the journal that the session is kept in, and the one beside a recording of its audio."""

    def __init__(self, document: Document | None = None, journal: Journal | None = None) -> None:
        self.document = document or Document()
        self.journal = journal
        self.recording: Journal | None = None
        self.saved = 0
        """`changes` when the reader last saved it."""
        self.changes = 0
        """How often it was changed, by speech or by the reader."""
        self._word_counts: list[int] = []  # of each block, 0 while it runs
        self._count_words(0)

    def apply(self, record: Record) -> int | None:
        """Write a record down and take it; returns the index of the first block that is no longer as it was."""
        for kept in (self.journal, self.recording):
            if kept is not None:
                kept.write(record)
        first = self.document.apply(record)
        if first is not None:
            self.changes += not isinstance(record, StretchBegan)
            self._count_words(first)
        return first

    def start_over(self, records: Iterable[Record]) -> None:
        """Become what records lead to; nothing is written down."""
        self.document = Document()
        for record in records:
            self.document.apply(record)
        self._count_words(0)

    def break_off(self) -> bool:
        """Let the turns without a final stay with the words they have; returns whether there were such words."""
        broken = self.document.open
        for block in broken:
            self.apply(Unfinished(block.stretch, block.turn))
        return any(block.text for block in broken)

    def close(self) -> None:
        """Let go of the files."""
        for kept in (self.journal, self.recording):
            if kept is not None:
                kept.close()

    @property
    def failure(self) -> str:
        """Why it is not kept, though it should be."""
        return self.journal.failure if self.journal else ""

    @property
    def is_kept(self) -> bool:
        return self.journal is not None and not self.failure

    @property
    def turns(self) -> int:
        """Finished turns that have words."""
        return sum(count > 0 for count in self._word_counts)

    @property
    def words(self) -> int:
        return sum(self._word_counts)

    def _count_words(self, first: int) -> None:
        del self._word_counts[first:]
        self._word_counts += [
            len(block.text.split()) if block.state == "final" else 0 for block in self.document.blocks[first:]
        ]
