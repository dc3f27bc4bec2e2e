"""The models that are compared: a row per architecture, with a builder for ours and for each peer that has it.

All builders of a row make the same network: the same widths, activation, norm epsilon, biases and heads, random
weights, attention by `scaled_dot_product_attention`. A peer without the architecture is not in its row; if no peer has
it, it is compared with our DeiT-S. A new architecture adds its builders and a row to `SUBJECTS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import timm
import torch
from torch import nn
from torchvision.models import VisionTransformer
from torchvision.models.video import mvit_v1_b, mvit_v2_s
from transformers import CvtForImageClassification as PeerCvtForImageClassification
from transformers import LevitForImageClassificationWithTeacher as PeerLevitForImageClassification
from transformers import PreTrainedModel
from transformers import PvtForImageClassification as PeerPvtForImageClassification
from transformers import SwinForImageClassification as PeerSwinForImageClassification
from transformers import ViTConfig as PeerConfig
from transformers import ViTForImageClassification as PeerForImageClassification
from transformers import VivitForVideoClassification as PeerVivit

from hf_vits import (
    AudiomerForAudioClassification,
    BranchformerForAudioClassification,
    CmtForImageClassification,
    CoatForImageClassification,
    CvtForImageClassification,
    DeiTConfig,
    DeiTForImageClassification,
    LevitForImageClassification,
    LgTransformerForImageClassification,
    LocallySagForImageClassification,
    MvitForImageClassification,
    MvitForVideoClassification,
    PvtForImageClassification,
    QnaForImageClassification,
    RegionViTForImageClassification,
    SepTrForAudioClassification,
    SwinForImageClassification,
    T2TForImageClassification,
    TntForImageClassification,
    VattForVideoClassification,
    ViTConfig,
    ViTForImageClassification,
    VivitForVideoClassification,
)
from hf_vits.conversion import variants

from .audio_peers import TimmSepTr, softmax_audiomer
from .speech_peers import SpeechBrainBranchformer


@dataclass(frozen=True)
class Subject:
    """An architecture that is compared.

    Attributes:
        builders: {"ours" or the name of a peer: function that builds its model}; picklable, for child processes.
        image_size: height and width of the input in pixels.
        num_classes: size of the output.
        has_peers: whether the others are the same network; otherwise they are a common reference for throughput.
        smallest_training_batch: 2 if a batch norm sees one value per image.
        folds_norms: whether batch norms are folded before inference, as in the original, if the contestant can.
        num_frames: number of frames of a clip; None for images.
        audio_size: (samples,) of a waveform, or (frames, bins) of a spectrogram, in place of an image.
    """

    builders: dict[str, Callable[[], nn.Module]]
    image_size: int = 224
    num_classes: int = 1000
    has_peers: bool = True
    smallest_training_batch: int = 1
    folds_norms: bool = False
    num_frames: int | None = None
    audio_size: tuple[int, ...] | None = None

    def inputs(self, batch: int) -> torch.Tensor:
        """Draw random images (batch, 3, height, width), clips (batch, frames, 3, height, width), or audio."""
        if self.audio_size is not None:
            return torch.randn(batch, *self.audio_size)
        frames = () if self.num_frames is None else (self.num_frames,)
        return torch.randn(batch, *frames, 3, self.image_size, self.image_size)


def our_vit(hidden_size: int, num_heads: int, model_class=ViTForImageClassification, config_class=ViTConfig):
    config = config_class(
        hidden_size=hidden_size,
        num_attention_heads=num_heads,
        intermediate_size=4 * hidden_size,
        hidden_act="gelu",
        num_labels=1000,
    )
    return model_class(config)


def transformers_vit(hidden_size: int, num_heads: int) -> nn.Module:
    config = PeerConfig(
        hidden_size=hidden_size,
        num_attention_heads=num_heads,
        intermediate_size=4 * hidden_size,
        layer_norm_eps=1e-6,
        num_labels=1000,
    )
    return PeerForImageClassification(config)


def torchvision_vit(hidden_size: int, num_heads: int) -> nn.Module:
    return VisionTransformer(
        image_size=224,
        patch_size=16,
        num_layers=12,
        num_heads=num_heads,
        hidden_dim=hidden_size,
        mlp_dim=4 * hidden_size,
    )


def vit(hidden_size: int, num_heads: int, timm_name: str, **ours) -> Subject:
    """Compare a ViT of 12 layers with patches of 16 pixels; DeiT without distillation token is the same network."""
    return Subject(
        {
            "ours": partial(our_vit, hidden_size, num_heads, **ours),
            "transformers": partial(transformers_vit, hidden_size, num_heads),
            "timm": partial(timm.create_model, timm_name),
            "torchvision": partial(torchvision_vit, hidden_size, num_heads),
        }
    )


def cvt_13() -> Subject:
    """Compare CvT-13 with the exact GELU, the only one that transformers' model has."""
    labels = {"num_labels": 1000}
    return Subject(
        {
            "ours": partial(build, CvtForImageClassification, hidden_act="gelu", **labels),
            "transformers": partial(build, PeerCvtForImageClassification, **labels),
        }
    )


