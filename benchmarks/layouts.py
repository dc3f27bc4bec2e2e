"""Conversion of what timm, torchvision and transformers save: logits beside the library's own model.

    python -m benchmarks.layouts [--only TEXT] [--full] [--yaml FILE]

Every variant that these libraries list of our architectures is built with random weights, norms, biases and tables
included, converted, and compared on one input in float32. Models have few layers unless `--full` is given. A row says
how the largest difference of the logits compares with their standard deviation, or why the checkpoint is refused.
"""

import argparse
import datetime
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import yaml
from torch import nn

from hf_vits.configuration import pair
from hf_vits.conversion import convert
from hf_vits.conversion.core import reader  # pyright: ignore[reportMissingImports] - of conversion/

TOLERANCE = 1e-4
TIMM = {
    "vit": ("vision_transformer", "vision_transformer_hybrid"),
    "deit": ("deit",),
    "levit": ("levit",),
    "coat": ("coat",),
    "mvit": ("mvitv2",),
    "swin": ("swin_transformer",),
    "tnt": ("tnt",),
}
# {architecture: arguments of timm's models for one or few layers}
FEWER = {
    "vit": {"depth": 2},
    "deit": {"depth": 2},
    "levit": {"depth": (1, 2, 1)},
    "coat": {"serial_depths": (1, 1, 1, 1)},
    "swin": {"depths": (2, 1, 1, 1)},
    "tnt": {"depth": 2},
}


@dataclass(frozen=True)
class Case:
    """A model of a library; `make(few)` builds it, with few layers or all. `size` is its input's, without batch."""

    library: str
    system: str
    variant: str
    make: Callable[[bool], nn.Module]
    size: tuple[int, ...] = (3, 224, 224)

    @property
    def name(self) -> str:
        return f"{self.library} {self.variant}"


def cases() -> Iterator[Case]:
    yield from timm_cases()
    yield from torchvision_cases()
    yield from transformers_cases()


def timm_cases() -> Iterator[Case]:
    import timm

    for system, modules in TIMM.items():
        for module in modules:
            for name in timm.list_models(module=module):
                target = "deit" if re.search(r"_18x2_", name) else system
                size = timm.get_pretrained_cfg(name).input_size
                yield Case(
                    "timm", target, name, lambda few, name=name, system=system: timm_model(system, name, few), size
                )


def timm_model(system: str, name: str, few: bool) -> nn.Module:
    import timm
    from timm.models.mvitv2 import MultiScaleVit, model_cfgs

    if system == "mvit" and few:
        return MultiScaleVit(replace(model_cfgs[name], depths=(1, 2, 1, 1)))
    options = dict(FEWER[system]) if few and name != "coat_small" else {}  # which takes no number of layers
    if options and system == "coat" and "lite" not in name:
        options["parallel_depth"] = 1
    return timm.create_model(name, **options)


def torchvision_cases() -> Iterator[Case]:
    import torchvision
    from torchvision.models import vision_transformer

    builders = {"vit": ("b_16", "b_32", "l_16", "l_32", "h_14"), "swin": ("t", "s", "b", "v2_t", "v2_s", "v2_b")}
    for system, names in builders.items():
        for name in names:
            full = f"{system}_{name}"

            def make(few, full=full, system=system):
                if not few:
                    return getattr(torchvision.models, full)()
                if system == "vit":
                    whole = {"b": (768, 12, 3072), "l": (1024, 16, 4096), "h": (1280, 16, 5120)}[full[4]]
                    width, heads, inner = whole
                    return vision_transformer.VisionTransformer(224, int(full[-2:]), 2, heads, width, inner)
                model = getattr(torchvision.models, full)()
                for stage in (1, 3, 5, 7):
                    model.features[stage] = model.features[stage][:2]
                return model

            yield Case("torchvision", system, full, make)
    for name, size in {"v1_b": (16, 224), "v2_s": (16, 224)}.items():
        make = getattr(torchvision.models.video, f"mvit_{name}")
        yield Case("torchvision", "mvit", f"mvit_{name}", lambda few, make=make: make(), (3, *size, size[1]))


