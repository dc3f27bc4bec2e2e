"""Configuration of SiT in its three generations (Sara-Ahmed/SiT)."""

from typing import ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig

from ...configuration import VitsConfig
from ..dino.configuration_dino import BackboneConfig, as_backbone_config

TASKS = ("rotation", "contrastive", "reconstruction")
KINDS = ("noise", "zeros", "shuffle")

# Fields of each generation that differ from the defaults, which are the third generation's. The backbone is not
# included: it has two prefix tokens in the first and second generation (DeiT with distilled=True), one in the third.
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
        "dropped_fraction": 0.7,
        "replaced_fraction": 0.35,
    },
    # December 2022, commit 7f22e9c: vision_transformer.py, main.py
    3: {},
}


@strict
class SiTConfig(VitsConfig):
    """Configuration of SiT; the defaults are the ViT-S/16 of its third generation.

    `GENERATIONS` has the fields of each generation: `SiTConfig(**GENERATIONS[2], backbone_config=...)`.

    Args:
        backbone_config: configuration of the backbone, a ViT with a class token or, for the rotation task, with two
            prefix tokens: the first predicts the rotation, the last gives the embedding. A dict must name its
            `model_type`. A teacher has the same backbone without stochastic depth.
        momentum_teacher: whether there is a teacher, the student's EMA. The student's embeddings are then compared
            with the teacher's embeddings of the clean views, otherwise with those of the student's other view.
        tasks: which of "rotation", "contrastive" and "reconstruction" are learned; with a teacher always the last two.
        head: head of the contrastive and the rotation task: a "linear" layer, an "mlp" of three layers without biases,
            or a "batch_norm_mlp", not for the rotation task.
        head_hidden_size: hidden channels of the MLPs.
        embedding_size: channels of the embeddings.
        num_reconstruction_layers: number of linear layers before the transposed convolution that reconstructs pixels.
        weighting: formula of `UncertaintyWeighting` that weights the tasks; None for their sum, as with a teacher.
        corrupted_only: whether only corrupted pixels are reconstructed; always with a teacher.
        reconstruction_weight: factor of the reconstruction loss with a teacher.
        temperature: divides the similarities of embeddings.
        rotate_clockwise: whether the rotation task counts quarter turns clockwise.
        corruption: corruption of the student's views: "distortions" of the first generation (a grey and a blurred
            block, blocks of noise, blocks of another image), or "blocks" over a larger fraction of the image.
        block_kinds: contents of the blocks, of "noise", "zeros" and "shuffle"; one kind is drawn for each view.
        dropped_fraction: largest fraction of the pixels that the blocks cover.
        replaced_fraction: the same for blocks of another image; 0 for no such blocks.
        replacement_probability: probability that the blocks are taken from another image.
        block_alignment: grid in pixels that blocks are rounded to.
    """

    model_type = "hf_vits_sit"
    sub_configs: ClassVar[dict[str, type]] = {"backbone_config": AutoConfig}
    size_fields = ("head_hidden_size", "embedding_size", "temperature", "dropped_fraction", "block_alignment")
    rate_fields = ("dropped_fraction", "replaced_fraction")

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
    dropped_fraction: float = 0.5
    replaced_fraction: float | int = 0.3
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
                "SiT reconstructs images from the patch tokens of a plain ViT: backbone_config must be one, such as "
                f"hf_vits_deit, got {backbone.model_type}"
            )
        needed = 2 if "rotation" in self.tasks else 1
        if backbone.num_prefix_tokens < needed:
            raise ValueError(
                f"tasks={list(self.tasks)} need a backbone with {needed} prefix token(s), such as hf_vits_deit with "
                f"distilled={needed == 2}, got {backbone.model_type} with {backbone.num_prefix_tokens}"
            )


def check_names(field: str, names: list[str] | tuple[str, ...], known: tuple[str, ...]) -> None:
    """Raise ValueError unless `names` are some of `known`, each at most once."""
    if not names or len(set(names)) < len(names) or not set(names) <= set(known):
        raise ValueError(f"{field} must be some of {', '.join(map(repr, known))}, each once, got {field}={names}")


__all__ = ["GENERATIONS", "SiTConfig"]
