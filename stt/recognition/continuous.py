"""Models whose rows come and go: what one may offer, and the requests that are in them.

A model that decodes step by step need not let a request wait until a whole batch has ended: what comes joins between
two steps, and leaves when it has ended. The scheduler (`local.py`) decides who joins; a model without this is asked
in whole calls.
"""

import time
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from stt.recognition.service import Hypothesis, SpeechModel, Utterance

JOINS: Final = 16
"""Requests that join at a time: everything that runs waits for their first pass. With 64, finals took 1.9 times as long
(docs/gpu.md)."""
_KEPT_FREE: Final = 8
"""Of so many rows one is kept free of interims, so that a final never waits for a row."""


class RunningBatch(Protocol):
    """Rows of one model. While any is running, the model is used in no other way; from the model's thread alone."""

    @property
    def rows(self) -> int:
        """Utterances that may run side by side."""
        ...

    @property
    def free(self) -> int:
        """Utterances that may join now."""
        ...

    @property
    def running(self) -> int:
        """Rows that are running; what failed as a whole has left none."""
        ...

    def add(self, batch: Sequence[Utterance]) -> list[Hashable]:
        """Begin to recognize utterances, at most `free`, each by itself; a ticket for each.

        Where it raises, none of them has begun; what was running goes on, or is gone (`running` is 0 then).
        """
        ...

    def step(self) -> dict[Hashable, Hypothesis | Exception]:
        """Let what is running go on; what has ended meanwhile, by ticket, or why it failed by itself.

        Where it raises, all that was running is gone.
        """
        ...

    def drop(self, tickets: Iterable[Hashable]) -> None:
        """Give up on some that are running; nothing is told of them any more."""
        ...


class ContinuousModel(SpeechModel, Protocol):
    """A `SpeechModel` that can do more than whole calls."""

    def running_batch(self) -> RunningBatch | None:
        """Begin a batch whose rows come and go; `None`: on this device whole calls are better."""
        ...


def begin_rows(model: SpeechModel | ContinuousModel) -> RunningBatch | None:
    """Begin a batch whose rows come and go; `None`: this model is asked in whole calls.

    Nothing else of the model is looked at: it may still be loading, and what it tells of itself would wait for that.
    """
    begin = getattr(model, "running_batch", None)
    return None if begin is None else begin()


class Places(NamedTuple):
    """How many requests may be taken from the queue, and how many interims among them."""

    all: int
    interims: int


def places(rows: int, free: int, interims: int, joins: int = JOINS) -> Places:
    """Return the room beside what is running, `interims` among it: so many are `free` of `rows`."""
    joining = min(free, joins)
    return Places(joining, max(0, min(joining, rows - rows // _KEPT_FREE - interims)))


class Asked(Protocol):
    """What there has to be to a request."""

    @property
    def utterance(self) -> Utterance:
        """What is to be heard."""
        ...

    @property
    def given_up(self) -> bool:
        """Whether nobody waits for it any more."""
        ...


R = TypeVar("R", bound=Asked)


@dataclass(frozen=True, slots=True)
class Outcome(Generic[R]):
    """What came of a request."""

    request: R
    result: Hypothesis | Exception
    began: float
    """When it joined, on the monotonic clock."""
    beside: int
    """Rows that were running then, itself included."""


@dataclass(frozen=True, slots=True)
class _Row(Generic[R]):
    request: R
    began: float
    beside: int


class Rows(Generic[R]):
    """The requests that are in a running batch."""

    def __init__(self, batch: RunningBatch) -> None:
        self._batch = batch
        self._rows: dict[Hashable, _Row[R]] = {}

    @property
    def requests(self) -> list[R]:
        return [row.request for row in self._rows.values()]

    @property
    def size(self) -> int:
        """Rows that there are, running or not."""
        return self._batch.rows

    @property
    def places(self) -> Places:
        """Room for those that wait."""
        interims = sum(request.utterance.kind == "interim" for request in self.requests)
        return places(self._batch.rows, self._batch.free, interims)

    def go_on(self, joining: Sequence[R]) -> tuple[list[Outcome[R]], list[R]]:
        """Take requests in, and let all go on by a step.

        Returns:
            What has come of some of them; and those that were lost with no result because something failed that was
            running beside them. They are to be asked again, each by itself, which is possible at once: nothing runs.

        """
        self._drop_given_up()
        outcomes, lost = self._join(joining)
        if lost or not self._rows:
            return outcomes, lost
        try:
            results = self._batch.step()
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns these rows alone
            if len(self._rows) > 1:
                return outcomes, self._lost()
            return [*outcomes, *self._failed(error)], []
        for ticket, result in results.items():
            row = self._rows.pop(ticket)
            outcomes.append(Outcome(row.request, result, row.began, row.beside))
        return outcomes, []

    def _join(self, joining: Sequence[R]) -> tuple[list[Outcome[R]], list[R]]:
        if not joining:
            return [], []
        began = time.monotonic()
        try:
            tickets = self._batch.add([request.utterance for request in joining])
        except Exception as error:  # noqa: BLE001 - the same
            if not self._batch.running and (self._rows or len(joining) > 1):
                return [], [*self._lost(), *joining]
            if len(joining) == 1:
                return [Outcome(joining[0], error, began, len(self._rows) + 1)], []
        else:
            beside = len(self._rows) + len(joining)
            rows = (_Row(request, began, beside) for request in joining)
            self._rows.update(zip(tickets, rows, strict=True))
            return [], []
        outcomes: list[Outcome[R]] = []
        for i, request in enumerate(joining):  # one of them cannot join: who
            more, lost = self._join([request])
            outcomes += more
            if lost:
                return outcomes, [*lost, *joining[i + 1 :]]
        return outcomes, []

    def _lost(self) -> list[R]:
        requests = self.requests
        self._rows.clear()
        return requests

    def _failed(self, error: Exception) -> list[Outcome[R]]:
        rows = list(self._rows.values())
        self._rows.clear()
        return [Outcome(row.request, error, row.began, row.beside) for row in rows]

    def _drop_given_up(self) -> None:
        given_up = [ticket for ticket, row in self._rows.items() if row.request.given_up]
        if given_up:
            self._batch.drop(given_up)
            for ticket in given_up:
                del self._rows[ticket]
