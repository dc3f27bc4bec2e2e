"""Tokenizer of VATT's words, and the processor that joins clips, sounds and words.

Akbari et al., arXiv 2104.11178, section 4; google-research/vatt, data/processing.py.
"""

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import BatchFeature, PreTrainedTokenizerFast, ProcessorMixin

PADDING = "<pad>"
MAX_WORDS = 16


class VattTokenizer(PreTrainedTokenizerFast):
    """Splits texts into lower-case words of a vocabulary.

    Id 0 is padding. A word that the vocabulary lacks gets id 0, too, so that the model does not attend to it. Whoever
    asks for padding gets texts of `model_max_length` words, longer ones cut: models would resize their positions to
    another length.
    """

    model_input_names = ["input_ids"]  # the model makes the mask from the ids

    def __call__(self, *arguments, padding: Any = False, **kwargs) -> Any:
        """Tokenize as any tokenizer of transformers does, but pad to one length, as pipelines do not ask for it."""
        if padding is True or padding == "longest":
            padding = "max_length"
            kwargs["truncation"] = kwargs.get("truncation") or True
        return super().__call__(*arguments, padding=padding, **kwargs)

    @classmethod
    def of_words(cls, words: Iterable[str], max_words: int = MAX_WORDS) -> "VattTokenizer":
        """Make a tokenizer of the words with the ids 1, 2, ...

        Args:
            words: different words in lower case.
            max_words: length of a text.

        Raises:
            ValueError: there are no words, or one is repeated or not a single word in lower case.
        """
        words = list(words)
        for word in words:
            if cls.words_of(word) != [word]:
                raise ValueError(f"expected single words in lower case, without punctuation, got {word!r}")
        if not words or len(set(words)) < len(words):
            raise ValueError(f"expected different words, got {len(words)}, of which {len(set(words))} are different")
        vocabulary = {word: index for index, word in enumerate([PADDING, *words])}
        backend = Tokenizer(models.WordLevel(vocabulary, PADDING))
        backend.normalizer, backend.pre_tokenizer = cls._normalizer(), cls._splitter()
        return cls(tokenizer_object=backend, pad_token=PADDING, unk_token=PADDING, model_max_length=max_words)

    @classmethod
    def words_of(cls, text: str) -> list[str]:
        """Return the words of a text, in lower case."""
        return [piece for piece, _ in cls._splitter().pre_tokenize_str(cls._normalizer().normalize_str(text))]

    @classmethod
    def convert_to_native_format(cls, **kwargs: Any) -> dict[str, Any]:
        native = super().convert_to_native_format(**kwargs)
        if __name__.startswith("hf_vits."):
            native.pop("auto_map", None)  # as in `VitsConfig`: only a repository's copy of this class needs it
        return native

    @staticmethod
    @cache
    def _normalizer() -> normalizers.Normalizer:
        return normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])

    @staticmethod
    @cache
    def _splitter() -> pre_tokenizers.PreTokenizer:
        return pre_tokenizers.Split(Regex(r"[\w']+"), "removed", invert=True)


class VattProcessor(ProcessorMixin):
    """Prepares clips, sounds and texts by a video processor, a feature extractor and a tokenizer.

    `processor(videos=..., audio=..., text=...)` returns what the three return for what is given: `pixel_values`
    (clips, frames, channels, height, width), `input_values` (clips, samples) or `input_features` (clips, frames, mel
    bins), and `input_ids` (texts, words).
    """

    def __init__(self, video_processor, feature_extractor, tokenizer):
        super().__init__(video_processor, feature_extractor, tokenizer)

    def __call__(
        self,
        videos: Any = None,
        audio: Any = None,
        text: str | list[str] | None = None,
        return_tensors: str | None = None,
        sampling_rate: int | None = None,
        videos_kwargs: Mapping[str, Any] | None = None,
        audio_kwargs: Mapping[str, Any] | None = None,
        text_kwargs: Mapping[str, Any] | None = None,
    ) -> BatchFeature:
        """Prepare videos, sounds and texts, one or a list of each.

        Args:
            videos, audio: what the video processor and the feature extractor take, such as paths.
            text: texts, cut or padded to the tokenizer's `model_max_length`.
            return_tensors: "pt" or "np".
            sampling_rate: of sounds that come without one, in Hz.
            videos_kwargs, audio_kwargs, text_kwargs: further arguments of the three.

        Raises:
            ValueError: nothing is given, or texts that are none; and the errors of the three.
        """
        if videos is None and audio is None and text is None:
            raise ValueError("expected at least one of `videos`, `audio` and `text`, got none")
        data: dict[str, Any] = {}
        if videos is not None:
            data |= self.video_processor(videos, return_tensors=return_tensors, **(videos_kwargs or {}))
        if audio is not None:
            options = {"sampling_rate": sampling_rate, "return_tensors": return_tensors, **(audio_kwargs or {})}
            data |= self.feature_extractor(audio, **options)
        if text is not None:
            texts = [text] if isinstance(text, str) else list(text)
            if not texts or not all(isinstance(one, str) for one in texts):
                kinds = ", ".join(sorted({type(one).__name__ for one in texts})) or "none"
                raise ValueError(f'expected one or more texts (str), "" for an empty one, got {kinds}')
            options = {"padding": "max_length", "truncation": True, **(text_kwargs or {})}
            data |= self.tokenizer(texts, return_tensors=return_tensors, **options)
        return BatchFeature(data)

    @property
    def model_input_names(self) -> list[str]:
        parts = (self.video_processor, self.feature_extractor, self.tokenizer)
        return [name for part in parts for name in part.model_input_names if name != "attention_mask"]


__all__ = ["VattProcessor", "VattTokenizer"]
