"""What every classifier can do, whatever it reads: compile, export, train in half precision, take adapters."""

import copy
import importlib
import pkgutil

import accelerate
import onnxruntime
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from torch.distributed.tensor import DTensor
from transformers.activations import ACT2FN

from hf_vits.configuration import ACTIVATIONS
from hf_vits.optim.sharding import shard, sharded_units

from ..support.hub import AUDIO, MODALITIES, TINY, VIDEO, tiny_model

IMAGES, CLIPS, SOUND = (f"AutoModelFor{kind}Classification" for kind in ("Image", "Video", "Audio"))
DIVIDED = {"pooling": "mean"}
# {what the test's name ends in: arguments of `tiny_model`}
FORMS = {
    **{name: (name, IMAGES, {}) for name in TINY},
    **{f"{name}-clips": (name, CLIPS, {}) for name in VIDEO},
    "vivit-spacetime": ("vivit", CLIPS, {"attention_type": "spacetime"}),
    "vivit-self-attention": ("vivit", CLIPS, {"attention_type": "factorized_self_attention", **DIVIDED}),
    "vivit-dot-product": ("vivit", CLIPS, {"attention_type": "factorized_dot_product", **DIVIDED}),
    "vivit-uniform-frames": ("vivit", CLIPS, {"num_sampled_frames": 2, "tubelet_size": [1, 8, 8]}),
    **{name: (name, SOUND, {}) for name in AUDIO},
    **{f"{name}-image": (name, IMAGES, {}) for name in MODALITIES},
    **{f"{name}-sound": (name, SOUND, {}) for name in MODALITIES},
}
FRAMES = 40  # of a spectrogram, where the model takes any number
WITHOUT_UNITS = ("patch_topk",)  # a network of any kind
LABELS = torch.tensor([0, 1])


def classifier(form: str):
    name, auto_class, fields = FORMS[form]
    return tiny_model(name, auto_class, **fields)


def inputs(model, batch: int = 2) -> torch.Tensor:
    """Return images, clips, waveforms or spectrograms, of the sizes that the model is made for."""
    config, generator = model.config, torch.Generator().manual_seed(0)
    if model.main_input_name == "input_values":
        return torch.randn(batch, config.padded_length(400), generator=generator)
    if model.main_input_name == "input_features":
        return torch.randn(batch, getattr(config, "num_frames", FRAMES), config.num_mel_bins, generator=generator)
    frames = getattr(config, "num_frames", None)
    return torch.rand(batch, *([] if frames is None else [frames]), 3, 32, 32, generator=generator)


@pytest.fixture(params=FORMS)
def form(request) -> str:
    return request.param


@torch.no_grad()
def test_compiles_without_a_graph_break(form):
    torch.compiler.reset()  # the classes share forward methods, whose recompilations are counted together
    model = classifier(form)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    batches = [inputs(model)]
    if form == "vivit-uniform-frames":  # whose choice of frames follows from their number
        batches.append(batches[0].repeat(1, 2, 1, 1, 1))
    for batch in batches:
        torch.testing.assert_close(compiled(batch).logits, model(batch).logits, atol=1e-5, rtol=1e-5)


def free_batch(model) -> dict:
    """Return the arguments of `torch.export.export` for a batch of any size, with two samples as example."""
    name, batch = model.main_input_name, torch.export.Dim("batch", min=1, max=64)
    return {"kwargs": {name: inputs(model)}, "dynamic_shapes": {name: {0: batch}}}


@torch.no_grad()
def test_exports_with_a_free_batch(form):
    model = classifier(form)
    exported = torch.export.export(model, (), **free_batch(model)).module()
    for size in (1, 5):
        batch = {model.main_input_name: inputs(model, size)}
        torch.testing.assert_close(exported(**batch).logits, model(**batch).logits, atol=1e-5, rtol=1e-5)


