"""The steps of converting a checkpoint that are the same for every system.

`converting` has the function that takes them all, `search` finds system and variant of a checkpoint.
"""

import importlib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from difflib import get_close_matches
from functools import cache, partial
from pkgutil import iter_modules
from statistics import fmean
from types import ModuleType

import torch
from transformers import CONFIG_MAPPING, PreTrainedModel
from transformers.core_model_loading import (
    WeightConverter,
    WeightRenaming,
    WeightTransform,
    apply_converters,
    apply_renamings,
)
from transformers.initialization import no_init_weights

from hf_vits.layers.position import PositionEmbedding, interpolate_positions

from . import layouts, systems
from .shared.layout import Layout

SYSTEMS = tuple(module.name for module in iter_modules(systems.__path__))
# Configuration fields that determine the grid of a position table.
SIZES = ("image_size", "num_frames")
# Configuration fields whose override asks for tables, or kernels, to be resized.
RESIZING = (*SIZES, "max_position_embeddings", "window_size", "window_sizes", "kernel_sizes")


def system(name: str) -> ModuleType:
    """Return the conversion module of a system; ValueError with the known names if there is none."""
    if name not in SYSTEMS:
        raise ValueError(f"unknown system {name!r}{suggestion(name, SYSTEMS)}; known: {', '.join(SYSTEMS)}")
    return importlib.import_module(f".systems.{name}", __package__)


def variants(name: str) -> dict[str, dict]:
    """Return {published name: configuration fields} of a system."""
    return dict(system(name).VARIANTS)


@cache
def layouts_of(name: str) -> list[Layout]:
    """Return the layouts in which other libraries save a system's models."""
    modules = [
        importlib.import_module(f".layouts.{part.name}", __package__) for part in iter_modules(layouts.__path__)
    ]
    return [layout for module in modules for layout in module.LAYOUTS if layout.system == name]


def reader(name: str, tensors: Mapping[str, torch.Tensor]) -> ModuleType | Layout:
    """Return what reads the tensors: the layout of another library, if they have its keys, else the system's module.

    Raises:
        ValueError: the library's model computes what no model of ours does.
    """
    for layout in layouts_of(name):
        if layout.recognises(tensors):
            layout.check(tensors)
            return layout
    return system(name)


def variant_fields(name: str, variant: str, layout: Layout | None = None) -> dict:
    """Return the configuration fields of a published variant, or of one that another library names.

    Args:
        layout: layout of the checkpoint, whose library's fixed values replace those of the system's variant.

    Raises:
        ValueError: the system has no such variant.
    """
    known = system(name).VARIANTS
    for other in [layout] if layout else layouts_of(name):
        if variant in other.VARIANTS:
            return dict(other.VARIANTS[variant])
    if layout is not None and variant in known:
        return known[variant] | layout.FIXED
    if variant not in known:
        raise ValueError(
            f"unknown variant {variant!r} of {name}{suggestion(variant, known)}; `hf-vits list {name}` prints all "
            f"{len(known)}: {', '.join(list(known)[:8])}, ..."
        )
    return dict(known[variant])


def with_inferred(fields: dict, inferred: dict, overrides: dict) -> dict:
    """Return `fields` updated with the inferred ones, except for fields that the caller has set in `overrides`."""
    merged = dict(fields)
    for key, value in inferred.items():
        if isinstance(value, dict) and isinstance(fields.get(key), dict):
            merged[key] = with_inferred(fields[key], value, overrides.get(key) or {})
        elif key not in overrides:
            merged[key] = value
    return merged


def without_sizes(overrides: dict) -> dict:
    """Return the overrides, nested ones included, without the fields in `SIZES`."""
    return {
        key: without_sizes(value) if isinstance(value, dict) else value
        for key, value in overrides.items()
        if key not in SIZES
    }


def asks_to_resize(overrides: dict) -> bool:
    """Return whether the overrides, nested ones included, contain one of the fields in `RESIZING`."""
    return any(
        key in RESIZING or (isinstance(value, dict) and asks_to_resize(value)) for key, value in overrides.items()
    )


def with_overrides(fields: dict, overrides: dict) -> dict:
    """Return `fields` updated with `overrides`; a nested configuration, a dict, is updated field by field."""
    parts = {key: fields[key] | value for key, value in overrides.items() if isinstance(fields.get(key), dict)}
    return fields | overrides | parts


