"""VATT with all three modalities: encoders, projections to common spaces, and their contrastive training.

Akbari et al., "VATT: Transformers for Multimodal Self-Supervised Learning from Raw Video, Audio and Text",
arXiv 2104.11178; google-research/vatt, modeling: backbones/multimodal.py, backbones/unified/uvatt.py, heads/bridge.py.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn.functional import normalize
from transformers.processing_utils import Unpack
from transformers.utils.generic import ModelOutput, TransformersKwargs, can_return_tuple
from transformers.utils.output_capturing import maybe_install_capturing_hooks

from ...modeling import EncoderOutput
from .configuration_vatt import VattConfig
from .contrastive_vatt import mean_over_processes, modality_losses
from .encoder_vatt import VattEncoder, VattPreTrainedModel
from .modeling_vatt_audio import VattAudioModel
from .modeling_vatt_text import VattTextModel
from .modeling_vatt_video import VattVideoModel


@dataclass
class VattOutput(ModelOutput):
    """Output of a model of several modalities; what belongs to a modality that was not given is None.

    loss: scalar, the weighted mean of the losses; of `VattForPreTraining`.
    video_text_loss, video_audio_loss: its parts; zero without the modality.
    logits_per_video: (clips, texts), cosine similarities / temperature in the space of video and text.
    logits_per_text: (texts, clips), the same transposed.
    logits_per_audio: (sounds, clips), cosine similarities / temperature in the space of video and audio; without clips
        (sounds, texts), where sounds are projected to the space of video and text as clips are.
    video_audio_embeds, audio_embeds: (batch, video_audio_size), in the space of video and audio.
    video_text_embeds: (batch, video_text_size), text_embeds: (texts, video_text_size), in the space of video and text.
    video_model_output, audio_model_output, text_model_output: outputs of the encoders.
    """

    loss: torch.Tensor | None = None
    video_text_loss: torch.Tensor | None = None
    video_audio_loss: torch.Tensor | None = None
    logits_per_video: torch.Tensor | None = None
    logits_per_text: torch.Tensor | None = None
    logits_per_audio: torch.Tensor | None = None
    video_audio_embeds: torch.Tensor | None = None
    video_text_embeds: torch.Tensor | None = None
    audio_embeds: torch.Tensor | None = None
    text_embeds: torch.Tensor | None = None
    video_model_output: EncoderOutput | None = None
    audio_model_output: EncoderOutput | None = None
    text_model_output: EncoderOutput | None = None


class VattBatchNorm(nn.BatchNorm1d):
    """Batch norm over all processes whose running variance is the batch's biased variance, as in Keras."""

    running_mean: torch.Tensor
    running_var: torch.Tensor

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """Normalise (batch, channels)."""
        if not self.training:
            return super().forward(input)
        values = input.float()
        mean = mean_over_processes(values.mean(0))
        variance = mean_over_processes((values - mean).square().mean(0))
        with torch.no_grad():
            momentum: Any = self.momentum
            self.running_mean.lerp_(mean.to(self.running_mean), momentum)
            self.running_var.lerp_(variance.to(self.running_var), momentum)
        normalized = (values - mean) * torch.rsqrt(variance + self.eps)
        return (normalized * self.weight + self.bias).to(input.dtype)


class VattProjections(nn.Module):
    """Projections of the aggregation tokens to the spaces in which modalities are compared (section 3.2)."""

    def __init__(self, config: VattConfig):
        super().__init__()
        size, text_size = config.video_audio_size, config.video_text_size

        def batch_norm(channels: int) -> VattBatchNorm:
            return VattBatchNorm(channels, eps=config.batch_norm_eps, momentum=config.batch_norm_momentum)

        self.video_to_audio = nn.Sequential(
            nn.Linear(config.video_config.pooler_size, size, bias=False),
            batch_norm(size),
            nn.ReLU(),
            nn.Linear(size, size, bias=False),
            batch_norm(size),
        )
        self.video_to_text = nn.Sequential(nn.ReLU(), nn.Linear(size, text_size, bias=False), batch_norm(text_size))
        self.audio = nn.Linear(config.audio_config.pooler_size, size)
        self.text = nn.Linear(config.text_config.pooler_size, text_size)


def cosines(first: torch.Tensor | None, second: torch.Tensor | None, temperature: float) -> torch.Tensor | None:
    """Return cosine similarities / temperature (n, m) of (n, channels) and (m, channels); None without one of them."""
    if first is None or second is None:
        return None
    return normalize(first, dim=-1) @ normalize(second, dim=-1).T / temperature


