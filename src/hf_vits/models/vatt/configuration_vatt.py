"""Configuration of VATT with all three modalities (google-research/vatt, configs/model.py)."""

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from huggingface_hub.dataclasses import strict
from transformers import PreTrainedConfig

from ...configuration import VitsConfig
from .configuration_vatt_audio import VattAudioConfig
from .configuration_vatt_text import VattTextConfig
from .configuration_vatt_video import VattVideoConfig

# What is given may be a dict; from construction on it is a configuration.
if TYPE_CHECKING:
    PartConfig = Any
else:
    PartConfig = dict[str, Any] | PreTrainedConfig | None

# Fields that must be equal where the modalities share an encoder.
ENCODER_FIELDS = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "hidden_act")
ENCODER_FIELDS += ("layer_norm_eps", "use_bias", "hidden_dropout_prob", "attention_probs_dropout_prob")


@strict
class VattConfig(VitsConfig):
    """Configuration of VATT; the defaults are Base-Base-Small (video, audio, text), modality-specific.

    Args:
        video_config, audio_config, text_config: configurations of the encoders, or dicts of their fields; None for
            the defaults.
        shared_encoder: whether all modalities pass through one transformer (modality-agnostic). The configurations of
            the encoders must then have the same sizes, and the text's positions must be "absolute".
        video_audio_size: channels of the space in which video and audio are compared.
        video_text_size: channels of the space in which video and text are compared.
        temperature: divides the cosine similarities.
        loss_type: "asymmetric_nce", the paper's, or "symmetric_nce"; see `contrastive_vatt`.
        video_text_weight, video_audio_weight: weights of the two losses, whose weighted mean is the loss.
        batch_norm_eps, batch_norm_momentum: of the batch norms in the projections; the momentum is the weight of the
            batch in the running statistics.
    """

    model_type = "hf_vits_vatt"
    sub_configs: ClassVar[dict[str, type]] = {
        "video_config": VattVideoConfig,
        "audio_config": VattAudioConfig,
        "text_config": VattTextConfig,
    }
    size_fields = ("video_audio_size", "video_text_size", "temperature", "batch_norm_eps", "batch_norm_momentum")

    video_config: PartConfig = None
    audio_config: PartConfig = None
    text_config: PartConfig = None
    shared_encoder: bool = False
    video_audio_size: int = 512
    video_text_size: int = 256
    temperature: float = 0.07
    loss_type: Literal["asymmetric_nce", "symmetric_nce"] = "asymmetric_nce"
    video_text_weight: float | int = 1.0
    video_audio_weight: float | int = 1.0
    batch_norm_eps: float = 1e-5
    batch_norm_momentum: float = 0.1

    def __post_init__(self, **kwargs):
        for name, config_class in self.sub_configs.items():
            part = getattr(self, name)
            if not isinstance(part, config_class):
                setattr(self, name, config_class(**(part or {})))
        super().__post_init__(**kwargs)

    def check(self) -> None:
        super().check()
        if min(self.video_text_weight, self.video_audio_weight) < 0 or not (
            self.video_text_weight + self.video_audio_weight
        ):
            raise ValueError(
                "video_text_weight and video_audio_weight must not be negative, and one of them positive, got "
                f"{self.video_text_weight} and {self.video_audio_weight}"
            )
        if self.shared_encoder:
            self.check_shared_encoder()

    def check_shared_encoder(self) -> None:
        parts = {name: getattr(self, name) for name in self.sub_configs}
        for field in ENCODER_FIELDS:
            values = {name: getattr(part, field) for name, part in parts.items()}
            if len(set(values.values())) > 1:
                raise ValueError(
                    f"with shared_encoder=True, {field} must be the same in video_config, audio_config and "
                    f"text_config, got {', '.join(map(str, values.values()))}"
                )
        if self.text_config.position_embedding_type != "absolute":
            raise ValueError(
                'with shared_encoder=True, text_config needs position_embedding_type="absolute", got '
                f'"{self.text_config.position_embedding_type}"'
            )


__all__ = ["VattConfig"]
