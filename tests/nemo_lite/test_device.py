"""The process's switches: exact while the model computes, and as they were before it did."""

import threading
from contextlib import nullcontext

import pytest
import torch
from torch.nn.attention import SDPBackend, _cur_sdpa_kernel_backends

from nemo_lite.device import BACKENDS, lost, numerics, out_of_memory, unsupported
from nemo_lite.kernels import TorchKernels, check

PRECISE = (torch.backends.cudnn.conv, torch.backends.cudnn.rnn, torch.backends.cuda.matmul)


def switches():
    cuda = torch.backends.cuda.matmul
    return (
        [operation.fp32_precision for operation in PRECISE],
        cuda.allow_fp16_reduced_precision_reduction,
        set(_cur_sdpa_kernel_backends()),
    )


@pytest.fixture(params=["untouched", "older switches", "newer switches", "cuBLAS in TF32"])
def before(request):
    """Whatever somebody has set, and in whichever of torch's two ways."""
    saved = [operation.fp32_precision for operation in PRECISE]
    if request.param == "older switches":
        torch.backends.cudnn.allow_tf32 = False
    elif request.param == "newer switches":
        torch.backends.cudnn.conv.fp32_precision = "ieee"
    elif request.param == "cuBLAS in TF32":
        torch.backends.cuda.matmul.fp32_precision = "tf32"
    yield switches()
    torch.backends.cudnn.allow_tf32 = True
    for operation, value in zip(PRECISE, saved, strict=True):
        operation.fp32_precision = value


def test_exact_within_and_as_it_was_after(before):
    with numerics():
        assert switches() == (
            ["ieee"] * 3,
            False,
            {SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH},
        )
    assert switches() == before
    with pytest.raises(KeyError), numerics():
        raise KeyError
    assert switches() == before


def test_weights_are_merged_in_float32_whatever_the_process_has_set(before, static, monkeypatch):
    found = []
    monkeypatch.setattr("nemo_lite.llm.Qwen3.prepare", lambda self: found.append(switches()[0]))
    static("nano")
    assert found == [["ieee"] * 3]
    assert switches() == before


def test_kernels_are_compared_with_what_would_compute_in_their_place(before, nano, monkeypatch):
    """Not with cuDNN's attention, which PyTorch prefers where nobody chooses, and which may be wrong."""
    found = []
    monkeypatch.setattr("nemo_lite.kernels._check", lambda *_: found.append(switches()))
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    check(TorchKernels(), nano.config.llm, torch.bfloat16, torch.device("cuda"))
    assert found == [(["ieee"] * 3, False, set(BACKENDS))]
    assert switches() == before


def test_two_threads_whose_calls_overlap(before):
    inside, leave = threading.Event(), threading.Event()

    def first():
        with numerics():
            inside.set()
            leave.wait()

    thread = threading.Thread(target=first)
    thread.start()
    inside.wait()
    with numerics():
        leave.set()
        thread.join()
        assert switches()[0] == ["ieee"] * 3
    assert switches() == before


@pytest.mark.parametrize(("failures", "dead"), [(0, False), (1, False), (9, True)])
def test_a_context_that_reports_its_error_again_and_again_is_lost(monkeypatch, failures, dead):
    left = [failures]

    def synchronize(device):
        if left[0]:
            left[0] -= 1
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    assert lost(torch.device("cuda")) is dead
    assert not lost(torch.device("cpu"))


@pytest.mark.parametrize(
    ("capability", "built", "runs"),
    [
        ((9, 0), "sm_75 sm_80 sm_86 sm_90 sm_100 sm_120", True),
        ((7, 5), "sm_75 sm_80", True),
        ((8, 9), "sm_75 sm_80 sm_86 sm_90a", True),  # newer of the same kind
        ((8, 0), "sm_86 sm_90", False),  # older of the same kind
        ((6, 1), "sm_75 sm_80 sm_86 sm_90", False),
        ((7, 0), "sm_75 sm_80", False),
        ((9, 0), "", True),  # it does not tell
    ],
)
def test_a_card_for_which_this_torch_has_no_code_is_told_before_anything_is_loaded(
    monkeypatch, capability, built, runs
):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "GTX 1080")
    monkeypatch.setattr(torch.cuda, "get_arch_list", built.split)
    why = unsupported(torch.device("cuda"))
    assert (why is None) is runs
    if why:
        major, minor = capability
        assert f"GTX 1080 has compute capability {major}.{minor}, and torch {torch.__version__} is built for " in why
    assert unsupported(torch.device("cpu")) is None


def test_out_of_memory_whoever_says_so():
    for said in (
        "CUDA out of memory. Tried to allocate 20.00 MiB",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 5 bytes",
    ):
        assert out_of_memory(RuntimeError(said))
    assert not out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered"))