def transformers_cases() -> Iterator[Case]:
    import transformers as library

    widths = {"tiny": (192, 3), "small": (384, 6), "base": (768, 12), "large": (1024, 16), "huge": (1280, 16)}
    plain = {
        "vit": ("ViTForImageClassification", "ViTConfig", ("tiny", "small", "base", "large", "huge")),
        "vit-msn": ("ViTMSNForImageClassification", "ViTMSNConfig", ("small", "base", "large")),
        "deit": ("DeiTForImageClassificationWithTeacher", "DeiTConfig", ("tiny", "small", "base")),
        "vit-mae": ("ViTMAEForPreTraining", "ViTMAEConfig", ("base", "large", "huge")),
    }
    names = {
        "vit": "vit-{}-patch16-224",
        "deit": "deit-{}-distilled-patch16-224",
        "vit-mae": "vit-mae-{}",
        "vit-msn": "vit-msn-{}",
    }
    for kind, (model, config, sizes) in plain.items():
        for size in sizes:
            width, heads = widths[size]
            fields = {"hidden_size": width, "num_attention_heads": heads, "intermediate_size": 4 * width}
            if size == "huge":
                fields["patch_size"] = 14
            variant = names[kind].format(size).replace("huge-patch16-224", "huge-patch14-224-in21k")
            system = {"vit-msn": "vit", "vit-mae": "mae"}.get(kind, kind)

            def make(few, model=model, config=config, fields=fields, size=size, kind=kind):
                depth = {"num_hidden_layers": 2 if few else {"large": 24, "huge": 32}.get(size, 12)}
                if kind == "vit-mae" and few:
                    depth["decoder_num_hidden_layers"] = 1
                return getattr(library, model)(getattr(library, config)(**fields, **depth))

            yield Case("transformers", system, variant, make)
    yield from transformers_stages(library)


def transformers_stages(library) -> Iterator[Case]:
    """The hierarchical models of transformers."""
    from hf_vits.conversion import variants

    for name, fields in variants("levit").items():

        def levit(few, fields=fields):
            options = {key: fields[key] for key in ("hidden_sizes", "num_attention_heads", "depths")}
            options |= {"key_dim": [fields["key_dim"]] * 3} | ({"depths": [1, 2, 1]} if few else {})
            return library.LevitForImageClassificationWithTeacher(library.LevitConfig(**options))

        yield Case("transformers", "levit", f"levit-{name[6:].lower()}", levit)
    for name, depths in {"cvt-13": [1, 2, 10], "cvt-21": [1, 4, 16]}.items():

        def cvt(few, depths=depths):
            return library.CvtForImageClassification(library.CvtConfig(depth=[1, 2, 3] if few else depths))

        yield Case("transformers", "cvt", name, cvt)
    yield Case(
        "transformers",
        "vivit",
        "vivit-b-16x2-kinetics400",
        lambda few: library.VivitForVideoClassification(library.VivitConfig(num_hidden_layers=1 if few else 12)),
        (32, 3, 224, 224),
    )
    swins = {"tiny": (96, [2, 2, 6, 2], [3, 6, 12, 24]), "base": (128, [2, 2, 18, 2], [4, 8, 16, 32])}
    for name, (width, depths, heads) in swins.items():

        def swin(few, width=width, depths=depths, heads=heads):
            config = library.SwinConfig(embed_dim=width, depths=[2, 1, 1, 1] if few else depths, num_heads=heads)
            return library.SwinForImageClassification(config)

        yield Case("transformers", "swin", f"swin-{name}-patch4-window7-224", swin)
    for name, fields in variants("pvt").items():

        def pvt(few, fields=fields):
            depths = [1, 1, 1, 1] if few else fields.get("depths", [2, 2, 2, 2])
            return library.PvtForImageClassification(library.PvtConfig(depths=depths))

        yield Case("transformers", "pvt", f"{name.replace('_', '-')}-224", pvt)


