"""CUDA graphs by key: the only part that knows CUDA's rules. On a CPU every call is simply the function.

A graph replays kernels on fixed addresses. So each key owns *static* copies of its inputs; a call copies its arguments
there (unless they are those very tensors, as when a decoding step is fed its own results), replays, and returns the
same output tensors every time: they are valid until the next call of the same key. A function may change its inputs in
place and return them.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

import torch
from torch import Tensor

GRAPHS_KEPT = 1024
"""Each keeps its inputs and outputs in memory; the one unused for longest goes first."""

Function = Callable[..., tuple[Tensor, ...]]
Replay = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Captured:
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    replay: Replay


class CudaCapture:
    """Captures a function into a CUDA graph; all graphs share one memory pool, because they never run at once."""

    def __init__(self, device: torch.device) -> None:
        with torch.cuda.device(device):
            # torch's own capture stream belongs to whichever device captured first.
            self.stream = torch.cuda.Stream()
            self.pool = torch.cuda.graph_pool_handle()
            # Never dropped: a pool whose last graph is gone cannot be opened again while it holds any memory, and
            # cuBLAS keeps its workspace there.
            _, self.anchor = self(lambda: (torch.zeros(1, device="cuda").add_(1),))

    def __call__(self, run: Callable[[], tuple[Tensor, ...]]) -> tuple[tuple[Tensor, ...], Replay]:
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
            if failure is not None:
                raise failure from None  # ... and says nothing of what failed: out of memory, most likely
            raise
        return outputs, graph.replay


Capture = Callable[[Callable[[], tuple[Tensor, ...]]], tuple[tuple[Tensor, ...], Replay]]


class Graphs:
    """`graphs(key, function, *inputs)` is `function(*inputs)`, replayed from the second call of a key on.

    The caller promises that a key names one function, one set of shapes, and one set of the other tensors the function
    touches; `clear()` when any of those has moved.
    """

    def __init__(self, capture: Capture | None) -> None:
        self.capture = capture
        self.captured: OrderedDict[Hashable, Captured] = OrderedDict()

    @classmethod
    def on(cls, device: torch.device) -> "Graphs":
        return cls(CudaCapture(device) if device.type == "cuda" else None)

    def __call__(self, key: Hashable, function: Function, *inputs: Tensor) -> tuple[Tensor, ...]:
        if self.capture is None:
            return function(*inputs)
        if key not in self.captured:
            self.captured[key] = self._capture(function, inputs)
        self.captured.move_to_end(key)
        graph = self.captured[key]
        for static, given in zip(graph.inputs, inputs, strict=True):
            if static is not given:
                static.copy_(given, non_blocking=True)
        graph.replay()
        return graph.outputs

    def clear(self) -> None:
        self.captured.clear()

    def _capture(self, function: Function, inputs: tuple[Tensor, ...]) -> Captured:
        assert self.capture is not None  # noqa: S101
        static = tuple(x.clone() for x in inputs)
        # One ordinary run first: libraries allocate their workspaces and plans, which capture forbids. It may change
        # `static`, which the next replay overwrites, and the cache, where it writes what the replay will write.
        function(*static)
        for kept, given in zip(static, inputs, strict=True):
            kept.copy_(given)
        if static and static[0].is_cuda:
            torch.cuda.synchronize()  # the run is over, and so is that of a graph about to be dropped
        if len(self.captured) == GRAPHS_KEPT:
            self.captured.popitem(last=False)
        outputs, replay = self.capture(lambda: function(*static))
        return Captured(static, outputs, replay)
