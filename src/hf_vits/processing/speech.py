"""Tokenizer and processor for speech recognition by CTC."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from numbers import Integral
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import BatchEncoding, BatchFeature, PreTrainedTokenizerFast, ProcessorMixin
from transformers.processing_utils import ProcessingKwargs, Unpack

from ..layers.sequence_losses import PADDING

BLANK, UNKNOWN = "<blank>", "<unk>"
SPACE, START_AND_END = "<space>", "<sos/eos>"  # ESPnet's
KINDS = ("characters", "subwords", "words")
_MOST_TOKENS = 2**20  # more is a mistake, which would fill any memory
_SUBWORD_SPACE = "▁"
# The beam search ignores tokens that are less probable than this in a frame.
_LEAST_PROBABILITY = 1e-5
# The beam search needs single characters: tokens are mapped to a private plane of Unicode.
_FIRST_SYMBOL = 0xF0000


class VitsCtcTokenizer(PreTrainedTokenizerFast):
    """A tokenizer of texts that also decodes the output of a CTC model.

    Token 0 is the blank and the padding token, token 1 the unknown token. `train_characters` and `train_bpe` make a
    tokenizer from texts, `of_tokens` one for a model that was trained elsewhere.

    `decode` takes a token per frame: repeated tokens are merged, then blanks are removed. To decode the tokens of a
    text, in which repeats count, pass group_tokens=False, or make the tokenizer with it, for a model whose decoder
    writes texts.
    """

    model_input_names = ["input_ids", "attention_mask"]
    replace_word_delimiter_char = " "  # read by transformers' speech recognition pipeline

    @property
    def group_tokens(self) -> bool:
        """Return whether `decode` merges repeated tokens by default."""
        # Not set in `__init__`: transformers assumes that a class with one builds its tokens itself.
        return self.init_kwargs.get("group_tokens", True)

    @classmethod
    def train_characters(cls, texts: Iterable[str], lowercase: bool = False) -> "VitsCtcTokenizer":
        """Make a tokenizer with a token for each character of `texts`; ValueError if they have none."""
        normalizer = _normalizer(lowercase)
        characters = sorted(set().union(*(normalizer.normalize_str(text) for text in _checked(texts))))
        tokens = [BLANK, UNKNOWN, *characters]
        return cls._of(_of_characters(tokens), normalizer)

    @classmethod
    def train_bpe(cls, texts: Iterable[str], vocab_size: int, lowercase: bool = False) -> "VitsCtcTokenizer":
        """Make a tokenizer with at most `vocab_size` tokens: blank, unknown, and subwords that do not cross spaces.

        Raises ValueError if texts have no characters, or more different ones than fit into `vocab_size`.
        """
        normalizer = _normalizer(lowercase)
        texts = [normalizer.normalize_str(text) for text in _checked(texts)]
        least = len(set("".join(texts)) | {_SUBWORD_SPACE}) + 2
        if not isinstance(vocab_size, int):
            raise TypeError(f"vocab_size must be a whole number, got {vocab_size!r}")
        if vocab_size < least:
            raise ValueError(f"the characters of the texts need a vocab_size of at least {least}, got {vocab_size}")
        if vocab_size > _MOST_TOKENS:
            raise ValueError(f"vocab_size must be at most {_MOST_TOKENS}, got {vocab_size}")
        backend = _of_pieces(models.BPE(unk_token=UNKNOWN))
        trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=[BLANK, UNKNOWN], show_progress=False)
        backend.train_from_iterator(texts, trainer)
        return cls._of(backend, normalizer)

    @classmethod
    def of_tokens(cls, tokens: Sequence[str], kind: str, group_tokens: bool = True) -> "VitsCtcTokenizer":
        """Make a tokenizer with the tokens of a model, in its order, as in ESPnet's token list.

        Args:
            tokens: blank, unknown, and the others; if the last is "<sos/eos>" it marks start and end of texts.
            kind: "characters", with "<space>" for a space; "subwords", with sentencepiece's sign for a space, where a
                text is split into as few as possible; or "words".
            group_tokens: see the class.

        Raises ValueError for tokens that do not begin with "<blank>" and "<unk>", for repeated tokens and for other
        kinds.
        """
        if not isinstance(tokens, Sequence) or isinstance(tokens, str) or not all(isinstance(t, str) for t in tokens):
            raise TypeError(f"tokens must be a list of strings, got {tokens!r:.100}")
        if kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
        if list(tokens[:2]) != [BLANK, UNKNOWN] or len(set(tokens)) < len(tokens):
            found = ", ".join(tokens[:3])
            raise ValueError(f"expected different tokens that begin with {BLANK}, {UNKNOWN}; got {found}, ...")
        if kind == "characters":
            backend = _of_characters([" " if token == SPACE else token for token in tokens])
        elif kind == "subwords":
            backend = _of_pieces(models.Unigram([(token, -1.0) for token in tokens], tokens.index(UNKNOWN)))
        else:
            special = (BLANK, UNKNOWN, START_AND_END)
            pieces = [token if token in special else _SUBWORD_SPACE + token for token in tokens]
            backend = _of_pieces(models.WordLevel(_numbered(pieces), UNKNOWN))
        options = {"eos_token": START_AND_END} if tokens[-1] == START_AND_END else {}
        return cls._of(backend, _normalizer(lowercase=False), group_tokens=group_tokens, **options)

    @classmethod
    def convert_to_native_format(cls, **kwargs: Any) -> dict[str, Any]:
        native = super().convert_to_native_format(**kwargs)
        if __name__.startswith("hf_vits."):
            native.pop("auto_map", None)  # as in `VitsConfig`: only a repository's copy of this class needs it
        return native

    @classmethod
    def _of(cls, backend: Tokenizer, normalizer: normalizers.Normalizer, **options: Any) -> "VitsCtcTokenizer":
        backend.normalizer = normalizer
        return cls(tokenizer_object=backend, pad_token=BLANK, unk_token=UNKNOWN, **options)

    def _decode(
        self,
        token_ids: int | list[int],
        skip_special_tokens: bool = False,
        group_tokens: bool | None = None,
        output_char_offsets: bool = False,
        output_word_offsets: bool = False,
        **kwargs: Any,
    ) -> str | dict[str, Any]:
        """Return the text; with offsets, a dict of it and of {char or word, start_offset, end_offset} in frames."""
        frames = [token_ids] if isinstance(token_ids, int) else token_ids
        if not isinstance(frames, list) or not all(
            isinstance(token, Integral) and 0 <= token < 2**32 for token in frames
        ):
            raise TypeError(f"tokens to decode must be whole numbers, not negative, got {frames!r:.100}")
        spans = list(self._spans(frames, self.group_tokens if group_tokens is None else group_tokens))
        text = super()._decode([token for token, _, _ in spans], skip_special_tokens=skip_special_tokens, **kwargs)
        if not (output_char_offsets or output_word_offsets):
            return text
        pieces = self.convert_ids_to_tokens([token for token, _, _ in spans])
        offsets = [
            {"char": piece.replace(_SUBWORD_SPACE, " "), "start_offset": start, "end_offset": end}
            for piece, (_, start, end) in zip(pieces, spans, strict=True)
        ]
        result = {"text": text}
        if output_char_offsets:
            result["char_offsets"] = offsets
        if output_word_offsets:
            result["word_offsets"] = self._get_word_offsets(offsets, self.replace_word_delimiter_char)
        return result

    def _encode_plus(self, text: Any, *args: Any, **kwargs: Any) -> BatchEncoding:
        if isinstance(text, list | tuple) and not text:
            raise ValueError("expected at least one text, got an empty batch")
        return super()._encode_plus(text, *args, **kwargs)

    def _spans(self, frames: list[int], group_tokens: bool) -> Iterator[tuple[int, int, int]]:
        """Yield (token, first frame, last frame + 1) of each token that is not blank."""
        end = 0
        for token, run in groupby(frames) if group_tokens else ((token, (token,)) for token in frames):
            start, end = end, end + len(tuple(run))
            if token != self.pad_token_id:
                yield token, start, end

    @staticmethod
    def _get_word_offsets(offsets: list[dict[str, Any]], word_delimiter_char: str = " ") -> list[dict[str, Any]]:
        words = []
        begins = True
        for piece in offsets:
            begins = begins or piece["char"].startswith(word_delimiter_char)
            if not (text := piece["char"].strip(word_delimiter_char)):
                continue
            if begins:
                words.append({"word": "", "start_offset": piece["start_offset"]})
            words[-1] |= {"word": words[-1]["word"] + text, "end_offset": piece["end_offset"]}
            begins = False
        return words

    def decode_logits(
        self, logits: torch.Tensor, lengths: torch.Tensor | None = None, num_beams: int = 1
    ) -> list[str]:
        """Return the text for each row of a CTC model's output.

        Args:
            logits: (batch, frames, tokens).
            lengths: number of valid frames in each row, (batch,); all by default.
            num_beams: 1 for the most probable token of each frame; more for a beam search over texts, which sums the
                probabilities of all alignments and needs the package fast-ctc-decode.

        Raises:
            ValueError: the shape is wrong, the logits are not finite, or num_beams is below 1.
            ImportError: fast-ctc-decode is not installed.
        """
        if logits.ndim != 3 or logits.shape[2] < len(self):
            raise ValueError(
                f"expected logits of shape (batch, frames, at least {len(self)} tokens), got {tuple(logits.shape)}"
            )
        if num_beams < 1:
            raise ValueError(f"num_beams must be at least 1, got {num_beams}")
        frames = [logits.shape[1]] * len(logits) if lengths is None else lengths.tolist()
        rows = [row[:length] for row, length in zip(logits, frames, strict=True)]
        if num_beams == 1:
            return [str(self.decode(row.argmax(dim=-1), group_tokens=True)) for row in rows]
        return [str(self.decode(self._search(row, num_beams), group_tokens=False)) for row in rows]

    def _search(self, logits: torch.Tensor, num_beams: int) -> list[int]:
        """Return the tokens of the most probable text by beam search."""
        try:
            from fast_ctc_decode import beam_search  # pyright: ignore[reportAttributeAccessIssue] - compiled, untyped
        except ImportError as error:
            raise ImportError("a beam search needs fast-ctc-decode: pip install 'hf_vits[audio]'") from error
        if not len(logits):
            return []
        if not logits.isfinite().all():
            raise ValueError("the logits are not all finite")
        probabilities = logits.float().softmax(dim=-1).cpu().numpy()
        symbols = [chr(_FIRST_SYMBOL + token) for token in range(probabilities.shape[1])]
        threshold = min(_LEAST_PROBABILITY, 0.5 / len(symbols))
        found, _ = beam_search(probabilities, symbols, beam_size=num_beams, beam_cut_threshold=threshold)
        return [ord(symbol) - _FIRST_SYMBOL for symbol in found]


def _of_characters(tokens: Sequence[str]) -> Tokenizer:
    backend = Tokenizer(models.WordLevel(_numbered(tokens), UNKNOWN))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    backend.decoder = decoders.Fuse()
    return backend


def _of_pieces(model: models.Model) -> Tokenizer:
    """Build a tokenizer of subwords or words, which contain a sign for the space before them."""
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Metaspace(_SUBWORD_SPACE, prepend_scheme="always")
    backend.decoder = decoders.Metaspace(_SUBWORD_SPACE, prepend_scheme="always")
    return backend


def _numbered(tokens: Sequence[str]) -> dict[str, int]:
    return {token: index for index, token in enumerate(tokens)}


def _normalizer(lowercase: bool) -> normalizers.Normalizer:
    """Normalise Unicode to NFC, whitespace to single spaces, without spaces at the ends."""
    steps = [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    return normalizers.Sequence([*steps, *([normalizers.Lowercase()] if lowercase else [])])


def _checked(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str):
        raise TypeError("expected a list of texts, got one string")
    if not isinstance(texts, Iterable):
        raise TypeError(f"expected a list of texts, got {type(texts).__name__}")
    texts = list(texts)
    if wrong := [text for text in texts if not isinstance(text, str)]:
        raise TypeError(f"expected texts as strings, got {type(wrong[0]).__name__}: {wrong[0]!r:.100}")
    if not any(text.strip() for text in texts):
        raise ValueError(f"expected texts to learn tokens from, got {len(texts)} without a character")
    return texts


class VitsSpeechProcessor(ProcessorMixin):
    """A feature extractor for audio and a tokenizer for labels and for decoding of the model's output.

    `processor(audio=..., text=...)` returns the output of the feature extractor and `labels` (batch, tokens), padded
    with -100; with text alone, the output of the tokenizer.
    """

    def __init__(self, feature_extractor, tokenizer):
        super().__init__(feature_extractor, tokenizer)

    def __call__(
        self, audio: Any = None, text: str | list[str] | None = None, **kwargs: Unpack[ProcessingKwargs]
    ) -> BatchFeature | BatchEncoding:
        """Return inputs and labels for audio and its texts, one or a list of each.

        Keyword arguments are passed to the feature extractor or the tokenizer.

        Raises ValueError if neither is given or their numbers differ, and the errors of the feature extractor.
        """
        if audio is None and text is None:
            raise ValueError("expected `audio`, `text` or both, got neither")
        merged: Any = self._merge_kwargs(tokenizer_init_kwargs=self.tokenizer.init_kwargs, **kwargs)
        if audio is None:
            return self.tokenizer(text, **merged["text_kwargs"])
        inputs = self.feature_extractor(audio, **merged["audio_kwargs"])
        if text is not None:
            inputs["labels"] = self.labels(text, **merged["text_kwargs"])
            clips = len(inputs[self.feature_extractor.model_input_names[0]])
            if len(inputs["labels"]) != clips:
                raise ValueError(f"expected a text for each of {clips} clip(s), got {len(inputs['labels'])}")
        return inputs

    def labels(self, texts: str | list[str], return_tensors: str | None = None, **text_kwargs: Any) -> Any:
        """Return the tokens of texts as labels (texts, tokens) for a CTC loss, padded with -100.

        return_tensors: "pt" or "np"; lists by default. Other arguments are passed to the tokenizer.
        """
        texts = [texts] if isinstance(texts, str) else texts
        encoded = self.tokenizer(texts, **{"padding": True, **text_kwargs, "return_attention_mask": True})
        filled = [
            [token if is_text else PADDING for token, is_text in zip(*row, strict=True)]
            for row in zip(encoded["input_ids"], encoded["attention_mask"], strict=True)
        ]
        return BatchFeature({"labels": filled}, tensor_type=return_tensors)["labels"]

    @property
    def model_input_names(self) -> list[str]:
        return [*self.feature_extractor.model_input_names, "labels"]

    def decode_logits(
        self, logits: torch.Tensor, lengths: torch.Tensor | None = None, num_beams: int = 1
    ) -> list[str]:
        """Return the text for each row of logits, see `VitsCtcTokenizer.decode_logits`."""
        return self.tokenizer.decode_logits(logits, lengths, num_beams)
