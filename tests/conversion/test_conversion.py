"""Conversion beyond the golden cases: file formats, damaged and foreign files, transformers' own layout."""

import io
import pickle

import msgpack
import numpy as np
import pytest
import torch
import transformers
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from benchmarks.layouts import randomise
from hf_vits import DeiTConfig, DeiTForImageClassification, ViTConfig, ViTForImageClassification
from hf_vits.conversion import convert, from_transformers, load_checkpoint, to_transformers, variants
from hf_vits.conversion.core import ReadTensors

from ..support.hub import tiny_model

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}
SIZES = SMALL | {"image_size": 32, "patch_size": 8}


def deit_checkpoint() -> dict[str, torch.Tensor]:
    """A distilled DeiT of two narrow layers, under facebookresearch/deit's keys."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"cls_token": (1, 1, 32), "dist_token": (1, 1, 32), "pos_embed": (1, 18, 32), "norm": (32,)}
    shapes |= {"patch_embed.proj": (32, 3, 8, 8), "head": (5, 32), "head_dist": (5, 32)}
    for index in range(2):
        shapes |= {f"blocks.{index}.{name}": (32,) for name in ("norm1", "norm2")}
        shapes |= {f"blocks.{index}.attn.qkv": (96, 32), f"blocks.{index}.attn.proj": (32, 32)}
        shapes |= {f"blocks.{index}.mlp.fc1": (64, 32), f"blocks.{index}.mlp.fc2": (32, 64)}
    tensors = {}
    for name, shape in shapes.items():
        if name.endswith(("token", "pos_embed")):
            tensors[name] = torch.randn(shape, generator=generator)
        else:
            tensors[f"{name}.weight"] = torch.randn(shape, generator=generator) / shape[-1] ** 0.5
            tensors[f"{name}.bias"] = torch.randn(shape[0], generator=generator)
    return tensors


def convert_small(state_dict, **more):
    overrides = SMALL | {"patch_size": 8} | more
    return convert("deit", "deit_tiny_distilled_patch16_224", state_dict, **overrides)


def torch_bytes(content) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def same(first: dict, second: dict) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: tensors,
        lambda tensors: {"model": tensors, "epoch": 3, "optimizer": {"state": {}}},
        lambda tensors: {"state_dict": {f"module.{key}": value for key, value in tensors.items()}},
        lambda tensors: {"teacher": tensors, "student_loss": 0.5},
    ],
)
def test_wrapped_checkpoints_are_unwrapped(wrap, tmp_path):
    path = tmp_path / "checkpoint.pth"
    path.write_bytes(torch_bytes(wrap(deit_checkpoint())))
    assert same(load_checkpoint(path), deit_checkpoint())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors", ".npz", ".renamed"])
@pytest.mark.parametrize("kind", ["torch", "legacy torch", "pickle", "safetensors", "npz", "msgpack"])
def test_every_format_is_read_under_every_name(kind, suffix, tmp_path):
    path, tensors = tmp_path / f"checkpoint{suffix}", deit_checkpoint()
    if kind == "torch":
        torch.save(tensors, path)
    elif kind == "legacy torch":
        torch.save(tensors, path, _use_new_zipfile_serialization=False)
    elif kind == "pickle":
        protocol = 2 if suffix == ".pth" else 5
        arrays = {key: value.numpy() for key, value in tensors.items()}
        path.write_bytes(pickle.dumps({"model": arrays, "__author__": "third-party"}, protocol))
    elif kind == "safetensors":
        save_file(tensors, path)
    elif kind == "npz":
        with path.open("wb") as file:
            np.savez(file, **{key: value.numpy() for key, value in tensors.items()})
    else:
        arrays = {
            key: msgpack.ExtType(1, msgpack.packb((value.shape, "float32", value.numpy().tobytes())))
            for key, value in tensors.items()
        }
        path.write_bytes(msgpack.packb({"params": arrays}))
    assert same(load_checkpoint(path), tensors)


def test_bfloat16_arrays_of_flax_are_read(tmp_path):
    values = torch.randn(3, 4).bfloat16()
    opaque = values.view(torch.int16).numpy().view("V2")
    np.savez(tmp_path / "file.npz", **{"params/head/kernel": opaque})
    assert torch.equal(load_checkpoint(tmp_path / "file.npz")["head/kernel"], values.float())


def test_a_pickle_that_would_run_code_is_refused_and_nothing_runs(tmp_path):
    witness = tmp_path / "witness"

    class Attack:
        def __reduce__(self):
            return open, (str(witness), "w")

    for name, content in {
        "zip.pth": torch_bytes({"model": Attack()}),
        "plain.pth": pickle.dumps({"model": Attack()}, protocol=4),
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="run code"):
            load_checkpoint(tmp_path / name)
    assert not witness.exists()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), kind=st.sampled_from(["torch", "safetensors", "npz", "msgpack"]))
def test_truncated_files_are_refused(data, kind, tmp_path_factory):
    tensor = torch.arange(64.0).reshape(8, 8)
    whole = io.BytesIO()
    if kind == "torch":
        torch.save({"a": tensor, "b": tensor}, whole)
    elif kind == "npz":
        np.savez(whole, a=tensor.numpy(), b=tensor.numpy())
    elif kind == "safetensors":
        import safetensors.torch

        whole.write(safetensors.torch.save({"a": tensor, "b": tensor.clone()}))
    else:
        packed = msgpack.ExtType(1, msgpack.packb((tensor.shape, "float32", tensor.numpy().tobytes())))
        whole.write(msgpack.packb({"a": packed, "b": packed}))
    content = whole.getvalue()
    path = tmp_path_factory.mktemp("truncated") / "checkpoint"
    path.write_bytes(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(ValueError, match=r"truncated|known format|no tensors"):
        load_checkpoint(path)


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=200))
def test_foreign_files_are_refused(content, tmp_path_factory):
    path = tmp_path_factory.mktemp("foreign") / "checkpoint.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"checkpoint"):
        load_checkpoint(path)


def test_missing_unexpected_and_misshapen_keys_are_all_listed():
    tensors = deit_checkpoint()
    del tensors["blocks.0.norm1.bias"]
    tensors["blocks.0.extra.weight"] = torch.zeros(1)
    tensors["blocks.1.mlp.fc1.weight"] = torch.zeros(10, 32)
    with pytest.raises(ValueError, match=r"attention_norm\.bias") as error:
        convert_small(tensors)
    assert "blocks.0.extra.weight" in str(error.value)
    assert "checkpoint (10, 32), model (64, 32)" in str(error.value)


@pytest.mark.parametrize("key", ["cls", "Transformer/posembed_input/pos_embedding"])
def test_a_vit_without_its_token_or_table_is_refused_and_not_taken_for_another_kind(key):
    layers = {
        "Transformer/encoderblock_0/LayerNorm_0": {"bias": (192,), "scale": (192,)},
        "Transformer/encoder_norm": {"bias": (192,), "scale": (192,)},
        "embedding": {"bias": (192,), "kernel": (16, 16, 3, 192)},
        "head": {"bias": (5,), "kernel": (192, 5)},
    }
    tensors = {f"{name}/{leaf}": torch.zeros(shape) for name, of in layers.items() for leaf, shape in of.items()}
    tensors |= {"cls": torch.zeros(1, 1, 192), "Transformer/posembed_input/pos_embedding": torch.zeros(1, 197, 192)}
    ours = {"cls": "prefix_tokens", "Transformer/posembed_input/pos_embedding": r"position_embedding\.table"}
    del tensors[key]
    with pytest.raises(ValueError, match=ours[key]):
        convert("vit", "ViT-Ti_16", tensors)


def test_a_checkpoint_of_another_architecture_or_variant_is_refused():
    with pytest.raises(ValueError, match="another variant or architecture"):
        convert("vit", "ViT-Ti_16", deit_checkpoint())
    with pytest.raises(ValueError, match="another variant or architecture"):
        convert("deit", "deit_small_patch16_224", deit_checkpoint())


@pytest.mark.parametrize(
    ("arguments", "overrides", "message"),
    [
        (("deti", "deit_tiny_patch16_224"), {}, "did you mean 'deit'"),
        (("deit", "deit_tiny_patch16_22"), {}, "did you mean 'deit_tiny_patch16_224'"),
        (("deit", "deit_tiny_patch16_224"), {"hiden_size": 3}, "did you mean 'hidden_size'"),
        (("deit", "deit_tiny_patch16_224"), {"num_attention_heads": 5}, "multiple"),
    ],
)
def test_unknown_names_get_suggestions(arguments, overrides, message):
    with pytest.raises(ValueError, match=message):
        convert(*arguments, deit_checkpoint(), **overrides)


def test_a_larger_image_size_resizes_the_table_once_and_for_all():
    pixel_values = torch.randn(1, 3, 48, 48)
    with torch.no_grad():
        on_the_fly = convert_small(deit_checkpoint())(pixel_values).logits
        larger = convert_small(deit_checkpoint(), image_size=48)
        assert larger.model.embeddings.position_embedding.table.shape == (1, 38, 32)
        torch.testing.assert_close(larger(pixel_values).logits, on_the_fly)


def test_half_precision_checkpoints_become_float32():
    model = convert_small({key: value.half() for key, value in deit_checkpoint().items()})
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


SWIN = {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 3, "image_size": 32, "mlp_ratio": 2.0}
PVT = {"depths": [1, 2, 1], "hidden_sizes": [8, 16, 32], "num_attention_heads": [1, 2, 4], "mlp_ratios": [2, 2, 2]}
PVT |= {"sequence_reduction_ratios": [4, 2, 1], "patch_sizes": [4, 2, 2], "strides": [4, 2, 2], "image_size": 32}
PVT |= {"num_encoder_blocks": 3, "layer_norm_eps": 1e-3}
THEIRS = {
    "ViTModel": lambda: transformers.ViTModel(transformers.ViTConfig(**SIZES)),
    "ViTForImageClassification": lambda: transformers.ViTForImageClassification(
        transformers.ViTConfig(**SIZES, num_labels=5)
    ),
    "ViTForMaskedImageModeling": lambda: transformers.ViTForMaskedImageModeling(
        transformers.ViTConfig(**SIZES, encoder_stride=8)
    ),
    "ViTMSNModel": lambda: transformers.ViTMSNModel(transformers.ViTMSNConfig(**SIZES)),
    "ViTMSNForImageClassification": lambda: transformers.ViTMSNForImageClassification(
        transformers.ViTMSNConfig(**SIZES, num_labels=5)
    ),
    "SwinModel": lambda: transformers.SwinModel(transformers.SwinConfig(**SWIN)),
    "SwinModel with positions": lambda: transformers.SwinModel(
        transformers.SwinConfig(**SWIN, use_absolute_embeddings=True)
    ),
    "SwinForImageClassification": lambda: transformers.SwinForImageClassification(
        transformers.SwinConfig(**SWIN | {"qkv_bias": False}, num_labels=5)
    ),
    "PvtModel": lambda: transformers.PvtModel(transformers.PvtConfig(**PVT)),
    "PvtForImageClassification": lambda: transformers.PvtForImageClassification(
        transformers.PvtConfig(**PVT, num_labels=5)
    ),
    "DeiTForImageClassification": lambda: transformers.DeiTForImageClassification(
        transformers.DeiTConfig(**SIZES, num_labels=5)
    ),
    "DeiTForImageClassificationWithTeacher": lambda: transformers.DeiTForImageClassificationWithTeacher(
        transformers.DeiTConfig(**SIZES, num_labels=5)
    ),
}


@pytest.mark.parametrize("name", THEIRS)
def test_transformers_models_become_ours_and_theirs_again(name, tmp_path):
    torch.manual_seed(0)
    randomise(THEIRS[name]()).save_pretrained(tmp_path)
    name = name.partition(" ")[0]
    theirs = getattr(transformers, name).from_pretrained(tmp_path)  # through their layout on disk
    pixel_values, arguments = torch.randn(2, 3, 32, 32), {}
    if name == "ViTForMaskedImageModeling":
        arguments["bool_masked_pos"] = torch.arange(32).reshape(2, 16) % 3 == 0
    ours = from_transformers(theirs)
    back = to_transformers(ours)
    assert type(back).__name__ == name.replace("MSN", "")  # which computes the same
    assert same(back.state_dict(), theirs.state_dict())
    with torch.no_grad():
        expected, got = theirs.eval()(pixel_values, **arguments), ours(pixel_values, **arguments)
    for output in (
        "logits",
        "cls_logits",
        "distillation_logits",
        "last_hidden_state",
        "pooler_output",
        "reconstruction",
    ):
        if expected.get(output) is not None:
            torch.testing.assert_close(got[output], expected[output], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (
            lambda: ViTForImageClassification(ViTConfig(**SIZES, pooling="mean", use_class_token=False)),
            "use_class_token",
        ),
        (lambda: ViTForImageClassification(ViTConfig(**SIZES, representation_size=8)), "representation_size"),
        (
            lambda: DeiTForImageClassification(DeiTConfig(**SIZES, layer_scale_init_value=1.0)),
            "layer_scale_init_value",
        ),
        (lambda: DeiTForImageClassification(DeiTConfig(**SIZES, num_parallel_branches=2)), "num_parallel_branches"),
        (lambda: tiny_model("swin", use_mask_token=True), "use_mask_token=False"),
        (lambda: tiny_model("swin", use_patch_norm=False), "use_patch_norm=True"),
        (lambda: tiny_model("swin", hidden_sizes=[8, 16, 24]), r"hidden_sizes=\[8, 16, 32\]"),
        (lambda: tiny_model("swin", hidden_sizes=[8, 16, 32], layer_norm_eps=1e-6), "layer_norm_eps=1e-06"),
        (lambda: tiny_model("swin", hidden_sizes=[8, 16, 32], window_size=7), "window_size=7 in all stages"),
        (lambda: tiny_model("pvt"), "embedding_norm_eps=1e-06"),
        (lambda: tiny_model("pvt", embedding_norm_eps=1e-6, image_size=[32, 64]), "square images"),
        (lambda: tiny_model("pvt", embedding_norm_eps=1e-6, patch_sizes=[2, 2, 2]), "patch_sizes 4, 2, 2"),
    ],
)
def test_what_transformers_lacks_is_named(model, reason):
    with pytest.raises(ValueError, match=reason):
        to_transformers(model())


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (lambda: transformers.SwinModel(transformers.SwinConfig(**SWIN), use_mask_token=True), "single patches"),
        (lambda: transformers.SwinModel(transformers.SwinConfig(**SWIN | {"window_size": 7})), "window_size=7"),
        (lambda: transformers.SwinModel(transformers.SwinConfig(**SWIN, layer_norm_eps=1e-6)), "layer_norm_eps"),
        (lambda: transformers.PvtModel(transformers.PvtConfig(**PVT | {"strides": [4, 2, 1]})), "patches that touch"),
    ],
)
def test_what_ours_lack_is_named(model, reason):
    with pytest.raises(ValueError, match=reason):
        from_transformers(model())


@pytest.mark.parametrize("system", ["vit", "deit", "cct"])
def test_every_variant_makes_a_configuration(system):
    from hf_vits.conversion import system as module

    for name, fields in variants(system).items():
        config = module(system).model_class(fields).config_class(**fields)
        for field, value in fields.items():
            assert getattr(config, field) == value, f"{name}: {field}"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("model-00001-of-00002.safetensors", b"", "part 1 of 2 of a checkpoint"),
        ("model.safetensors.index.json", b'{"metadata": {}}', "lists the parts of a checkpoint"),
        ("model.gguf", b"GGUF\x03\x00\x00\x00" + bytes(16), "a GGUF file"),
        ("model.onnx", b"\x08\x08\x12\x07pytorch" + bytes(16), "an ONNX graph"),
        ("model.h5", b"\x89HDF\r\n\x1a\n" + bytes(16), "an HDF5 file"),
        (
            "optimizer.pt",
            torch_bytes(torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))]).state_dict()),
            "the state of an optimizer",
        ),
        (
            "last.pth",
            torch_bytes({"optimizer": {"state": {0: {"step": torch.ones(1)}}, "param_groups": []}, "epoch": 3}),
            "the state of an optimizer, but no weights",
        ),
    ],
)
def test_files_of_other_kinds_are_named(name, content, message, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message):
        load_checkpoint(tmp_path / name)


def test_conversions_that_need_values_say_so():
    """The search for a file's system then reads them; RegionViT compares tensors that are saved twice."""
    with pytest.raises(NotImplementedError), ReadTensors({}).fitting():
        torch.equal(*(torch.ones(2, device="meta") for _ in range(2)))
