"""What the CUDA path asks of the process and the driver; nothing here touches a GPU until it is called for one."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

BACKENDS = (SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH)
"""Not cuDNN, which torch prefers on an H100: it makes a plan per shape (up to a second each, hundreds of shapes), keeps
it per thread, and has given silently wrong results for few key heads."""


BESIDE = 8
"""Turns of those in front, while they are busy, for one of the background: it costs them a tenth of their time."""
PATIENCE_S = 1.0


class Numerics:
    """Float32 that is float32, float16 summed in float32, attention by `BACKENDS`; afterwards all is as it was before.

    torch keeps these switches per process, so calls that overlap share them: the first sets, the last restores. Only
    the per-operation precision switches are used: the older `allow_tf32` of cuDNN as a whole cannot even be read once
    somebody has set the newer ones.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.inside = 0
        self.undo = ExitStack()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self.lock:
            if self.inside == 0:
                self._set()
            self.inside += 1
        try:
            yield
        finally:
            with self.lock:
                self.inside -= 1
                if self.inside == 0:
                    self.undo.close()

    def _set(self) -> None:
        backends = torch.backends
        # TF32 rounds float32 to 10 bits: errors of 1e-3 instead of 1e-6. cuDNN's convolutions take it by default.
        precise: list[Any] = [backends.cudnn.conv, backends.cudnn.rnn, backends.cuda.matmul]  # pyright: ignore[reportAttributeAccessIssue]
        for operation in precise:
            self.undo.callback(setattr, operation, "fp32_precision", operation.fp32_precision)
            operation.fp32_precision = "ieee"
        # float16 products summed in float16 overflow at 65,504.
        switch = "allow_fp16_reduced_precision_reduction"
        self.undo.callback(setattr, backends.cuda.matmul, switch, getattr(backends.cuda.matmul, switch))
        setattr(backends.cuda.matmul, switch, False)
        self.undo.enter_context(sdpa_kernel(list(BACKENDS)))


numerics = Numerics()


@contextmanager
def computing(device: torch.device) -> Iterator[None]:
    """On a GPU: that one, whichever is the caller's, with `numerics`. All that computes there does so within."""
    if device.type != "cuda":
        yield
        return
    with torch.cuda.device(device), numerics():
        yield


class Gate:
    """A lock that lets those in the background in only when nobody else waits.

    Whoever decodes step by step waits between two steps for an instant only, and yet wants the next one: where the
    others are `busy`, the background has one turn for `BESIDE` of theirs.
    """

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.taken = False
        self.waiting = 0
        self.turns = 0  # of those in front since the background had one

    @contextmanager
    def __call__(self, *, background: bool = False, busy: Callable[[], bool] = lambda: False) -> Iterator[None]:
        def free() -> bool:
            return not self.taken and not self.waiting

        with self.changed:
            if background:
                # Not for ever: rows may be left where they are by whoever began them.
                if not self.changed.wait_for(lambda: free() and (self.turns >= BESIDE or not busy()), PATIENCE_S):
                    self.changed.wait_for(free)
                self.turns = 0
            else:
                self.waiting += 1
                try:
                    self.changed.wait_for(lambda: not self.taken)
                finally:
                    self.waiting -= 1
                self.turns += 1
            self.taken = True
        try:
            yield
        finally:
            with self.changed:
                self.taken = False
                self.changed.notify_all()


def default_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 on CUDA, float16 on GPUs that would only emulate it, float32 on a CPU."""
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16


def unsupported(device: torch.device) -> str | None:
    """Why this torch cannot compute on a GPU, which it would say at the first kernel only; `None`: it can.

    Code for a compute capability runs on those of the same major version that are not older (CUDA programming guide).
    """
    if device.type != "cuda":
        return None
    major, minor = torch.cuda.get_device_capability(device)
    built = [arch.removeprefix("sm_").rstrip("af") for arch in torch.cuda.get_arch_list() if arch.startswith("sm_")]
    versions = [divmod(int(arch), 10) for arch in built]
    if not versions or any(theirs == major and least <= minor for theirs, least in versions):
        return None
    known = ", ".join(f"{theirs}.{least}" for theirs, least in versions)
    name = torch.cuda.get_device_name(device)
    return f"{name} has compute capability {major}.{minor}, and torch {torch.__version__} is built for {known}"


def out_of_memory(error: BaseException) -> bool:
    """Whether memory did not suffice, whoever says so: torch, the driver or cuBLAS."""
    return any(words in str(error) for words in ("out of memory", "ALLOC_FAILED", "allocate memory"))


def lost(device: torch.device) -> bool:
    """Whether the CUDA context is dead, after an error: then every call fails, in this process, for ever.

    An illegal access and its kind are sticky: the driver reports them from every call. What is not is reported once.
    """
    if device.type != "cuda":
        return False
    for _ in range(2):
        try:
            torch.cuda.synchronize(device)
        except RuntimeError:
            continue
        return False
    return True


def finish(device: torch.device) -> None:
    """Wait until a GPU has done what it was given: who comes next finds it idle."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy without waiting. torch's host allocator reuses the pinned source only after the copy has run."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def to_host(tensor: Tensor) -> Tensor:
    """Begin to copy to pinned memory; to be read after an event recorded next. On a CPU, a plain copy."""
    if not tensor.is_cuda:
        return tensor.clone()
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
