"""Eight-bit weights of linear layers by torchao."""

from typing import Literal

from torch import nn
from transformers import PreTrainedModel, TorchAoConfig
from transformers.quantizers.auto import AutoHfQuantizer


def quantize(model: PreTrainedModel, precision: Literal["int8", "int8_weights"] = "int8") -> PreTrainedModel:
    """Give linear layers weights of eight bits, in place, by torchao.

    `save_pretrained` writes the quantised weights, a quarter of the size, and `from_pretrained` loads them. Layers
    with one input feature, which torchao 0.18 cannot take, stay as they are.

    Args:
        model: in eval mode.
        precision: `int8` also quantises the layers' inputs, by the range of each token, so that the products are of
            integers: faster where the CPU or GPU has them and the model is compiled. `int8_weights` saves memory
            alone.

    Returns:
        The same model.

    Raises:
        ImportError: torchao is not installed.
        ValueError: the precision is unknown, the model is in training mode, quantised already, or has no layer that
            can be quantised.
    """
    try:
        from torchao.quantization import (  # pyright: ignore[reportMissingImports] - optional, in a folder of its own
            Int8DynamicActivationInt8WeightConfig,
            Int8WeightOnlyConfig,
            quantize_,
        )
    except ImportError as error:
        raise ImportError("quantisation needs torchao: pip install 'hf_vits[quantization]'") from error

    kinds = {"int8": Int8DynamicActivationInt8WeightConfig, "int8_weights": Int8WeightOnlyConfig}
    if precision not in kinds:
        raise ValueError(f"precision must be one of {', '.join(kinds)}, got {precision!r}")
    if model.training:
        raise ValueError("quantised weights are for inference: call model.eval() first")
    if getattr(model, "hf_quantizer", None) is not None:
        raise ValueError(f"this {type(model).__name__} is quantised already")
    linear = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    left = [name for name, module in linear.items() if module.in_features == 1]
    if len(left) == len(linear):
        raise ValueError(f"this {type(model).__name__} has no linear layer that can be quantised")
    config = kinds[precision]()
    quantize_(model, config, filter_fn=lambda module, name: name in linear and name not in left)
    # What `from_pretrained` sets for a model that it quantises, and `save_pretrained` reads.
    settings = TorchAoConfig(config, modules_to_not_convert=left)
    model.config.quantization_config = settings
    model.hf_quantizer = AutoHfQuantizer.from_config(settings)
    return model
