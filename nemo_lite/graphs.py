"""CUDA graphs by key: the only part that knows CUDA's rules. On a CPU every call is simply the function.

A graph replays kernels on fixed addresses. So inputs are copied to a fixed place (unless they are there already, as
when a decoding step is fed its own results), the graph is replayed, and the outputs stand in a fixed place too. Those
places are shared by all keys of a kind, because graphs never run at once: **outputs are valid until the next call of
that kind**. A function may change its inputs in place and return them.

A capture may fail. Then that key runs without a graph from there on, and the others are none the worse.
"""

import logging
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from nemo_lite.device import lost, out_of_memory

LOGGER = logging.getLogger(__name__)
GRAPHS_KEPT = 1024
"""An executable graph of a thousand kernels is megabytes; the one unused for longest goes first."""

Function = Callable[..., tuple[Tensor, ...]]
Replay = Callable[[], None]
Run = Callable[[], tuple[Tensor, ...]]
Capture = Callable[[Run], tuple[tuple[Tensor, ...], Replay]]
"""Captures a run: what it gives, and how to have it again. May have a method `renew`, to begin with fresh memory."""


@dataclass(frozen=True, slots=True)
class Captured:
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    replay: Replay


class CudaCapture:
    """Captures a function into a CUDA graph; all graphs share one memory pool, because they never run at once."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.failed: list[torch.cuda.CUDAGraph] = []  # torch may still ask them whether they are being captured
        self.renew()

    def renew(self) -> None:
        """Take a new pool and stream. What the old pool holds is given back, but for what graphs in use need."""
        self.anchor = None
        # Every capture in the process writes the seed of torch's generator, where the first one has put it. That must
        # not be a tensor of inference mode, or no capture out of that mode, in whichever thread, could do so.
        with torch.cuda.device(self.device), torch.inference_mode(mode=False):
            torch._C._cuda_clearCublasWorkspaces()  # noqa: SLF001 - cuBLAS keeps one in the pool of each stream
            torch.cuda.empty_cache()
            self.stream = torch.cuda.Stream()  # torch's own capture stream belongs to whichever device captured first
            self.pool = torch.cuda.graph_pool_handle()
            # A pool whose last graph is gone cannot be opened again while it holds any memory, so one graph stays.
            _, self.anchor = self._capture(lambda: (torch.zeros(1, device=self.device).add_(1),))

    def __call__(self, run: Run) -> tuple[tuple[Tensor, ...], Replay]:
        try:
            return self._capture(run)
        except RuntimeError:
            # A capture that failed at its end leaves its pool recording: no other can be captured into it.
            self.renew()
            raise

    def _capture(self, run: Run) -> tuple[tuple[Tensor, ...], Replay]:
        graph, outputs, failure = torch.cuda.CUDAGraph(), (), None
        current = torch.cuda.current_stream()
        try:
            # thread_local: what other threads do on the GPU meanwhile is no error.
            with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
                try:
                    outputs = run()
                except RuntimeError as error:
                    failure = error
                    raise
        except RuntimeError:
            torch.cuda.set_stream(current)  # ending a capture that failed raises before it does this itself ...
            self._end_recording(graph)
            if failure is not None:
                raise failure from None  # ... and says nothing of what failed: out of memory, most likely
            raise
        return outputs, graph.replay

    def _end_recording(self, graph: torch.cuda.CUDAGraph) -> None:
        """Do for a capture that failed what its graph does when it ends, and when it goes.

        While any pool is recording, the allocator gives no memory back to anybody, even where there is none left. And a
        pool keeps all it has, for ever, until as many have let go of it as were captured into it.
        """
        try:
            torch._C._cuda_endAllocateToPool(self.stream.device_index, self.pool)  # noqa: SLF001
        except RuntimeError:  # it ended, and then something failed: the graph lets go of the pool itself
            LOGGER.debug("the pool was not recording any more")
        else:
            self.failed.append(graph)
            torch._C._cuda_releasePool(self.stream.device_index, self.pool)  # noqa: SLF001


class Places:
    """Memory at fixed addresses for the n-th input or output of a kind, shared by the graphs it is large enough for."""

    def __init__(self) -> None:
        self.buffers: dict[tuple[Hashable, int], Tensor] = {}

    def like(self, tensor: Tensor, kind: Hashable, n: int) -> Tensor:
        """Room for a contiguous tensor of this shape, not filled."""
        size, key = tensor.numel() * tensor.element_size(), (kind, n)
        if key not in self.buffers or self.buffers[key].numel() < size:  # graphs made before keep the smaller one
            self.buffers[key] = torch.empty(max(size, 16), dtype=torch.uint8, device=tensor.device)
        return self.buffers[key][:size].view(tensor.dtype).view(tensor.shape)


class Graphs:
    """`graphs(key, function, *inputs)` is `function(*inputs)`, replayed from the second call of a key on.

    The caller promises that a key names one function, one set of shapes, and one set of the other tensors the function
    touches; `clear()` when any of those has moved. Its first part is the kind, if it has several.
    """

    def __init__(self, capture: Capture | None) -> None:
        self.capture = capture
        self.captured: OrderedDict[Hashable, Captured] = OrderedDict()
        self.refused: set[Hashable] = set()
        """Keys whose capture failed: they run without a graph."""
        self.sealed = False
        """Whether only what is captured already is replayed. A capture waits for the device and empties caches: nobody
        who waits for an answer should wait for that."""
        self.inputs, self.outputs = Places(), Places()

    @classmethod
    def on(cls, device: torch.device) -> "Graphs":
        """Graphs where they can be had; on a CPU, or where nothing at all can be captured, every call is the function.

        Raises RuntimeError where memory does not suffice, or the GPU does not work any more.
        """
        if device.type != "cuda":
            return cls(None)
        try:
            return cls(CudaCapture(device))
        except RuntimeError as error:
            if out_of_memory(error) or lost(device):
                raise
            LOGGER.warning("without CUDA graphs: %s", error)
            return cls(None)

    def __call__(self, key: Hashable, function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
        graph = self.captured.get(key)
        if graph is not None:
            self.captured.move_to_end(key)
            _fill(graph.inputs, inputs)
        elif self.capture is None or self.sealed or key in self.refused:
            return function(*inputs)
        else:
            inputs = self._places(inputs, _kind(key))
            graph = self._capture(key, function, inputs)
            if graph is None:
                return function(*inputs)
        graph.replay()
        return graph.outputs

    @contextmanager
    def paused(self) -> Iterator[None]:
        """No captures within."""
        sealed, self.sealed = self.sealed, True
        try:
            yield
        finally:
            self.sealed = sealed

    @contextmanager
    def without(self) -> Iterator[None]:
        """No graphs within: every call is simply the function."""
        captured, self.captured = self.captured, OrderedDict()
        try:
            with self.paused():
                yield
        finally:
            self.captured = captured

    def clear(self) -> None:
        """Drop the graphs. Their memory is for the next ones; only `renew` gives it back."""
        self.captured.clear()
        self.refused.clear()
        self.inputs, self.outputs = Places(), Places()

    def renew(self) -> None:
        """Drop the graphs and the pool they shared, once nobody else's graphs are in it, and allow captures again."""
        self.clear()
        self.sealed = False
        if (renew := getattr(self.capture, "renew", None)) is not None:
            renew()

    def _places(self, inputs: tuple[Tensor, ...], kind: Hashable) -> tuple[Tensor, ...]:
        static = tuple(self.inputs.like(x, kind, n) for n, x in enumerate(inputs))
        _fill(static, inputs)
        return static

    def _capture(self, key: Hashable, function: Function, static: tuple[Tensor, ...]) -> Captured | None:
        """Capture what `function` does with inputs that are in their places; `None`: it cannot be captured.

        Raises where memory does not suffice: the caller has to ask for less.
        """
        assert self.capture is not None  # noqa: S101
        given = tuple(x.clone() for x in static)
        # One ordinary run first: libraries allocate their workspaces and plans, which capture forbids. It may change
        # its inputs, which are put back, and the cache, where it writes what the replay will write.
        self._placed(function(*static), static, _kind(key))
        _fill(static, given)
        if static and static[0].is_cuda:
            torch.cuda.synchronize()  # the run is over, and so is that of a graph about to be dropped
        if len(self.captured) == GRAPHS_KEPT:
            self.captured.popitem(last=False)
        try:
            outputs, replay = self.capture(lambda: self._placed(function(*static), static, _kind(key)))
        except RuntimeError as error:
            self.refused.add(key)
            if out_of_memory(error):
                raise
            LOGGER.warning("without a CUDA graph for %s: %s", key, error)
            _fill(static, given)
            return None
        _fill(static, given)
        return self.captured.setdefault(key, Captured(static, outputs, replay))

    def _placed(self, outputs: tuple[Tensor, ...], static: tuple[Tensor, ...], kind: Hashable) -> tuple[Tensor, ...]:
        """The outputs; those that are not inputs changed in place are moved to places of their own."""
        mine = {x.data_ptr() for x in static}
        return tuple(
            out if out.data_ptr() in mine else self.outputs.like(out, kind, n).copy_(out)
            for n, out in enumerate(outputs)
        )


def _kind(key: Hashable) -> Hashable:
    return key[0] if isinstance(key, tuple) else None


def _fill(places: tuple[Tensor, ...], given: tuple[Tensor, ...]) -> None:
    """Copy what is not in its place yet. What lies in the place of another is taken out of there first."""
    missing = [(place, x) for place, x in zip(places, given, strict=True) if not _same(place, x)]
    taken = {place.untyped_storage().data_ptr() for place in places}
    missing = [(place, x.clone() if x.untyped_storage().data_ptr() in taken else x) for place, x in missing]
    for place, x in missing:
        place.copy_(x, non_blocking=True)


def _same(a: Tensor, b: Tensor) -> bool:
    return a is b or (a.data_ptr() == b.data_ptr() and a.shape == b.shape and a.dtype == b.dtype and b.is_contiguous())
