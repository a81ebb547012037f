"""The strict loader, the true layout, and checkpoints of other sizes."""

import json
import re
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file

from nemo_lite import CanaryQwen, CheckpointError, ModelNotFoundError
from nemo_lite.config import parse_config, read_config
from nemo_lite.tokenizer import ChatTokenizer
from nemo_lite.weights import destinations


@pytest.fixture
def copied(tmp_path, data):
    """A copy of nano to damage -> (directory, its tensors, save)."""
    import shutil

    shutil.copytree(data / "canary-nano" / "checkpoint", tmp_path / "checkpoint")
    shutil.copytree(data / "canary-nano" / "llm", tmp_path / "llm")
    path = tmp_path / "checkpoint" / "model.safetensors"
    tensors = load_file(path)
    return tmp_path, tensors, lambda: save_file(tensors, path)


def test_the_true_layout(data, nano):
    """All 1,718 keys of the published file, none left over, at true size on the meta device."""
    layout = json.loads((data / "canary-nano/full_keys.json").read_text())
    qwen = json.loads((data / "canary-nano/llm/config.json").read_text()) | {
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 151936,
    }
    with torch.device("meta"):
        model = CanaryQwen(parse_config(layout["config"], qwen), nano.tokenizer)
    where = destinations(model)
    expected = {name: tuple(key["shape"]) for name, key in layout["keys"].items()}
    assert {name: tuple(tensor.shape) for name, tensor in where.items()} == expected
    assert len(where) == layout["n_keys"] == 1718
    elements = sum(tensor.numel() for tensor in where.values())
    size = sum(t.numel() * (2 if t.is_floating_point() else 8) for t in where.values())
    assert elements == layout["n_elements"]
    assert size == layout["tensor_bytes"]
    print(f"{len(where)} keys, {elements:,} parameters, {size:,} bytes")


def test_missing_unexpected_and_misshapen_keys_are_named(copied):
    folder, tensors, save = copied
    missing = "perception.encoder.layers.1.self_attn.linear_q.bias"
    misshapen = "llm.base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight"
    del tensors[missing]
    tensors["perception.encoder.layers.2.norm_out.bias"] = torch.zeros(32)
    tensors[misshapen] = torch.zeros(9, 48)
    save()
    with pytest.raises(CheckpointError) as raised:
        CanaryQwen.from_pretrained(folder, "cpu")
    said = str(raised.value)
    assert f"missing: {missing} (32,)" in said
    assert "unexpected: perception.encoder.layers.2.norm_out.bias (32,)" in said
    assert f"wrong shape: {misshapen} expected (8, 48), got (9, 48)" in said
    assert len(said.splitlines()) == 4


def test_a_plain_projection_where_an_adapted_one_belongs_is_named(copied):
    folder, tensors, save = copied
    stem = "llm.base_model.model.model.layers.0.self_attn.v_proj"
    tensors[f"{stem}.weight"] = tensors.pop(f"{stem}.base_layer.weight")
    save()
    with pytest.raises(CheckpointError, match=rf"missing: {re.escape(stem)}.base_layer.weight .*\n.*unexpected"):
        CanaryQwen.from_pretrained(folder, "cpu")


def test_a_weight_in_integers_is_named(copied):
    folder, tensors, save = copied
    whole = "perception.encoder.layers.0.feed_forward1.linear1.weight"
    tensors[whole] = tensors[whole].to(torch.int32)
    tensors["perception.preprocessor.featurizer.fb"] = tensors["perception.preprocessor.featurizer.fb"].double()
    save()
    with pytest.raises(CheckpointError) as raised:
        CanaryQwen.from_pretrained(folder, "cpu")
    assert str(raised.value).splitlines()[1:] == [f"  wrong dtype: {whole} expected F64, F32, F16, BF16, got I32"]


def test_a_truncated_file_is_named(copied):
    folder, _, _ = copied
    path = folder / "checkpoint" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match=r"model.safetensors is damaged .*delete it and download it again"):
        CanaryQwen.from_pretrained(folder, "cpu")
    path.write_bytes(b"<html>not found</html>")
    with pytest.raises(CheckpointError, match="is damaged"):
        CanaryQwen.from_pretrained(folder, "cpu")


