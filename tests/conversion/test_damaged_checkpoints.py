"""Damaged checkpoints: every one is refused with a ValueError that says what is wrong, whatever is damaged."""

import io
import random
import re

import msgpack
import numpy as np
import pytest
import torch

from hf_vits.conversion import convert, load_checkpoint
from hf_vits.conversion.checkpoint import unwrap
from tests.support.checkpoints import DAMAGES, conversion_of

VALUES = torch.arange(64.0).reshape(8, 8)


def content(kind: str) -> bytes:
    """Return a checkpoint file of two small tensors."""
    file, tensors = io.BytesIO(), {"a": VALUES, "b": VALUES.clone()}
    arrays = {key: value.numpy() for key, value in tensors.items()}
    if kind == "npz":
        np.savez(file, **arrays)
    elif kind == "compressed npz":
        np.savez_compressed(file, **arrays)
    elif kind == "msgpack":
        packed = msgpack.ExtType(1, msgpack.packb((VALUES.shape, "float32", VALUES.numpy().tobytes())))
        file.write(msgpack.packb({"a": packed, "b": packed}))
    else:
        torch.save(tensors, file, _use_new_zipfile_serialization=kind == "torch")
    return file.getvalue()


@pytest.mark.parametrize("kind", ["torch", "legacy torch", "npz", "compressed npz", "msgpack"])
def test_damaged_bytes_are_refused_or_change_values_alone(kind, tmp_path):
    generator, whole, path, refused = random.Random(kind), content(kind), tmp_path / "checkpoint", 0
    for step in range(300):
        damaged = bytearray(whole[: generator.randrange(len(whole)) if step % 2 else len(whole)])
        for _ in range(generator.choice([0, 1, 5])):
            if damaged:
                damaged[generator.randrange(len(damaged))] = generator.randrange(256)
        path.write_bytes(damaged)
        try:
            assert all(isinstance(value, torch.Tensor) for value in load_checkpoint(path).values())
        except ValueError:  # any other type fails the test
            refused += 1
    assert refused > 120


def test_a_cut_legacy_file_is_said_to_be_truncated_and_not_to_run_code(tmp_path):
    whole = content("legacy torch")
    for length in range(60, len(whole) - 1, 7):
        (tmp_path / "cut.pth").write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"cut\.pth cannot be read, it may be truncated"):
            load_checkpoint(tmp_path / "cut.pth")


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (torch.zeros(2, dtype=torch.complex64), "complex64"),
        (torch.zeros(2, 2).to_sparse(), "sparse"),
        (np.zeros(2, dtype=np.complex128), "complex128"),
        (np.zeros(2, dtype=[("x", "f4"), ("y", "i4")]), "'x'"),
        (np.array(["text"]), "<U4"),
        (np.zeros(2, dtype=np.longdouble), "float128"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_array_of_real_numbers_is_refused_by_its_key(value, found):
    with pytest.raises(ValueError, match=rf"layers/weight must be .*real numbers.*{re.escape(found)}"):
        unwrap({"layers": {"weight": value}})


def test_records_in_an_npz_are_refused(tmp_path):
    np.savez(tmp_path / "records.npz", weight=np.zeros(2, dtype=[("x", "f4"), ("y", "i4")]))
    with pytest.raises(ValueError, match=r"records\.npz: weight must be an array of real numbers"):
        load_checkpoint(tmp_path / "records.npz")


def test_a_dict_that_contains_itself_is_refused():
    tree = {"weight": VALUES}
    tree["model"] = tree
    with pytest.raises(ValueError, match="more than 64 deep"):
        unwrap(tree)


def test_losses_beside_student_and_teacher_may_be_numbers():
    tree = {"student": {"a": VALUES}, "teacher": {"a": VALUES}, "dino_loss": 0.5}
    assert unwrap(tree).keys() == {"student.a", "teacher.a"}


@pytest.mark.parametrize(
    "name",
    [
        "branchformer/asr_hybrid_tiny",
        "branchformer/tiny_learned_ave",
        "cct/cct_6_3x2_32",
        "cct/text_cct_2_k1",
        "cmt/cmt_ti_160",
        "coat/coat_lite_tiny_224",
        "cvt/cvt_13_meanpool_128",
        "deit/deit_tiny_distilled_patch16_224",
        "dino/step_tiny",
        "esvit/step_tiny_cvt_dense",
        "ibot/step_tiny_unshared",
        "levit/levit_192_img160",
        "locally_sag/cifar10_tiny",
        "localvit/localvit_pvt_tiny",
        "localvit/localvit_tiny_mlp4_act4",
        "mvit/v2_t_in1k",
        "qna/qna_vit_tiny_resnetstem",
        "regionvit/tiny_224_on_256",
        "sit/gen2_step_tiny",
        "septr/septr_tiny",
        "vit/bv_mu16_map_sharp",
        "vivit/mu16x2_fe_sharp",
    ],
)
def test_tensors_of_other_ranks_are_refused_by_their_keys(name):
    (system, variant, state), overrides = conversion_of(name)
    tensors, generator, messages = unwrap(state), random.Random(name), []
    convert(system, variant, dict(tensors), **overrides)
    # Sizes are read from the first layer and from what is in no layer.
    first = [key for key in tensors if not re.search(r"[2-9]", key)] or list(tensors)
    for step in range(24):
        damage = DAMAGES[list(DAMAGES)[step % len(DAMAGES)]]
        chosen = generator.sample(first, min(len(first), generator.choice([1, 2])))
        damaged = tensors | {key: damage(tensors[key]) for key in chosen}
        try:
            convert(system, variant, damaged, **overrides)
        except ValueError as error:  # any other type fails the test
            messages.append(str(error))
    assert len(messages) >= 12
    assert [message for message in messages if not re.search(r"\w[./_]\w", message)] == []


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8])
def test_weights_of_whole_numbers_are_refused_by_their_key(dtype):
    (system, variant, state), overrides = conversion_of("septr/septr_tiny")
    tensors = unwrap(state)
    tensors["fc.weight"] = tensors["fc.weight"].to(dtype)
    message = f"1 of another type: classifier.weight: checkpoint {dtype}, model torch.float32"
    with pytest.raises(ValueError, match=message):
        convert(system, variant, tensors, **overrides)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.float8_e4m3fn])
def test_weights_of_other_float_types_become_float32(dtype):
    (system, variant, state), overrides = conversion_of("septr/septr_tiny")
    tensors = unwrap(state)
    tensors |= {key: tensors[key].to(dtype) for key in [*list(tensors)[::2], "fc.weight"]}
    model = convert(system, variant, tensors, **overrides)
    assert torch.equal(model.classifier.weight, tensors["fc.weight"].float())


def test_a_tensor_without_axes_is_named_where_sizes_are_read():
    (system, variant, state), overrides = conversion_of("septr/septr_tiny")
    key = "transformer.0.transformer_h.layers.0.0.fn.to_qkv.weight"
    message = rf"the checkpoint does not fit: no sizes can be read from .*{re.escape(key)} \(\)"
    with pytest.raises(ValueError, match=message):
        convert(system, variant, unwrap(state) | {key: torch.tensor(1.0)}, **overrides)