def coat(name: str) -> Subject:
    return Subject(
        {
            "ours": partial(build, CoatForImageClassification, **variants("coat")[name]),
            "timm": partial(timm_coat, name),
        }
    )


def timm_coat(name: str) -> nn.Module:
    """Build timm's CoaT with the unused final norms of the original, which timm omits."""
    model = timm.create_model(name)
    unused = [size for scale, size in enumerate(model.embed_dims, 1) if getattr(model, f"norm{scale}", None) is None]
    model.unused_norms = nn.ModuleList(nn.LayerNorm(size) for size in unused)
    return model


def pvt_tiny() -> Subject:
    """Compare PVT-Ti with one epsilon for all norms, as in transformers' model, and without stochastic depth."""
    labels = {"num_labels": 1000, "drop_path_rate": 0.0}
    return Subject(
        {
            "ours": partial(build, PvtForImageClassification, embedding_norm_eps=1e-6, **labels),
            "transformers": partial(build, PeerPvtForImageClassification, **labels),
        }
    )


def swin_tiny() -> Subject:
    labels = {"num_labels": 1000, "drop_path_rate": 0.1}
    return Subject(
        {
            "ours": partial(build, SwinForImageClassification, **labels),
            "transformers": partial(build, PeerSwinForImageClassification, **labels),
            "timm": partial(timm.create_model, "swin_tiny_patch4_window7_224", drop_path_rate=0.1),
        }
    )


def tnt_small() -> Subject:
    fields = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536, "num_labels": 1000}
    fields |= {"pixel_hidden_size": 24, "pixel_num_attention_heads": 4, "pixel_intermediate_size": 96}
    return Subject(
        {
            "ours": partial(build, TntForImageClassification, drop_path_rate=0.0, **fields),
            "timm": partial(timm.create_model, "tnt_s_legacy_patch16_224"),
        }
    )


def levit_128s() -> Subject:
    """Compare LeViT-128S with two heads, whose logits all contestants average in training too."""
    sizes = {"depths": [2, 3, 4], "num_attention_heads": [4, 6, 8], "num_labels": 1000}
    return Subject(
        {
            "ours": partial(build, LevitForImageClassification, **sizes),
            "transformers": partial(build, PeerLevitForImageClassification, **sizes),
            "timm": partial(timm.create_model, "levit_128s"),
        },
        smallest_training_batch=2,
        folds_norms=True,
    )


def build(model_class: type[PreTrainedModel], **fields) -> nn.Module:
    return model_class(model_class.config_class(**fields))


def deit_small(image_size: int) -> nn.Module:
    fields = {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536, "num_labels": 1000}
    return build(DeiTForImageClassification, image_size=image_size, **fields)


def beside_deit_small(model_class: type[PreTrainedModel], image_size: int = 224, **fields) -> Subject:
    """Compare an architecture that no peer has with our DeiT-S, the reference for throughput in papers."""
    fields = {"image_size": image_size, "num_labels": 1000} | fields
    return Subject(
        {
            "ours": partial(build, model_class, **fields),
            "DeiT-S": partial(deit_small, image_size),
        },
        image_size=image_size,
        has_peers=False,
    )


def mvitv2_tiny() -> Subject:
    """Compare MViTv2-T without stochastic depth, timm's default."""
    fields = variants("mvit")["mvitv2_t_in1k"] | {"drop_path_rate": 0.0}
    return Subject(
        {
            "ours": partial(build, MvitForImageClassification, **fields),
            "timm": partial(timm.create_model, "mvitv2_tiny"),
        }
    )


class ChannelsBeforeFrames(nn.Module):
    """Wraps a peer that takes clips (batch, channels, frames, height, width) to take clips as our models do."""

    def __init__(self, build_model: Callable[[], nn.Module]):
        super().__init__()
        self.model = build_model()

    def forward(self, clips: torch.Tensor) -> torch.Tensor:
        return self.model(clips.transpose(1, 2))


def mvit_of_clips(variant: str, torchvision_model: Callable[[], nn.Module]) -> Subject:
    """Compare MViT on clips, with the variant's stochastic depth and dropout before the classifier."""
    return Subject(
        {
            "ours": partial(build, MvitForVideoClassification, **variants("mvit")[variant]),
            "torchvision": partial(ChannelsBeforeFrames, torchvision_model),
        },
        num_classes=400,
        num_frames=16,
    )


