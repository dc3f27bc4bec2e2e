"""Export to ONNX, checked in onnxruntime right after it is written."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.initialization import no_init_weights

from hf_vits.files import writing
from hf_vits.folders import check_free, replaced

from .inputs import one_input

FILE = "model.onnx"
TOLERANCE = 1e-4  # relative to the largest output, or to 1 if that is larger
_BATCH = torch.export.Dim("batch", min=1, max=65536)
_LARGEST = 2**31  # bytes of a file without external data


def export_onnx(
    model: PreTrainedModel,
    path: str | os.PathLike,
    processor: Any = None,
    *,
    int8: bool = False,
    check: bool = True,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Write a model as `model.onnx`, with its configuration, labels and processor beside it, to a folder.

    The batch has any size. So have images and clips, in height and width, where the architecture computes at other
    sizes and the graph of all of them is one. The folder is written whole or not at all.

    Args:
        model: in eval mode and float32.
        path: new or empty folder.
        processor: of the model's inputs, saved beside it.
        int8: quantise the weights of linear layers to int8, per output channel, and their inputs dynamically.
        check: compare the outputs in onnxruntime with PyTorch's, at batches of 1 and 3 and, where it is free, at
            several sizes. With int8 the graph is compared before it is quantised.
        overwrite: replace a folder that holds a saved model.

    Returns:
        outputs: names of the outputs, in order.
        sizes: image sizes that the graph takes: "any" that the model takes, "multiples of HxW", or "HxW"; None for
            other inputs.
        difference: largest difference from PyTorch, relative to the largest output or 1; None without check.
        int8_difference: the same of the quantised graph; None without int8 or check.

    Raises:
        ImportError: onnx, onnxscript or onnxruntime is not installed.
        ValueError: the model is in training mode, not float32, or takes inputs that are no tensors.
        RuntimeError: the graph computes something else than the model; nothing is written.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise ImportError(f"an export to ONNX needs {error.name}: pip install 'hf_vits[export]'") from error

    if model.training:
        raise ValueError("an export keeps the behaviour of inference: call model.eval() first")
    if wrong := {str(p.dtype) for p in model.parameters() if p.is_floating_point()} - {"torch.float32"}:
        raise ValueError(
            f"an export needs weights of torch.float32, got {', '.join(sorted(wrong))}: call model.float()"
        )
    example = one_input(model)
    if any(isinstance(value, dict) for value in example.values()):
        raise ValueError(f"a {type(model).__name__} takes arrays by name, and ONNX has no such input")
    path = Path(path)
    check_free(path, overwrite)
    with replaced(path) as folder, eager(model):
        folder.mkdir()
        with writing(path):
            result = _write(model, example, folder / FILE, check)
            result["int8_difference"] = _quantize(model, example, folder / FILE, check) if int8 else None
            model.config.save_pretrained(folder)
            if processor is not None:
                processor.save_pretrained(folder)
    return result


@contextmanager
def eager(model: PreTrainedModel) -> Iterator[None]:
    """Compute attention step by step inside the context: PyTorch's fused kernel does not decompose to every shape."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def _write(model: PreTrainedModel, example: dict[str, torch.Tensor], path: Path, check: bool) -> dict[str, Any]:
    """Write the graph with as much freedom of image size as it has, and return the first three entries of a result."""
    for size, others, text in free_sizes(model, example):
        try:
            outputs = _export(model, resized(example, size), path, is_free=True)
            worst = _check(model, example, others, path) if check else None
        except OSError:
            raise
        except Exception:  # of the exporter, which has many kinds, and of the check: the next form is less free
            continue
        return {"outputs": outputs, "sizes": text, "difference": worst}
    outputs = _export(model, example, path, is_free=False)
    worst = _check(model, example, [None], path) if check else None
    size = "x".join(map(str, native_size(example))) if "pixel_values" in example else None
    return {"outputs": outputs, "sizes": size, "difference": worst}


def native_size(example: dict[str, torch.Tensor]) -> tuple[int, int]:
    """Return (height, width) of the images in an example."""
    height, width = example["pixel_values"].shape[-2:]
    return height, width


def free_sizes(
    model: PreTrainedModel, example: dict[str, torch.Tensor]
) -> Iterator[tuple[tuple[int, int], list[tuple[int, int]], str]]:
    """Yield (size to trace, sizes to check, description) of each way in which image sizes may be free.

    A trace follows one branch of the model, so it is made at a size where positions are resized, maps padded, and
    height and width differ: the steps of that branch are right at other sizes too. First comes the smallest size above
    the model's own that it takes, then a multiple.
    """
    if "pixel_values" not in example:
        return
    height, width = native_size(example)
    meta = empty_copy(model)
    larger = ((height + step, width + 3 * step) for step in (4, 8, 16, 32, 64) if step < min(height, width))
    odd = next((size for size in larger if takes(meta, resized(example, size))), None)
    multiples = [(height, width), (height, 2 * width), (3 * height, 2 * width)]
    multiples = [size for size in multiples if takes(meta, resized(example, size))]
    if odd is not None:
        yield odd, [*multiples, odd], "any"
    if len(multiples) > 1 and takes(meta, resized(example, (2 * height, 3 * width))):
        yield (2 * height, 3 * width), multiples, f"multiples of {height}x{width}"


