"""Configuration of SiT in its three generations (Sara-Ahmed/SiT)."""

from typing import ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig

from ...configuration import VitsConfig
from ..dino.configuration_dino import BackboneConfig, as_backbone_config

TASKS = ("rotation", "contrastive", "reconstruction")
KINDS = ("noise", "zeros", "shuffle")

# Fields in which a generation differs from the defaults, which are the third's; without the backbone, which has two
# prefix tokens in the first two (DeiT with distilled=True) and one in the third.
GENERATIONS = {
    # July 2021, commit 1aacd6a: vision_transformer_SiT.py, losses.py, engine.py
    1: {
        "momentum_teacher": False,
        "tasks": list(TASKS),
        "head": "linear",
        "embedding_size": 512,
        "num_reconstruction_layers": 0,
        "weighting": "exponential",
        "corrupted_only": False,
        "temperature": 0.5,
        "rotate_clockwise": True,
        "corruption": "distortions",
    },
    # June 2022, commit 7e553e7: vision_transformer_SiT.py, main.py
    2: {
        "momentum_teacher": False,
        "tasks": list(TASKS),
        "head": "mlp",
        "head_hidden_size": 2048,
        "num_reconstruction_layers": 2,
        "weighting": "inverse_square",
        "temperature": 0.5,
        "rotate_clockwise": False,
        "block_kinds": ["noise"],
        "dropped_share": 0.7,
        "replaced_share": 0.35,
    },
    # December 2022, commit 7f22e9c: vision_transformer.py, main.py
    3: {},
}


@strict
class SiTConfig(VitsConfig):
    """Configuration of SiT; the defaults are the ViT-S/16 of its third generation.

    `GENERATIONS` has the fields of each generation: `SiTConfig(**GENERATIONS[2], backbone_config=...)`.

    Args:
        backbone_config: of the backbone, a ViT with a class token or, where rotation is among the tasks, with two
            prefix tokens, of which the first tells the rotation and the last is compared; as a dict it names its
            `model_type`. A teacher has the same without stochastic depth.
        momentum_teacher: whether a teacher, which follows the student, sees the clean views and gives the embeddings
            that the student's are compared with; without, the student's two views are compared with each other.
        tasks: what is learnt, of "rotation", "contrastive" and "reconstruction"; with a teacher the last two.
        head: in front of contrast and rotation: a "linear" layer, an "mlp" of three layers without biases, or a
            "batch_norm_mlp", which rotation cannot have.
        head_hidden_size: of the MLPs.
        embedding_size: channels that are compared.
        num_reconstruction_layers: linear layers between patch tokens and the convolution that paints their pixels.
        weighting: how learnt uncertainty weighs the tasks, as in `UncertaintyWeighting`; None sums them. Not with a
            teacher.
        corrupted_only: whether reconstruction looks at corrupted pixels alone; with a teacher always.
        reconstruction_weight: factor of the reconstruction beside a teacher.
        temperature: divides the similarities that are compared.
        rotate_clockwise: direction of the quarter turns that the rotation task counts.
        corruption: what happens to the student's views: "distortions" as of the first generation (a grey and a blurred
            block, blocks of noise, blocks of another image), or "blocks" over a larger part of the image.
        block_kinds: what fills the blocks, of "noise", "zeros" and "shuffle", one drawn for each view.
        dropped_share: most of the pixels that the blocks take.
        replaced_share: likewise where the blocks are of another image; 0: never.
        replacement_probability: that they are of another image.
        block_alignment: grid in pixels that blocks are rounded to.
    """

    model_type = "hf_vits_sit"
    sub_configs: ClassVar[dict[str, type]] = {"backbone_config": AutoConfig}
    size_fields = ("head_hidden_size", "embedding_size", "temperature", "dropped_share", "block_alignment")
    rate_fields = ("dropped_share", "replaced_share")

    backbone_config: BackboneConfig = None
    momentum_teacher: bool = True
    tasks: list[str] | tuple[str, ...] = TASKS[1:]
    head: Literal["linear", "mlp", "batch_norm_mlp"] = "batch_norm_mlp"
    head_hidden_size: int = 4096
    embedding_size: int = 256
    num_reconstruction_layers: int = 3
    weighting: Literal["exponential", "inverse_square"] | None = None
    corrupted_only: bool = True
    reconstruction_weight: float | int = 1.0
    temperature: float = 0.2
    rotate_clockwise: bool = True
    corruption: Literal["distortions", "blocks"] = "blocks"
    block_kinds: list[str] | tuple[str, ...] = ("zeros",)
    dropped_share: float = 0.5
    replaced_share: float | int = 0.3
    replacement_probability: float | int = 0.5
    block_alignment: int = 1

    def __post_init__(self, **kwargs):
        self.backbone_config = as_backbone_config(self.backbone_config)
        super().__post_init__(**kwargs)

    def check(self) -> None:
        super().check()
        check_names("tasks", self.tasks, TASKS)
        check_names("block_kinds", self.block_kinds, KINDS)
        if not 0 <= self.replacement_probability <= 1:
            raise ValueError(
                "replacement_probability must lie in [0, 1], got "
                f"replacement_probability={self.replacement_probability}"
            )
        self.check_teacher()
        if "rotation" in self.tasks and self.head == "batch_norm_mlp":
            raise ValueError('a "batch_norm_mlp" gives no logits of rotations: set head to "linear" or "mlp"')
        if self.corrupted_only and self.corruption == "distortions":
            raise ValueError(
                'which pixels are corrupted is known of corruption="blocks" alone: "distortions" need '
                "corrupted_only=False"
            )
        self.check_backbone()

    def check_teacher(self) -> None:
        if not self.momentum_teacher:
            return
        for name, needed in {"weighting": None, "corrupted_only": True}.items():
            if getattr(self, name) != needed:
                raise ValueError(f"momentum_teacher=True needs {name}={needed!r}, got {name}={getattr(self, name)!r}")
        if set(self.tasks) != set(TASKS[1:]):
            raise ValueError(
                f"with momentum_teacher=True the tasks are contrastive and reconstruction, got tasks={self.tasks}"
            )

    def check_backbone(self) -> None:
        backbone = self.backbone_config
        if not hasattr(backbone, "patch_size") or hasattr(backbone, "depths"):
            raise ValueError(
                "SiT paints from the patch tokens of a plain ViT: backbone_config must be of one, such as "
                f"hf_vits_deit, got {backbone.model_type}"
            )
        needed = 2 if "rotation" in self.tasks else 1
        if backbone.num_prefix_tokens < needed:
            raise ValueError(
                f"tasks={list(self.tasks)} need a backbone with {needed} prefix token(s), such as hf_vits_deit with "
                f"distilled={needed == 2}, got {backbone.model_type} with {backbone.num_prefix_tokens}"
            )


def check_names(field: str, names: list[str] | tuple[str, ...], known: tuple[str, ...]) -> None:
    if not names or len(set(names)) < len(names) or not set(names) <= set(known):
        raise ValueError(f"{field} must be some of {', '.join(map(repr, known))}, each once, got {field}={names}")


__all__ = ["GENERATIONS", "SiTConfig"]
