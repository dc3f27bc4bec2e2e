"""Fields that the configurations of VATT's three encoders share."""

from huggingface_hub.dataclasses import strict

from ...configuration import VitsConfig


@strict
class VattEncoderConfig(VitsConfig):
    """Base of the configurations of VATT's encoders.

    Args:
        use_bias: whether the linear layers of the transformer have biases; embeddings and projections always have.
        hidden_dropout_prob, attention_probs_dropout_prob: dropout rates; hidden states are dropped after positions
            are added, in the MLPs, after each branch and after the final norm.
        pre_projection: whether a linear layer and `hidden_act` follow the embedding, as where one encoder is shared by
            all modalities.
        post_projection_size: channels of a linear layer and `hidden_act` after the final norm; None for none.
        kept_token_fraction: DropToken (section 3.3 of the paper): in training, the encoder sees a random choice of
            tokens, the same for the whole batch. Their number is this fraction of the rows of the position table,
            however long the input is; with 1 all tokens are kept.
    """

    size_fields = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "layer_norm_eps")
    size_fields += ("post_projection_size", "kept_token_fraction")
    rate_fields = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    layer_scale_init_value = None  # no field: none of these models has layer scale

    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    layer_norm_eps: float = 1e-6
    use_bias: bool = True
    hidden_dropout_prob: float | int = 0.1
    attention_probs_dropout_prob: float | int = 0.1
    pre_projection: bool = False
    post_projection_size: int | None = None
    kept_token_fraction: float | int = 1.0

    def __post_init__(self, **kwargs):
        kwargs.pop("model_type", None)  # a part of `VattConfig` may name it
        super().__post_init__(**kwargs)

    @property
    def num_prefix_tokens(self) -> int:
        return 1

    @property
    def pooler_size(self) -> int:
        return self.post_projection_size or self.hidden_size

    @property
    def qkv_bias(self) -> bool:
        """Whether queries, keys and values have biases."""
        return self.use_bias

    def check(self) -> None:
        super().check()
        self.check_heads()
        if self.kept_token_fraction > 1:
            raise ValueError(
                "kept_token_fraction must lie in (0, 1], where 1 keeps all tokens, got "
                f"kept_token_fraction={self.kept_token_fraction}"
            )


__all__ = ["VattEncoderConfig"]