def vivit_base(image_size: int, num_frames: int) -> Subject:
    """Compare ViViT's model 1 on smaller and shorter clips than published, with which a step would take a minute."""
    fields = {"image_size": image_size, "num_frames": num_frames, "num_labels": 400}
    return Subject(
        {
            "ours": partial(build, VivitForVideoClassification, **fields),
            "transformers": partial(build, PeerVivit, hidden_act="gelu_pytorch_tanh", **fields),
        },
        image_size=image_size,
        num_classes=400,
        num_frames=num_frames,
    )


CLIP_32 = {"image_size": 224, "num_frames": 32, "tubelet_size": [4, 16, 16], "num_labels": 400}
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0, "classifier_dropout_prob": 0.0}


def clips_of_32(**builders: Callable[[], nn.Module]) -> Subject:
    return Subject(builders, num_classes=400, num_frames=32)


def vatt_base() -> Subject:
    """Compare VATT's encoder of clips with transformers' ViViT of the same tubelets, with one table of positions."""
    return clips_of_32(
        ours=partial(build, VattForVideoClassification, **CLIP_32, **NO_DROPOUT),
        transformers=partial(build, PeerVivit, hidden_act="gelu", **CLIP_32),
    )


def vatt_drop_token() -> Subject:
    """Compare VATT's encoder of clips with itself: half of the tokens, as DropToken leaves in training, and all."""
    model = partial(build, VattForVideoClassification, **CLIP_32, **NO_DROPOUT)
    return clips_of_32(ours=partial(model, kept_token_fraction=0.5), **{"all tokens": model})


def branchformer() -> Subject:
    """Compare Branchformer on five seconds of speech."""
    fields = variants("branchformer")["speech_commands_e24"]
    return Subject(
        {
            "ours": partial(build, BranchformerForAudioClassification, **fields),
            "SpeechBrain": partial(SpeechBrainBranchformer, **fields),
        },
        num_classes=35,
        has_peers=False,
        audio_size=(500, 80),
    )


def audiomer_small() -> Subject:
    """Compare Audiomer-S on a second of audio with the same network with PyTorch's softmax attention."""
    fields = variants("audiomer")["audiomer_s_sc35"]
    return Subject(
        {
            "ours": partial(build, AudiomerForAudioClassification, **fields),
            "sdpa": partial(softmax_audiomer, **fields),
        },
        num_classes=35,
        audio_size=(8192,),
    )


def septr() -> Subject:
    """Compare SepTr on a spectrogram of 64 x 64 bins with a network of timm's attention and MLP."""
    fields = {"num_mel_bins": 64, "num_frames": 64, "num_labels": 35}
    return Subject(
        {"ours": partial(build, SepTrForAudioClassification, **fields), "timm": partial(TimmSepTr, **fields)},
        num_classes=35,
        audio_size=(64, 64),
    )


SUBJECTS = {
    "DeiT-Ti": vit(192, 3, "deit_tiny_patch16_224", model_class=DeiTForImageClassification, config_class=DeiTConfig),
    "ViT-S/16": vit(384, 6, "vit_small_patch16_224"),
    "ViT-B/16": vit(768, 12, "vit_base_patch16_224"),
    "CvT-13": cvt_13(),
    "PVT-Ti": pvt_tiny(),
    "Swin-T": swin_tiny(),
    "TNT-S": tnt_small(),
    "T2T-ViT-14": beside_deit_small(
        T2TForImageClassification,
        num_hidden_layers=14,
        hidden_size=384,
        num_attention_heads=6,
        intermediate_size=3 * 384,
    ),
    "LocalViT-S": beside_deit_small(
        DeiTForImageClassification,
        feed_forward="locality",
        hidden_size=384,
        num_attention_heads=8,
        intermediate_size=4 * 384,
    ),
    "LeViT-128S": levit_128s(),
    "CMT-Ti": beside_deit_small(CmtForImageClassification, image_size=160),
    "CoaT-Lite-Ti": coat("coat_lite_tiny"),
    "CoaT-Ti": coat("coat_tiny"),
    "MViTv2-T": mvitv2_tiny(),
    "MViT-B 16x4": mvit_of_clips("mvit_b_16x4_k400", mvit_v1_b),
    "MViTv2-S 16x4": mvit_of_clips("mvitv2_s_16x4_k400", mvit_v2_s),
    "ViViT-B/16x2": vivit_base(image_size=112, num_frames=16),
    "VATT-B 32x224": vatt_base(),
    "VATT-B DropToken": vatt_drop_token(),
    "RegionViT-S": beside_deit_small(RegionViTForImageClassification, **variants("regionvit")["regionvit_small_224"]),
    "QnA-ViT-Ti": beside_deit_small(QnaForImageClassification),
    "LG-T": beside_deit_small(LgTransformerForImageClassification),
    "Locally-SAG-Ti": beside_deit_small(LocallySagForImageClassification),
    "Audiomer-S": audiomer_small(),
    "SepTr": septr(),
    "Locally-SAG-S": beside_deit_small(LocallySagForImageClassification, **variants("locally_sag")["imagenet_small"]),
    "Branchformer": branchformer(),
}