def empty_copy(model: PreTrainedModel) -> PreTrainedModel:
    """Return a model of the same configuration on the meta device, in eval mode."""
    with torch.device("meta"), no_init_weights():
        return type(model)(model.config).eval().to("meta")


@torch.no_grad()
def takes(meta: PreTrainedModel, example: dict[str, torch.Tensor]) -> bool:
    """Return whether a model on the meta device computes at the sizes of an example."""
    try:
        meta(**example)
    except (ValueError, RuntimeError):
        return False
    return True


def resized(example: dict[str, torch.Tensor], size: tuple[int, int] | None) -> dict[str, torch.Tensor]:
    """Return an example with images of another size; None: of its own."""
    if size is None:
        return example
    pixels = example["pixel_values"]
    return example | {"pixel_values": pixels.new_empty(*pixels.shape[:-2], *size)}


def drawn(model: PreTrainedModel, example: dict[str, torch.Tensor], batch: int) -> dict[str, torch.Tensor]:
    """Return random inputs on the model's device with the shapes of an example, in a batch."""
    generator, tensors = torch.Generator().manual_seed(0), {}
    for name, value in example.items():
        shape = (batch, *value.shape[1:])
        if value.is_floating_point():
            tensors[name] = torch.randn(shape, generator=generator).to(model.device)
        else:
            tensors[name] = torch.randint(model.config.vocab_size, shape, generator=generator).to(model.device)
    return tensors


@torch.no_grad()
def _export(model: PreTrainedModel, example: dict[str, torch.Tensor], path: Path, is_free: bool) -> list[str]:
    """Write the graph that is traced with an example, and return the names of its outputs."""
    outputs = list(named_outputs(empty_copy(model)(**example)))
    dynamic: dict[str, dict[int, Any]] = {name: {0: _BATCH} for name in example}
    if is_free:
        dimensions = example["pixel_values"].ndim
        dynamic["pixel_values"] |= dict.fromkeys((dimensions - 2, dimensions - 1), torch.export.Dim.AUTO)
    program = torch.onnx.export(
        model,
        (),
        kwargs=drawn(model, example, 2),
        dynamic_shapes=dynamic,
        output_names=outputs,
        verbose=False,
    )
    shape = program.model.graph.inputs[0].shape
    if is_free and any(isinstance(side, int) for side in shape[-2:]):
        raise ValueError("the sizes were fixed by the trace")
    program.save(path)
    return outputs


def named_outputs(output: Any) -> dict[str, torch.Tensor]:
    """Return {name: tensor} of a model's output; tensors of a tuple are numbered."""
    named = {}
    for name, value in output.items():
        values = {name: value} if isinstance(value, torch.Tensor) else {f"{name}.{i}": v for i, v in enumerate(value)}
        named |= values
    return named


@torch.no_grad()
def _check(
    model: PreTrainedModel, example: dict[str, torch.Tensor], sizes: list, path: Path, limit=TOLERANCE
) -> float:
    """Return the largest relative difference between onnxruntime and PyTorch.

    Raises:
        RuntimeError: it is above the limit, or onnxruntime does not run the graph.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 4  # its errors are raised too
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # RuntimeException, InvalidGraph and others of its own
        raise RuntimeError(f"onnxruntime does not read the graph of {type(model).__name__}: {error}") from error
    worst = 0.0
    for size, batch in product(sizes, (1, 3)):
        inputs = drawn(model, resized(example, size), batch)
        try:
            found = session.run(None, {name: value.cpu().numpy() for name, value in inputs.items()})
        except Exception as error:
            raise RuntimeError(f"onnxruntime fails on the graph of {type(model).__name__}: {error}") from error
        for (name, right), array in zip(named_outputs(model(**inputs)).items(), found, strict=True):
            difference = (torch.from_numpy(array) - right.cpu()).abs().max() / right.abs().max().clamp(min=1.0).cpu()
            if not difference <= limit:
                raise RuntimeError(
                    f"in onnxruntime {name} of {type(model).__name__} differs from PyTorch's by {difference:.2g} of "
                    f"its largest value, more than {limit:g}; check=False skips this check"
                )
            worst = max(worst, difference.item())
    return worst


def _quantize(model: PreTrainedModel, example: dict[str, torch.Tensor], path: Path, check: bool) -> float | None:
    """Replace the graph in a file by its int8 form; return how far its outputs are from PyTorch's."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    written = path.with_name(f"float-{path.name}")
    path.rename(written)
    size = sum(file.stat().st_size for file in path.parent.iterdir())
    graph = onnx.load(written, load_external_data=False)
    del graph.graph.value_info[:]  # onnxruntime before 1.31 transposes weights, but not the shapes recorded here
    onnx.save(graph, written)
    # Signed weights: onnxruntime has faster kernels for them than for unsigned ones.
    quantize_dynamic(
        written,
        path,
        op_types_to_quantize=["MatMul", "Gemm"],
        per_channel=True,
        weight_type=QuantType.QInt8,
        use_external_data_format=size > _LARGEST,
    )
    written.unlink()
    written.with_name(f"{path.name}.data").unlink(missing_ok=True) if size <= _LARGEST else None
    return _check(model, example, [None], path, limit=float("inf")) if check else None