def suggestion(word: str, known) -> str:
    """Return the part of a message that suggests the known name closest to `word`, empty if none is close."""
    close = get_close_matches(word, list(known), n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def converted(name: str, variant: str, tensors: dict[str, torch.Tensor], overrides: dict) -> PreTrainedModel:
    """Return the model for tensors, which may be on the meta device; see `converting.convert`."""
    module = reader(name, tensors)
    published = variant_fields(name, variant, module if isinstance(module, Layout) else None)
    fields = with_overrides(published, overrides)
    tensors = ReadTensors(tensors)
    with tensors.fitting():
        recorded = module.infer_original(tensors) if hasattr(module, "infer_original") else {}
        fields = with_inferred(fields, recorded, overrides)
        prepared = module.prepare(tensors, fields)
    tensors = ReadTensors(prepared)
    with tensors.fitting():
        inferred = recorded | module.infer(tensors, fields)
    fields = with_inferred(fields, inferred, overrides)
    model_class = module.model_class(fields)
    known = model_class.config_class.__dataclass_fields__.keys() | {"num_labels", "attn_implementation"}
    known |= {"out_features"} if hasattr(model_class.config_class, "out_features") else set()
    if unknown := sorted(overrides.keys() - known):
        raise ValueError(
            f"{model_class.config_class.__name__} has no field {unknown[0]!r}{suggestion(unknown[0], known)}"
        )
    check_heads(model_class.config_class, published, overrides, inferred)
    model = build(model_class, fields)
    others = without_sizes(overrides)
    own = with_inferred(with_overrides(published, others), recorded, others)
    resize = asks_to_resize(overrides)
    ours = apply_transforms(tensors, module.transforms(model.config), model, resize=resize)
    if resize:
        fit_position_tables(model, ours, partial(position_grids, module, own, others, tensors))
    load(model, ours, f"{name} {variant}")
    return model


class ReadTensors(dict[str, torch.Tensor]):
    """{key: tensor} that remembers which tensors were read, to name them where one is not as expected."""

    def __init__(self, tensors: Mapping[str, torch.Tensor]):
        super().__init__(tensors)
        self.read: dict[str, None] = {}

    def __getitem__(self, key: str) -> torch.Tensor:
        value = super().__getitem__(key)
        self.read[key] = self.read.pop(key, None)  # to the end
        return value

    def get(self, key: str, default=None):
        return self[key] if key in self else default  # noqa: SIM401 - dict's own would not remember

    @contextmanager
    def fitting(self) -> Iterator[None]:
        """Raise what tensors of other shapes cause as ValueError that names the tensors that were read last."""
        try:
            yield
        except NotImplementedError:  # of tensors without values, where a conversion compares some
            raise
        except (TypeError, LookupError, RuntimeError, ArithmeticError, AttributeError) as error:
            last = [f"{key} {tuple(dict.get(self, key).shape)}" for key in list(self.read)[-4:]]
            raise ValueError(
                f"the checkpoint does not fit: no sizes can be read from {', '.join(last) or 'its tensors'}: {error}. "
                "Is it of another variant or architecture?"
            ) from error


# {field of a width: field of its number of heads, which no tensor records}
HEADS = {
    "hidden_size": "num_attention_heads",
    "hidden_sizes": "num_attention_heads",
    "decoder_hidden_size": "decoder_num_attention_heads",
}


def check_heads(config_class: type, variant: dict, overrides: dict, inferred: dict) -> None:
    """Raise ValueError if the file has another width than the variant, since its number of heads is then unknown."""
    for part, fields in inferred.items():
        if isinstance(fields, dict) and isinstance(variant.get(part), dict):
            part_class = CONFIG_MAPPING[variant[part]["model_type"]]
            check_heads(part_class, variant[part], overrides.get(part, {}), fields)
    for width, heads in HEADS.items():
        if width not in inferred or {width, heads} & overrides.keys() or heads in inferred:
            continue
        if not hasattr(config_class, heads):  # a network without attention
            continue
        known = variant.get(width, getattr(config_class, width))
        if (list(known) if isinstance(known, (list, tuple)) else known) != inferred[width]:
            raise ValueError(
                f"the checkpoint does not fit: it has {width}={inferred[width]}, the variant {width}={known}. Is it "
                f"of another variant or architecture? If not, pass its number of heads, {heads}=..., which no tensor "
                "records"
            )


def position_grids(
    module: ModuleType | Layout, fields: dict, overrides: dict, tensors: dict[str, torch.Tensor]
) -> dict[str, tuple[int, ...]]:
    """Return {name of a position embedding: grid of its table} of the checkpoint, before any change of input size.

    Args:
        fields: configuration fields without the overrides of sizes.
        overrides: the other overrides.
        tensors: what `module.prepare` returned.
    """
    fields = with_inferred(fields, module.infer(tensors, fields), overrides)
    with torch.device("meta"):
        model = build(module.model_class(fields), fields)
    return {key: part.grid for key, part in model.named_modules() if isinstance(part, PositionEmbedding)}


def build(model_class: type[PreTrainedModel], fields: dict, **options) -> PreTrainedModel:
    """Return a model in eval mode whose weights are allocated but not initialised, for a checkpoint to fill."""
    with no_init_weights():
        return model_class(model_class.config_class(**fields), **options).eval()


def load(model: PreTrainedModel, tensors: dict[str, torch.Tensor], source: str) -> None:
    """Load tensors under the model's own keys into `model`, in place; `source` names the checkpoint for messages.

    Raises:
        ValueError: keys are missing, unexpected or misshapen; the message lists them.
    """
    expected = model.state_dict()
    misshapen = [
        f"{key}: checkpoint {tuple(tensors[key].shape)}, model {tuple(expected[key].shape)}"
        for key in expected
        if key in tensors and tensors[key].shape != expected[key].shape
    ]
    kinds = {key: (value.dtype, expected[key].dtype) for key, value in tensors.items() if key in expected}
    problems = {
        "of another type": [
            f"{key}: checkpoint {found}, model {wanted}"
            for key, (found, wanted) in kinds.items()
            if found.is_floating_point != wanted.is_floating_point
        ],
        "missing": [key for key in expected if key not in tensors],
        "unexpected": [str(key) for key in tensors if key not in expected],
        "misshapen": misshapen,
    }
    if any(problems.values()):
        listed = "; ".join(f"{len(keys)} {what}: {', '.join(keys[:8])}" for what, keys in problems.items() if keys)
        raise ValueError(
            f"the checkpoint does not fit {source}: {listed}. Is it of another variant or architecture? A head for "
            "other classes is replaced after conversion: from_pretrained(..., num_labels=N, "
            "ignore_mismatched_sizes=True)"
        )
    float32 = {key: value.float() if value.is_floating_point() else value for key, value in tensors.items()}
    model.load_state_dict(float32, assign=True)


def fit_position_tables(
    model: PreTrainedModel, tensors: dict[str, torch.Tensor], grids: Callable[[], Mapping[str, tuple[int, ...]]]
) -> None:
    """Resize, in place, the position tables among tensors under the model's own keys to the grids of `model`.

    Args:
        grids: returns {name of a position embedding: grid of its table in the checkpoint}, as far as they are known;
            called only if a table has another size than the model's.
    """
    for key, module in model.named_modules():
        if isinstance(module, PositionEmbedding) and f"{key}.table" in tensors:
            tensors[f"{key}.table"] = fit_position_table(module, tensors[f"{key}.table"], grids, key)


def fit_position_table(
    module: PositionEmbedding,
    table: torch.Tensor,
    grids: Callable[[], Mapping[str, tuple[int, ...]]],
    key: str,
) -> torch.Tensor:
    """Return the table resized to the grid of `module`; unchanged if its own grid is neither known nor guessed."""
    num_prefix = module.table.shape[1] - math.prod(module.grid)
    if table.ndim != 3 or table.shape == module.table.shape:
        return table
    count, old_grid = table.shape[1] - num_prefix, grids().get(key)
    if old_grid is None or math.prod(old_grid) != count:
        old_grid = guess_grid(count, module.grid)
    return table if old_grid is None else interpolate_positions(table, old_grid, module.grid, module.interpolation)


def guess_grid(count: int, grid: tuple[int, ...]) -> tuple[int, ...] | None:
    """Guess the grid of a position table with `count` rows for a model whose grid is `grid`; None if nothing fits.

    For a sequence (length,) the length is `count`. For an image (height, width) the grid is square. For a clip
    (frames, height, width) either the frames or the height and width are kept, whichever gives the larger image.
    """
    if count <= 0:
        return None
    if len(grid) == 1:
        return (count,)
    *frames, height, width = grid
    side = math.isqrt(count // math.prod(frames))
    squares = [(*frames, side, side)] if math.prod(frames) * side * side == count and side else []
    if frames and count % (height * width) == 0:
        squares.append((count // (height * width), height, width))
    return max(squares, key=lambda sizes: math.prod(sizes[-2:]), default=None)


def apply_transforms(
    tensors: Mapping[str, torch.Tensor],
    transforms: list[WeightTransform],
    model: PreTrainedModel | None = None,
    reverse: bool = False,
    resize: bool = True,
) -> dict[str, torch.Tensor]:
    """Rename and convert tensors as transformers does when it loads a model, or the other way round with `reverse`.

    Raises:
        ValueError: tensors do not fit a converter or, unless `resize`, a converter would resize them.
    """
    if reverse:
        transforms = [transform.reverse_transform() for transform in reversed(transforms)]
    renamings = [transform for transform in transforms if isinstance(transform, WeightRenaming)]
    by_pattern = {
        pattern: transform
        for transform in transforms
        if isinstance(transform, WeightConverter)
        for pattern in transform.source_patterns
    }
    converters = list({id(transform): transform for transform in by_pattern.values()}.values())
    converted, pending, sources, elements = {}, {}, {}, {}
    for key, tensor in tensors.items():
        # Converters name the final key when reading an original, and the first when going back.
        target, pattern = apply_converters(key if reverse else apply_renamings(key, renamings), converters)
        if pattern is not None:
            pending.setdefault(target, deepcopy(by_pattern[pattern])).add_tensor(target, key, pattern, tensor)
            sources.setdefault(target, []).append(f"{key} {tuple(tensor.shape)}")
            elements[target] = elements.get(target, 0) + tensor.numel()
        else:
            converted[apply_renamings(target, renamings) if reverse else target] = tensor
    for target, converter in pending.items():
        try:
            parts = converter.convert(target, model=model, config=getattr(model, "config", None))
        except (RuntimeError, IndexError, TypeError) as error:
            raise ValueError(
                f"the checkpoint does not fit: {target} cannot be made from tensors of these shapes: "
                f"{', '.join(sources[target])}. Is it of another variant or architecture?"
            ) from error
        parts = {key: value[0] if isinstance(value, list) else value for key, value in parts.items()}
        if not resize and sum(value.numel() for value in parts.values()) != elements[target]:
            made = ", ".join(f"{key} {tuple(value.shape)}" for key, value in parts.items())
            raise ValueError(
                f"the checkpoint does not fit: {', '.join(sources[target])} would be resized to {made}. If that is "
                "meant, give the size of the input, image_size=... or num_frames=..."
            )
        for key, value in parts.items():
            converted[apply_renamings(key, renamings) if reverse else key] = value.contiguous()
    return converted


def original_fields(name: str, recipe: dict, **overrides) -> dict:
    """Return the fields to `convert` with, read from the original's training configuration, with `overrides` applied.

    Args:
        recipe: content of the configuration file.

    Raises:
        ValueError: the system's checkpoints need no such file.
    """
    if not hasattr(system(name), "original_fields"):
        raise ValueError(f"checkpoints of {name} need no training configuration: leave it out")
    return with_overrides(system(name).original_fields(recipe, overrides), overrides)


def processor(name: str, variant: str, model: PreTrainedModel, recipe: dict | None = None):
    """Return the image, video or audio processor that repeats the original's evaluation preprocessing.

    Args:
        recipe: content of the file for `original_fields`.

    Returns:
        The processor; None for a text model whose original has no tokenizer.
    """
    options = {} if recipe is None else {"recipe": recipe}
    made = system(name).processor(original_name(name, variant), model.config, **options)
    if not isinstance(made, dict):
        return made
    from hf_vits.processing.image import VitsImageProcessor

    made = VitsImageProcessor(**made)
    channels = getattr(model.config, "num_channels", 3)
    if channels != 3:  # the average of RGB for each channel, as timm's loader has it (timm, data/loader.py)
        made.do_grayscale, made.do_convert_rgb = channels == 1, False
        made.image_mean, made.image_std = ([fmean(values)] * channels for values in (made.image_mean, made.image_std))
    return made


def original_name(name: str, variant: str) -> str:
    """Return the system's own name of a variant that a library names otherwise, or of its first variant."""
    known = system(name).VARIANTS
    if variant in known:
        return variant
    fields = variant_fields(name, variant)
    return next((own for own, same in known.items() if same == fields), next(iter(known)))


# {transformers' model_type: our system}, where the names differ
THEIR_NAMES = {"vit_mae": "mae", "vit_msn": "vit"}


def from_transformers(model: PreTrainedModel) -> PreTrainedModel:
    """Return our model with the weights and outputs of a model of transformers; ValueError for other architectures."""
    return system_of_transformers(model).from_transformers(model)


def to_transformers(model: PreTrainedModel) -> PreTrainedModel:
    """Return transformers' own model with the weights and outputs of a model of ours.

    Raises ValueError, which gives the reason, for an architecture or a feature that transformers lacks.
    """
    return system_of_transformers(model).to_transformers(model)


def name_of(model_type: str) -> str:
    """Return the name that a system with models of this `model_type`, ours or transformers', would have."""
    return THEIR_NAMES.get(model_type, model_type.removeprefix("hf_vits_"))


def system_of_transformers(model: PreTrainedModel) -> ModuleType:
    name = name_of(model.config.model_type)
    if name in SYSTEMS and hasattr(system(name), "to_transformers"):
        return system(name)
    raise ValueError(f"no conversion between hf_vits and transformers for model_type {model.config.model_type!r}")