def randomise(model: nn.Module, seed: int = 0) -> nn.Module:
    """Fill all weights, norms, biases and tables of a model with random values, so that none is zero or one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for key, tensor in model.state_dict().items():
            if not tensor.is_floating_point():
                continue
            noise, leaf = torch.randn(tensor.shape, generator=generator), key.rpartition(".")[2]
            if leaf == "running_var":
                tensor.copy_(0.5 + noise.abs())
            elif leaf in ("bias", "running_mean") or leaf.endswith("_bias"):
                tensor.copy_(0.1 * noise)
            elif tensor.ndim < 2:
                tensor.copy_(1 + 0.1 * noise)
            elif leaf == "weight" or leaf.endswith("_weight"):
                tensor.copy_(noise / tensor[0].numel() ** 0.5)
            else:
                tensor.copy_(0.2 * noise)
    return model.eval()


def compare(case: Case, few: bool = True) -> dict:
    """Return a row of the table: the largest difference of the outputs, or the reason of the refusal."""
    row = {"name": case.variant, "library": case.library, "architecture": case.system}
    row["layers"] = "few" if few else "all"
    try:
        with torch.device("meta"):
            reader(case.system, case.make(few).state_dict())
    except ValueError as error:
        return row | {"result": f"refused: {str(error).rpartition('no such model: ')[2]}"}
    torch.manual_seed(0)
    theirs = randomise(case.make(few))
    ours = convert(case.system, case.variant, {key: value.clone() for key, value in theirs.state_dict().items()})
    inputs = torch.randn(1, *case.size)
    height, width = pair(ours.config.image_size)  # timm leaves pixels out that fill no patch, as do 384 by 14
    seen = inputs[..., : min(height, case.size[-2]), : min(width, case.size[-1])]
    with torch.no_grad():
        expected, got = output(theirs, inputs), output(ours, seen, case.library == "torchvision")
    if expected.shape != got.shape:
        return row | {"result": f"shapes {tuple(expected.shape)} and {tuple(got.shape)}"}
    difference = (expected - got).abs().max().item() / max(1.0, expected.std().item())
    return row | {"difference": float(f"{difference:.1e}"), "result": "equal" if difference < TOLERANCE else "differs"}


def output(model: nn.Module, inputs: torch.Tensor, channels_first: bool = False) -> torch.Tensor:
    """Return logits; for MAE, what it reconstructs with a fixed order of the patches."""
    if inputs.ndim == 5 and channels_first:
        inputs = inputs.transpose(1, 2)  # torchvision's clips are (channels, frames, height, width)
    if "PreTraining" in type(model).__name__:
        patches = (model.config.image_size // model.config.patch_size) ** 2
        return model(inputs, noise=torch.linspace(0, 1, patches)[None]).logits
    outputs = model(inputs)
    return outputs if isinstance(outputs, torch.Tensor) else outputs.logits


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", default="", help="only cases whose library and variant contain this regular expression"
    )
    parser.add_argument("--full", action="store_true", help="all layers")
    parser.add_argument("--yaml", type=Path, help="file to write the table to")
    options = parser.parse_args(arguments)
    rows = []
    for case in cases():
        if re.search(options.only, case.name):
            try:
                rows.append(compare(case, not options.full))
            except Exception as error:  # a variant that fails is a row, too
                rows.append({"name": case.variant, "library": case.library, "result": f"failed: {error}"[:300]})
            print({key: value for key, value in rows[-1].items() if key != "layers"}, flush=True)
            if options.yaml:
                write(options.yaml, rows)


def write(path: Path, rows: list[dict]) -> None:
    import timm
    import torchvision
    import transformers

    versions = [f"{library.__name__} {library.__version__}" for library in (torch, timm, torchvision, transformers)]
    measured = {"device": "CPU", "dtype": "float32", "date": datetime.date.today(), "versions": ", ".join(versions)}
    columns = {
        "library": "library",
        "architecture": "converted by",
        "layers": "layers",
        "difference": "largest difference",
        "result": "result",
    }
    rows = [row | ({"difference": f"{row['difference']:.1e}"} if "difference" in row else {}) for row in rows]
    data = {"command": "python -m benchmarks.layouts", "measured": measured, "subject": "variant", "columns": columns}
    path.write_text(yaml.safe_dump(data | {"rows": rows}, sort_keys=False, width=1000), encoding="utf-8")


if __name__ == "__main__":
    main()
