"""Configuration of SepTr (ristea/septr)."""

from huggingface_hub.dataclasses import strict

from ...configuration import VitsConfig

AXES = ("frequency", "time")


@strict
class SepTrConfig(VitsConfig):
    """Configuration of SepTr, with the defaults of the original's code.

    Args:
        num_mel_bins, num_frames: size of the spectrogram; the only legal size, since position tables are not resized.
        num_channels: channels of the spectrogram.
        axes: axes of attention in each layer, in order: "frequency", "time", or both. In the paper, ("frequency",
            "time") is SepTr-VH, ("time", "frequency") SepTr-HV, and a single axis SepTr-V or SepTr-H.
        pool_size: (bins, frames) of the windows that are averaged to a token; None for no pooling.
        head_dim: channels of a head, independent of hidden_size.
    """

    model_type = "hf_vits_septr"
    size_fields = ("num_mel_bins", "num_frames", "num_channels", "pool_size", "hidden_size", "num_hidden_layers")
    size_fields += ("num_attention_heads", "head_dim", "intermediate_size", "layer_norm_eps")
    rate_fields = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    qkv_bias = False
    layer_scale_init_value = None  # no field: the original has no layer scale

    num_mel_bins: int = 128
    num_frames: int = 128
    num_channels: int = 1
    axes: list[str] | tuple[str, ...] = AXES
    pool_size: list[int] | tuple[int, int] | None = None
    hidden_size: int = 256
    num_hidden_layers: int = 3
    num_attention_heads: int = 5
    head_dim: int = 256
    intermediate_size: int = 256
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-5
    hidden_dropout_prob: float | int = 0.0
    attention_probs_dropout_prob: float | int = 0.0

    @property
    def num_prefix_tokens(self) -> int:
        return 1

    @property
    def grid(self) -> tuple[int, int]:
        """Number of tokens along frequency and along time."""
        bins, frames = self.pool_size or (1, 1)
        return self.num_mel_bins // bins, self.num_frames // frames

    def check(self) -> None:
        super().check()
        if not self.axes or len(set(self.axes)) < len(self.axes) or set(self.axes) - set(AXES):
            raise ValueError(
                f'axes must hold "frequency", "time" or both, each once, in the wanted order, got axes={self.axes}'
            )
        if self.pool_size is not None and (len(self.pool_size) != 2 or 0 in self.grid):
            raise ValueError(
                "pool_size must be (bins, frames), neither larger than the spectrogram of "
                f"num_mel_bins={self.num_mel_bins} and num_frames={self.num_frames}, got pool_size={self.pool_size}"
            )


__all__ = ["SepTrConfig"]