class VattModel(VattPreTrainedModel):
    """Encoders of video, audio and text, modality-specific or one shared, with projections to common spaces."""

    config_class = VattConfig
    input_modalities = ("video", "audio", "text")
    _supports_flash_attn = False  # the text encoder has a bias

    def __init__(self, config: VattConfig):
        super().__init__(config)
        options = {"add_encoder": not config.shared_encoder}
        self.encoder = VattEncoder(config.video_config) if config.shared_encoder else None
        self.video_model = VattVideoModel._from_config(config.video_config, **options)
        self.audio_model = VattAudioModel._from_config(config.audio_config, **options)
        self.text_model = VattTextModel._from_config(config.text_config, **options)
        self.projections = VattProjections(config)
        self.post_init()

    @property
    def modality_models(self) -> tuple[VattVideoModel, VattAudioModel, VattTextModel]:
        """Return the models of the modalities."""
        return self.video_model, self.audio_model, self.text_model

    def run(self, name: str, **inputs) -> EncoderOutput:
        """Return the output of an encoder, "video", "audio" or "text"."""
        if self.encoder is not None:
            # Hooks that record states are otherwise installed in the parts of a modality alone.
            maybe_install_capturing_hooks(self)
        return getattr(self, f"{name}_model")(encoder=self.encoder, return_dict=True, **inputs)

    @can_return_tuple
    def get_video_features(
        self,
        pixel_values: torch.Tensor | None = None,
        space: str = "text",
        **kwargs: Unpack[TransformersKwargs],
    ) -> EncoderOutput:
        """Return the encoder's output for clips, whose `pooler_output` is projected to a common space.

        Args:
            pixel_values: as in `VattVideoModel`.
            space: "text" or "audio", the modality to compare with.
        """
        if space not in ("text", "audio"):
            raise ValueError(f'space must be "text" or "audio", got {space!r}')
        outputs = self.run("video", pixel_values=pixel_values, **kwargs)
        features = self.projections.video_to_audio(outputs.pooler_output)
        outputs.pooler_output = self.projections.video_to_text(features) if space == "text" else features
        return outputs

    @can_return_tuple
    def get_audio_features(
        self,
        input_values: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        space: str = "video",
        **kwargs: Unpack[TransformersKwargs],
    ) -> EncoderOutput:
        """Return the encoder's output for sounds, whose `pooler_output` is projected to a common space.

        Args:
            input_values, input_features: as in `VattAudioModel`.
            space: "video" or "text", the modality to compare with. Sounds and texts are never compared in training:
                from the space of video and audio, sounds take the way of the clips that they are close to, as in
                Alayrac et al., arXiv 2006.16228.
        """
        if space not in ("video", "text"):
            raise ValueError(f'space must be "video" or "text", got {space!r}')
        outputs = self.run("audio", input_values=input_values, input_features=input_features, **kwargs)
        features = self.projections.audio(outputs.pooler_output)
        outputs.pooler_output = self.projections.video_to_text(features) if space == "text" else features
        return outputs

    @can_return_tuple
    def get_text_features(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> EncoderOutput:
        """Return the encoder's output for texts, whose `pooler_output` is projected to the space of video and text.

        Args:
            input_ids, attention_mask: as in `VattTextModel`.
        """
        outputs = self.run("text", input_ids=input_ids, attention_mask=attention_mask, **kwargs)
        outputs.pooler_output = self.projections.text(outputs.pooler_output)
        return outputs

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        input_values: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        video_permutation: torch.Tensor | None = None,
        audio_permutation: torch.Tensor | None = None,
        **kwargs: Unpack[TransformersKwargs],
    ) -> VattOutput:
        """Encode clips, sounds and texts, as far as they are given, and compare them.

        Args:
            pixel_values: as in `VattVideoModel`.
            input_values, input_features: as in `VattAudioModel`; one of them, as the model's sounds are.
            input_ids, attention_mask: as in `VattTextModel`, (texts, length); or (batch, candidates, length), which
                count as batch * candidates texts.
            video_permutation, audio_permutation: order of the tokens, for DropToken.

        Raises:
            ValueError: nothing is given.
        """
        embeds: dict[str, Any] = {}
        if pixel_values is not None:
            outputs = self.run("video", pixel_values=pixel_values, token_permutation=video_permutation, **kwargs)
            embeds["video_model_output"] = outputs
            embeds["video_audio_embeds"] = self.projections.video_to_audio(outputs.pooler_output)
            embeds["video_text_embeds"] = self.projections.video_to_text(embeds["video_audio_embeds"])
        if input_values is not None or input_features is not None:
            sounds = {"input_values": input_values, "input_features": input_features}
            outputs = self.run("audio", **sounds, token_permutation=audio_permutation, **kwargs)
            embeds["audio_model_output"] = outputs
            embeds["audio_embeds"] = self.projections.audio(outputs.pooler_output)
        if input_ids is not None:
            input_ids, attention_mask = as_texts(input_ids), as_texts(attention_mask)
            outputs = self.run("text", input_ids=input_ids, attention_mask=attention_mask, **kwargs)
            embeds["text_model_output"] = outputs
            embeds["text_embeds"] = self.projections.text(outputs.pooler_output)
        if not embeds:
            raise ValueError(
                "You have to specify at least one of pixel_values (clips), input_values or input_features (sounds) "
                "and input_ids (texts)"
            )
        temperature = self.config.temperature
        texts = embeds.get("text_embeds")
        per_video = cosines(embeds.get("video_text_embeds"), texts, temperature)
        sounds, heard = embeds.get("audio_embeds"), embeds.get("video_audio_embeds")
        if sounds is not None and heard is None and texts is not None:
            sounds, heard = self.projections.video_to_text(sounds), texts
        return VattOutput(
            logits_per_video=per_video,
            logits_per_text=None if per_video is None else per_video.T,
            logits_per_audio=cosines(sounds, heard, temperature),
            **embeds,
        )