def test_files_that_are_not_there(copied, tmp_path):
    folder, _, _ = copied
    (folder / "checkpoint" / "model.safetensors").unlink()
    with pytest.raises(ModelNotFoundError, match=r"expected config.json and model.safetensors"):
        CanaryQwen.from_pretrained(folder, "cpu")
    with pytest.raises(ModelNotFoundError, match="no such directory"):
        CanaryQwen.from_pretrained(tmp_path / "nowhere", "cpu")


@pytest.mark.parametrize(
    ("file", "where", "value", "said"),
    [
        ("checkpoint", ("perception", "encoder", "xscaling"), True, "xscaling=False only, got True"),
        ("checkpoint", ("perception", "encoder", "att_context_size"), [128, 0], r"att_context_size=\[-1, -1\] only"),
        (
            "checkpoint",
            ("perception", "encoder", "d_model"),
            None,
            "expected d_model to be a whole number above 0, got None",
        ),
        ("checkpoint", ("perception", "preprocessor", "normalize"), "all_features", "normalize='per_feature' only"),
        ("checkpoint", ("lora", "target_modules"), ["q_proj", "lm_head"], r"cannot adapt \['lm_head'\]"),
        ("checkpoint", ("lora", "use_dora"), True, "use_dora=False only"),
        ("checkpoint", ("perception", "output_dim"), 64, "output_dim=48 only, got 64"),
        ("llm", ("rope_scaling",), {"type": "yarn"}, "rope_scaling=None only"),
        ("llm", ("model_type",), "llama", "model_type='qwen3' only, got 'llama'"),
        ("llm", ("tie_word_embeddings",), False, "tie_word_embeddings=True only"),
    ],
)
def test_what_is_not_computed_is_refused(copied, file, where, value, said):
    folder, _, _ = copied
    path = folder / file / "config.json"
    config = section = json.loads(path.read_text())
    for name in where[:-1]:
        section = section[name]
    section[where[-1]] = value
    path.write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=said):
        CanaryQwen.from_pretrained(folder, "cpu")