# Relative positions, on maps with as many rows as heads; a batch that is fixed lets onnxscript rewrite their products.
# Convolutional positions on several scales; random features of sound.
@pytest.mark.parametrize(("form", "is_free"), [("mvit", False), ("mvit", True), ("coat", True), ("audiomer", True)])
@torch.no_grad()
def test_onnx_runs_as_the_model(form, is_free, tmp_path):
    model = classifier(form)
    options = free_batch(model) if is_free else {"kwargs": free_batch(model)["kwargs"]}
    torch.onnx.export(model, (), **options, verbose=False).save(tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    batch = inputs(model, 3 if is_free else 2)
    logits, *_ = session.run(None, {session.get_inputs()[0].name: batch.numpy()})
    torch.testing.assert_close(torch.from_numpy(logits), model(batch).logits, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_trains_under_autocast(form, dtype):
    model = classifier(form).train()
    with torch.autocast("cpu", dtype=dtype):
        loss = model(inputs(model), labels=LABELS).loss
    loss.backward()
    assert loss.isfinite()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


@torch.no_grad()
def test_half_precision_weights_take_single_precision_inputs(form):
    model = classifier(form).to(torch.bfloat16)
    assert model(inputs(model)).logits.dtype == torch.bfloat16


@torch.no_grad()
def test_unknown_arguments_are_refused(form):
    model = classifier(form)
    for part in (model, model.base_model):
        with pytest.raises(TypeError, match=f"{type(part).__name__} got unknown arguments pixel_mask: leave them out"):
            part(inputs(model), pixel_mask=torch.ones(2, 32, 32))
    # What transformers' Trainer, pipelines and wrappers pass to every model, and an absent optional input.
    shared = {"num_items_in_batch": 2, "interpolate_pos_encoding": True, "use_cache": False, "return_dict": True}
    model(inputs(model), output_hidden_states=True, pixel_mask=None, **shared)


def gradients(model, batch: torch.Tensor) -> dict[str, torch.Tensor]:
    """Return the gradient of each parameter that has one."""
    torch.manual_seed(0)
    model(batch).logits.square().sum().backward()
    return {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}


def test_low_rank_adapters_learn_in_every_linear_layer_and_convolution(form):
    model = classifier(form)
    batch, kinds = inputs(model), nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d
    weights = {name for name, gradient in gradients(copy.deepcopy(model), batch).items() if gradient.any()}
    layers = [name for name, part in model.named_modules() if isinstance(part, kinds)]
    layers = [name for name in layers if getattr(model.get_submodule(name), "groups", 1) == 1]
    adapted = get_peft_model(model, LoraConfig(r=2, target_modules=layers, init_lora_weights=False))
    learned = {name for name, gradient in gradients(adapted, batch).items() if gradient.any()}
    used = [layer for layer in layers if f"{layer}.weight" in weights]
    for part in "AB":
        assert learned.issuperset(f"base_model.model.{layer}.lora_{part}.default.weight" for layer in used)
    with torch.no_grad():
        right = adapted(batch).logits
        torch.testing.assert_close(adapted.merge_and_unload()(batch).logits, right, atol=1e-5, rtol=1e-5)


def test_checkpointing_with_frozen_embeddings_changes_no_gradient(form):
    model = classifier(form).train()
    for part in model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        elif isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
            part.eval()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith(".bias") and "embeddings" not in name)
    checkpointed = copy.deepcopy(model)
    checkpointed.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": True})
    checkpointed.enable_input_require_grads()
    right = gradients(model, inputs(model))
    assert right
    torch.testing.assert_close(gradients(checkpointed, inputs(model)), right, atol=1e-5, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated:DeprecationWarning")
@torch.no_grad()
def test_eight_bit_weights_of_linear_layers_change_logits_little(form):
    model = classifier(form)
    right = model(inputs(model)).logits
    dynamic = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    assert not any(type(part) is nn.Linear for part in dynamic.modules())
    torch.testing.assert_close(dynamic(inputs(model)).logits, right, atol=0.02, rtol=0.02)


@torch.no_grad()
def test_weights_on_disk_change_nothing(form, tmp_path):
    model = classifier(form)
    batch = inputs(model)
    right = model(batch).logits
    model.save_pretrained(tmp_path)
    size = sum(parameter.nbytes for parameter in model.parameters())
    for fraction in (0.3, 0.5, 0.9):
        limits, folder = {"cpu": int(fraction * size)}, str(tmp_path / str(fraction))
        part = type(model).from_pretrained(tmp_path, device_map="auto", max_memory=limits, offload_folder=folder)
        assert any(parameter.is_meta for parameter in part.parameters())
        torch.testing.assert_close(part.eval()(batch).logits, right, atol=1e-5, rtol=1e-5)
    offloaded = accelerate.disk_offload(model, str(tmp_path / "all"), execution_device=torch.device("cpu"))
    assert all(parameter.is_meta for parameter in offloaded.parameters())
    torch.testing.assert_close(offloaded(batch).logits, right, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_return_dict_of_the_configuration_gives_tuples(form):
    model = classifier(form)
    right = model(inputs(model)).logits
    model.config.return_dict = False
    output = model(inputs(model))
    assert isinstance(output, tuple)
    torch.testing.assert_close(output[0], right)
    assert model(inputs(model), return_dict=True).logits.shape == right.shape


def test_unknown_activations_are_refused_at_construction(form):
    config = classifier(form).config
    fields = [name for name in vars(config) if name.endswith("_act")]
    for name in fields:
        with pytest.raises(ValueError, match=f"{name} must be one of gelu, .*, got {name}='gleu'"):
            type(config)(**{name: "gleu"})


def test_activations_are_those_of_transformers():
    assert set(ACTIVATIONS) == set(ACT2FN)


def test_layer_scale_starts_at_a_whole_number():
    model = tiny_model("vit", layer_scale_init_value=1)
    assert type(model)(model.config).model.layers[0].attention_scale.gamma.eq(1.0).all()


def test_masked_autoencoder_without_bias_of_queries_keys_and_values():
    model = tiny_model("mae", "AutoModelForPreTraining", qkv_bias=False)
    assert model(torch.rand(2, 3, 32, 32)).loss.isfinite()


def test_modules_that_fsdp_wraps_exist(form):
    model = classifier(form)
    parts = {type(module).__name__ for module in model.modules()}
    package = importlib.import_module(type(model).__module__.rpartition(".")[0])
    names = [file.name for file in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")]
    files = [importlib.import_module(name) for name in names]
    known = {name for file in files for name in vars(file)} | parts
    if form != "patch_topk":  # its layers are those of the network that it is made for
        assert parts & {*model._no_split_modules}
        assert {*model._no_split_modules} - {"TransformerLayer", "ParallelTransformerLayer"} <= known


def test_a_sharded_model_computes_what_a_whole_one_does(form, mesh):
    """Outside its own forward method, a sharded module has no whole parameters."""
    model = classifier(form)
    images = inputs(model)
    right = model(images).logits
    units = sharded_units(model)
    if form not in WITHOUT_UNITS:
        rest = {*model.parameters()} - {parameter for unit in units for parameter in unit.parameters()}
        assert len(units) > 1 or form == "coat"
        assert len(rest) < len([*model.parameters()])
    shard(model, mesh)
    assert all(isinstance(parameter, DTensor) for parameter in model.parameters())
    logits = model(images).logits
    torch.testing.assert_close(logits, right, rtol=1e-4, atol=1e-5)
    logits.sum().backward()


@pytest.mark.parametrize("normed", ["cvt", "cmt", "audiomer"])
def test_lora_saves_batch_norms_that_are_named(normed, tmp_path):
    model = classifier(normed)
    norms = [name for name, part in model.named_modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)]
    layers = [name for name, part in model.named_modules() if isinstance(part, nn.Linear)][:1]
    adapted = get_peft_model(copy.deepcopy(model), LoraConfig(r=2, target_modules=layers, modules_to_save=norms))
    adapted.train()(inputs(model))
    adapted.eval().save_pretrained(tmp_path)
    loaded = PeftModel.from_pretrained(copy.deepcopy(model), tmp_path).eval()
    with torch.no_grad():
        right = adapted(inputs(model)).logits
        assert torch.equal(loaded(inputs(model)).logits, right)
        assert not torch.equal(model(inputs(model)).logits, right)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("quantised", ["cvt", "swin", "septr", "vivit-clips"])
@torch.no_grad()
def test_dynamic_quantisation_changes_logits_little(quantised):
    """All others were tried once; see docs/guides/other-tools.md."""
    model = classifier(quantised)
    right = model(inputs(model)).logits
    small = torch.ao.quantization.quantize_dynamic(model, {nn.Linear})
    assert 0 < (small(inputs(model)).logits - right).abs().max() / right.abs().max() < 0.05
