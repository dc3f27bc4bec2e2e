"""Configuration of Audiomer (The-Learning-Machines/Audiomer-PyTorch)."""

from typing import Literal

from huggingface_hub.dataclasses import strict

from ...configuration import VitsConfig

# Sizes of every layer's convolutions (Audiomer/module.py).
QUERY_STRIDE = 2
RESIDUAL_KERNEL_SIZE = 2
# Zero padding at both ends of each layer's residual branch; there can be no more layers than values.
RESIDUAL_PADDINGS = (3, 4, 4, 3, 3, 3, 3, 4, 4, 4, 4, 4, 4, 4)
# Number of learned samples before the waveform, which serve as class token.
NUM_CLASS_SAMPLES = 128


@strict
class AudiomerConfig(VitsConfig):
    """Configuration of Audiomer; the defaults are Audiomer-S of the repository's newest code.

    Only some input lengths are legal, because the residual branch has a fixed padding and must be as long as the main
    branch. Legal lengths are multiples of `length_multiple` plus `length_offset`; `padded_length` returns the shortest
    legal length for a waveform.

    Args:
        hidden_sizes: channels of each layer; every layer halves the number of frames.
        num_attention_heads, head_dim: heads and channels per head, the same in every layer.
        num_random_features: random features per head of the Performer attention.
        mlp_ratio: intermediate channels of the gated MLP divided by the layer's channels.
        attention_type: "cross", attention of the frames to a context (the layer's input convolved with a larger
            stride) without inner residual connections; or "self", self-attention with residual connections and with
            biases in queries, keys and values. Released checkpoints are of type "self" (commit 6270ca27); they contain
            the convolution of the context, which is then not used.
        kernel_size: of the convolutions for frames and context. The fixed padding of the residual branch fits 5.
        context_stride: stride of the convolution for the context; frames have a stride of 2.
        use_attention, use_squeeze_excitation, use_residual: False for the original's ablations.
        pooling: input of the classifier: the first frame, with learned "class_samples" before the waveform or without
            ("first"); or the "mean" of all frames.
        hidden_dropout_prob: dropout rate after the attention.
        classifier_dropout_prob: dropout rate between the classifier's two linear layers.
    """

    model_type = "hf_vits_audiomer"
    size_fields = ("hidden_sizes", "num_attention_heads", "head_dim", "num_random_features", "mlp_ratio")
    size_fields += ("kernel_size", "context_stride")
    rate_fields = ("hidden_dropout_prob", "classifier_dropout_prob")

    hidden_sizes: list[int] | tuple[int, ...] = (4, 8, 8, 16, 16, 32, 32, 64, 64)
    num_attention_heads: int = 2
    head_dim: int = 32
    num_random_features: int = 110
    mlp_ratio: int = 2
    hidden_act: str = "gelu"
    attention_type: Literal["cross", "self"] = "cross"
    kernel_size: int = 5
    context_stride: int = 4
    use_attention: bool = True
    use_squeeze_excitation: bool = True
    use_residual: bool = True
    pooling: Literal["class_samples", "mean", "first"] = "class_samples"
    hidden_dropout_prob: float | int = 0.2
    classifier_dropout_prob: float | int = 0.2

    @property
    def hidden_size(self) -> int:
        """Channels of the last layer."""
        return self.hidden_sizes[-1]

    @property
    def num_hidden_layers(self) -> int:
        return len(self.hidden_sizes)

    @property
    def num_class_samples(self) -> int:
        return NUM_CLASS_SAMPLES if self.pooling == "class_samples" else 0

    @property
    def length_multiple(self) -> int:
        """Distance of legal lengths, in samples."""
        return QUERY_STRIDE**self.num_hidden_layers if self.use_residual else 1

    @property
    def length_offset(self) -> int:
        """Remainder of legal lengths modulo `length_multiple`."""
        period = self.length_multiple
        # The first period may be too short for the kernel.
        return next(length for length in range(period) if self.is_legal_length(length + self.kernel_size * period))

    def has_legal_length(self) -> bool:
        """Return whether the model takes waveforms of any length."""
        period = self.length_multiple
        return any(self.is_legal_length(length + self.kernel_size * period) for length in range(period))

    def is_legal_length(self, num_samples: int) -> bool:
        """Return whether the model takes waveforms of `num_samples` samples."""
        length = num_samples + self.num_class_samples
        if num_samples < 1 or length < self.kernel_size:
            return False
        for padding in RESIDUAL_PADDINGS[: self.num_hidden_layers]:
            # The convolution pads by kernel less stride, and one frame more at both ends.
            frames = (length + 2 * (self.kernel_size - QUERY_STRIDE) - self.kernel_size) // QUERY_STRIDE + 3
            if self.use_residual and frames != length // RESIDUAL_KERNEL_SIZE + padding:
                return False
            length = frames
        return True

    def padded_length(self, num_samples: int) -> int:
        """Return the shortest legal length of at least `num_samples` samples."""
        length = num_samples + (self.length_offset - num_samples) % self.length_multiple
        while not self.is_legal_length(length):  # too short for any
            length += self.length_multiple
        return length

    def check(self) -> None:
        super().check()
        if not 1 <= len(self.hidden_sizes) <= len(RESIDUAL_PADDINGS):
            raise ValueError(
                f"hidden_sizes must have 1 to {len(RESIDUAL_PADDINGS)} values, one per layer, got "
                f"hidden_sizes={self.hidden_sizes}"
            )
        if self.use_residual and self.kernel_size != type(self).kernel_size and not self.has_legal_length():
            raise ValueError(
                f"with kernel_size={self.kernel_size} the residual branch is as long as the main branch for no input: "
                "set use_residual=False"
            )
        if self.context_stride >= self.kernel_size:
            raise ValueError(
                f"context_stride must be below kernel_size={self.kernel_size}, got "
                f"context_stride={self.context_stride}"
            )


__all__ = ["AudiomerConfig"]