def test_broken_json_and_a_strange_tokenizer(copied):
    folder, _, _ = copied
    (folder / "llm" / "tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"tokenizer.json is damaged"):
        CanaryQwen.from_pretrained(folder, "cpu")
    (folder / "checkpoint" / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="not valid JSON"):
        read_config(folder / "checkpoint", folder / "llm")


OTHER_SIZES = [
    # encoder: layers, d_model, heads, conv channels, kernel; llm: layers, hidden, heads, kv heads, head_dim, wide; LoRA
    ((1, 24, 2, 4, 5), (1, 40, 4, 1, 10, 56), (2, 8), ["q_proj", "v_proj"]),
    ((3, 64, 8, 12, 9), (4, 32, 8, 8, 16, 48), (16, 16), ["q_proj", "k_proj", "v_proj", "o_proj"]),
    ((2, 48, 3, 8, 7), (2, 64, 6, 3, 8, 80), (4, 1), ["gate_proj", "up_proj", "down_proj", "v_proj"]),
    ((2, 40, 5, 20, 3), (3, 56, 2, 2, 32, 64), (8, 16), ["q_proj", "v_proj"]),
]


@pytest.mark.parametrize(("encoder", "llm", "lora", "targets"), OTHER_SIZES)
def test_other_sizes_against_transformers_and_peft(copied, plain, encoder, llm, lora, targets):
    """Nothing is tied to one size: random checkpoints of other shapes, against published parts with LoRA unmerged."""
    folder, front, _ = copied
    path, qwen_path = folder / "checkpoint" / "config.json", folder / "llm" / "config.json"
    salm, qwen = json.loads(path.read_text()), json.loads(qwen_path.read_text())
    names = ("n_layers", "d_model", "n_heads", "subsampling_conv_channels", "conv_kernel_size")
    salm["perception"]["encoder"] |= dict(zip(names, encoder, strict=True))
    salm["perception"]["output_dim"] = llm[1]
    salm["lora"] |= {"r": lora[0], "lora_alpha": lora[1], "target_modules": targets}
    names = (
        "num_hidden_layers",
        "hidden_size",
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
        "intermediate_size",
    )
    qwen |= dict(zip(names, llm, strict=True)) | {"rope_theta": 500000, "rms_norm_eps": 1e-5}
    path.write_text(json.dumps(salm))
    qwen_path.write_text(json.dumps(qwen))

    config = read_config(folder / "checkpoint", folder / "llm")
    tokenizer = ChatTokenizer(folder / "llm", config.audio_tag)
    generator = torch.Generator().manual_seed(encoder[1])
    tensors = {}
    with torch.device("meta"):
        shapes = destinations(CanaryQwen(config, tokenizer))
    for name, like in shapes.items():
        if not like.is_floating_point():
            tensors[name] = torch.zeros(like.shape, dtype=like.dtype)
        elif name.endswith(("running_var", "norm.weight", "layernorm.weight")) or ".norm_" in name:
            tensors[name] = torch.rand(like.shape, generator=generator) + 0.5
        else:
            tensors[name] = torch.randn(like.shape, generator=generator) * 0.2
    for name in ("fb", "window"):
        tensors[f"perception.preprocessor.featurizer.{name}"] = front[
            f"perception.preprocessor.featurizer.{name}"
        ].float()
    save_file(tensors, folder / "checkpoint" / "model.safetensors")

    ours = CanaryQwen.from_pretrained(folder, "cpu")
    theirs = plain.PlainCanary(config, tensors, tokenizer, ours.preprocessor)
    clips = [torch.randn(n, generator=generator) * 0.1 for n in (16000, 5000, 33333)]
    with torch.inference_mode():
        embedded, lengths = ours.embed_audio(clips)
        for row, expected in enumerate(theirs.embed_audio(clips)):
            assert lengths[row] == len(expected)
            got = embedded[row, : lengths[row]]
            assert float((got - expected).abs().max() / expected.pow(2).mean().sqrt()) <= 2e-5
        tokens = theirs.generate(clips, max_new_tokens=20)
    assert [list(answer.token_ids) for answer in ours.transcribe(clips, max_new_tokens=20)] == tokens


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_host_memory_while_loading(tmp_path, data):
    """A checkpoint of 100 MB in its own dtype: well under twice its size on top of an empty process."""
    salm = json.loads((data / "canary-nano/checkpoint/config.json").read_text())
    qwen = json.loads((data / "canary-nano/llm/config.json").read_text()) | {
        "hidden_size": 512,
        "intermediate_size": 4096,
        "num_hidden_layers": 8,
    }
    salm["perception"]["output_dim"] = 512
    script = f"""
import json, sys, torch
from pathlib import Path
from nemo_lite.config import parse_config
from nemo_lite.model import CanaryQwen
from nemo_lite.tokenizer import ChatTokenizer
from nemo_lite import weights
def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
config = parse_config(json.loads({json.dumps(salm)!r}), json.loads({json.dumps(qwen)!r}))
tokenizer = ChatTokenizer(Path({str(data / "canary-nano/llm")!r}), config.audio_tag)
path = Path({str(tmp_path / "model.safetensors")!r})
if sys.argv[1] == "save":
    from safetensors.torch import save_file
    model = CanaryQwen.empty(config, tokenizer, torch.device("cpu"), torch.bfloat16)
    save_file({{n: torch.zeros_like(t) for n, t in weights.destinations(model).items()}}, path)
else:
    weights.MAPPED_BYTES = 2**24
    CanaryQwen.empty(config, tokenizer, torch.device("meta"), torch.bfloat16)  # imports what torch imports late
    before = peak()
    model = CanaryQwen.empty(config, tokenizer, torch.device("cpu"), torch.bfloat16)
    weights.load_weights(model, path)
    print((peak() - before) / path.stat().st_size)
"""
    subprocess.run([sys.executable, "-c", script, "save"], check=True)
    done = subprocess.run([sys.executable, "-c", script, "load"], check=True, capture_output=True, text=True)
    assert 0.9 < float(done.stdout) < 1.5