def as_texts(words: torch.Tensor | None) -> torch.Tensor | None:
    """Return words (batch, candidates, length) as (batch * candidates, length); others unchanged."""
    return words.flatten(0, 1) if words is not None and words.ndim == 3 else words


class VattForPreTraining(VattPreTrainedModel):
    """VATT with its contrastive losses between video and audio and between video and text."""

    config_class = VattConfig
    input_modalities = ("video", "audio", "text")
    _supports_flash_attn = False  # as in `VattModel`

    def __init__(self, config: VattConfig):
        super().__init__(config)
        self.model = VattModel(config)
        self.post_init()

    @property
    def modality_models(self) -> tuple[VattVideoModel, VattAudioModel, VattTextModel]:
        """Return the models of the modalities."""
        return self.model.modality_models

    def get_video_features(self, *arguments, **kwargs) -> EncoderOutput:
        """As `VattModel.get_video_features`."""
        return self.model.get_video_features(*arguments, **kwargs)

    def get_audio_features(self, *arguments, **kwargs) -> EncoderOutput:
        """As `VattModel.get_audio_features`."""
        return self.model.get_audio_features(*arguments, **kwargs)

    def get_text_features(self, *arguments, **kwargs) -> EncoderOutput:
        """As `VattModel.get_text_features`."""
        return self.model.get_text_features(*arguments, **kwargs)

    def export(self, modality: Literal["video", "audio", "text"] = "video") -> Any:
        """Return a copy of the encoder of a modality as a model of its own, with the transformer that may be shared.

        It drops no tokens in training, as in the paper's fine-tuning.
        """
        part = getattr(self.model, f"{modality}_model")
        model = type(part)(type(part.config).from_dict(part.config.to_dict() | {"kept_token_fraction": 1.0}))
        encoder = {} if self.model.encoder is None else self.model.encoder.state_dict(prefix="encoder.")
        model.load_state_dict(part.state_dict() | encoder)
        return model.train(self.training)

    @can_return_tuple
    def forward(
        self,
        pixel_values: torch.Tensor | None = None,
        input_values: torch.Tensor | None = None,
        input_features: torch.Tensor | None = None,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        audio_mask: torch.Tensor | None = None,
        text_mask: torch.Tensor | None = None,
        video_permutation: torch.Tensor | None = None,
        audio_permutation: torch.Tensor | None = None,
        return_loss: bool = True,
        **kwargs: Unpack[TransformersKwargs],
    ) -> VattOutput:
        """Encode clips with their sounds and candidate texts, and compute the loss.

        Args:
            pixel_values: (batch, frames, num_channels, height, width); always needed, as all is compared with video.
            input_values, input_features: as in `VattModel`, (batch, ...).
            input_ids, attention_mask: (batch, candidates, length); or (batch * candidates, length), where the
                candidates of a clip follow one another.
            audio_mask: (batch,), 0 for clips without sound, whose `input_values` are ignored; None for none.
            text_mask: (batch,), 0 for clips without text; None for none.
            video_permutation, audio_permutation: as in `VattModel`.
            return_loss: whether to compute the losses.
        """
        if pixel_values is None:
            raise ValueError("You have to specify pixel_values: clips, with which sounds and texts are compared")
        outputs = self.model(
            pixel_values,
            input_values,
            input_features,
            input_ids,
            attention_mask,
            video_permutation,
            audio_permutation,
            return_dict=True,
            **kwargs,
        )
        if return_loss:
            for name, loss in modality_losses(outputs, self.config, text_mask, audio_mask).items():
                outputs[name] = loss
        return outputs


__all__ = ["VattForPreTraining", "VattModel", "VattOutput"]
