"""Text of speech recognition by CTC: a tokenizer of characters or subwords, decoding, and what joins both to audio."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import BatchEncoding, BatchFeature, PreTrainedTokenizerFast, ProcessorMixin
from transformers.processing_utils import ProcessingKwargs, Unpack

from ..layers.sequence_losses import PADDING

BLANK, UNKNOWN = "<blank>", "<unk>"
SPACE, START_AND_END = "<space>", "<sos/eos>"  # ESPnet's
KINDS = ("characters", "subwords", "words")
_SUBWORD_SPACE = "▁"
# Tokens that are less probable than this in a frame are not tried there by the beam search.
_LEAST_PROBABILITY = 1e-5
# Beam search hands tokens over as single characters of a private plane of Unicode.
_FIRST_SYMBOL = 0xF0000


class VitsCtcTokenizer(PreTrainedTokenizerFast):
    """Tokens of texts, and texts of what a CTC model says at each frame.

    Token 0 is the blank, which is the padding token too; token 1 stands for what is unknown. `train_characters` and
    `train_bpe` make one from texts, `of_tokens` one for a model that was trained elsewhere.

    `decode` takes the most probable token of each frame: repeats count once, blanks are dropped. To decode the tokens
    of a text, where repeats count, pass group_tokens=False, which is the default of a tokenizer made with it, for a
    model whose decoder writes texts.
    """

    model_input_names = ["input_ids", "attention_mask"]
    replace_word_delimiter_char = " "  # as transformers' speech recognition asks for it

    @property
    def group_tokens(self) -> bool:
        """Whether `decode` counts repeats once if not told."""
        # Not set by an `__init__`: transformers would take a class that has one to build its tokens itself.
        return self.init_kwargs.get("group_tokens", True)

    @classmethod
    def train_characters(cls, texts: Iterable[str], lowercase: bool = False) -> "VitsCtcTokenizer":
        """A tokenizer with a token for each character of `texts`.

        Raises ValueError where they hold none.
        """
        normalizer = _normalizer(lowercase)
        characters = sorted(set().union(*(normalizer.normalize_str(text) for text in _checked(texts))))
        tokens = [BLANK, UNKNOWN, *characters]
        return cls._of(_of_characters(tokens), normalizer)

    @classmethod
    def train_bpe(cls, texts: Iterable[str], vocab_size: int, lowercase: bool = False) -> "VitsCtcTokenizer":
        """A tokenizer with at most `vocab_size` subwords, blank and unknown among them, that begin at spaces.

        Raises ValueError where texts hold no character, or more different ones than `vocab_size` leaves room for.
        """
        normalizer = _normalizer(lowercase)
        texts = [normalizer.normalize_str(text) for text in _checked(texts)]
        least = len(set("".join(texts)) | {_SUBWORD_SPACE}) + 2
        if vocab_size < least:
            raise ValueError(f"the texts' characters need a vocab_size of at least {least}, got {vocab_size}")
        backend = _of_pieces(models.BPE(unk_token=UNKNOWN))
        trainer = trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=[BLANK, UNKNOWN], show_progress=False)
        backend.train_from_iterator(texts, trainer)
        return cls._of(backend, normalizer)

    @classmethod
    def of_tokens(cls, tokens: Sequence[str], kind: str, group_tokens: bool = True) -> "VitsCtcTokenizer":
        """A tokenizer with a model's own tokens, in their order, as ESPnet lists them.

        Args:
            tokens: blank, unknown, and the others; a last "<sos/eos>" stands before and after texts.
            kind: "characters", where "<space>" stands for a space; "subwords", with sentencepiece's sign for a space,
                into as few of which texts are cut; or "words".
            group_tokens: see the class.

        Raises ValueError for tokens that do not begin with "<blank>" and "<unk>" or are there twice, and other kinds.
        """
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
        """The text; with offsets asked for, a dict of it and of {char or word, start_offset, end_offset} in frames."""
        frames = [token_ids] if isinstance(token_ids, int) else token_ids
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

    def _spans(self, frames: list[int], group_tokens: bool) -> Iterator[tuple[int, int, int]]:
        """(token, first frame, frame after the last) of each token that is no blank."""
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
        """The text of each row of a CTC model's output.

        Args:
            logits: (batch, frames, tokens).
            lengths: (batch,), how many frames of each row count; all by default.
            num_beams: 1 for the most probable token of each frame, more for a beam search over texts, which sums the
                probabilities of all the ways to say one. That needs the package fast-ctc-decode.

        Raises:
            ValueError: of other shapes, not finite, or num_beams below 1.
            ImportError: a beam search without the package.
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
        """Tokens of the most probable text."""
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
    """Of pieces of words, or whole ones, that say whether there is a space before them."""
    backend = Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Metaspace(_SUBWORD_SPACE, prepend_scheme="always")
    backend.decoder = decoders.Metaspace(_SUBWORD_SPACE, prepend_scheme="always")
    return backend


def _numbered(tokens: Sequence[str]) -> dict[str, int]:
    return {token: index for index, token in enumerate(tokens)}


def _normalizer(lowercase: bool) -> normalizers.Normalizer:
    """Composed characters, single spaces, none at the ends."""
    steps = [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
    return normalizers.Sequence([*steps, *([normalizers.Lowercase()] if lowercase else [])])


def _checked(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str):
        raise TypeError("expected a list of texts, got one string")
    texts = list(texts)
    if not any(text.strip() for text in texts):
        raise ValueError(f"expected texts to learn tokens from, got {len(texts)} without a character")
    return texts


class VitsSpeechProcessor(ProcessorMixin):
    """A feature extractor and a tokenizer: audio to a model's inputs, texts to its labels, its output to text.

    `processor(audio=..., text=...)` gives what the feature extractor gives and `labels` (batch, tokens), padded with
    -100; with text alone, what the tokenizer gives.
    """

    def __init__(self, feature_extractor, tokenizer):
        super().__init__(feature_extractor, tokenizer)

    def __call__(
        self, audio: Any = None, text: str | list[str] | None = None, **kwargs: Unpack[ProcessingKwargs]
    ) -> BatchFeature | BatchEncoding:
        """Inputs and labels of audio and its texts, one or a list of each; keyword arguments go to whom they concern.

        Raises ValueError without either, or with different numbers of them; and what the feature extractor raises.
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
        """Tokens of texts as a CTC loss takes them, (texts, tokens): the shorter filled up with -100.

        return_tensors: "pt" or "np"; lists by default. Others are the tokenizer's arguments.
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
        """As `VitsCtcTokenizer.decode_logits`."""
        return self.tokenizer.decode_logits(logits, lengths, num_beams)
