"""transformers' mixins of feature extractors, of joint processors and of tokenizers, on ours for audio."""

import random
import shutil
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import numpy as np

from hf_vits.processing.audio import KALDI, VitsSpectrogramFeatureExtractor, VitsWaveformFeatureExtractor
from hf_vits.processing.speech import VitsCtcTokenizer, VitsSpeechProcessor

from .mixins import import_mixins

sequences, processing, tokenization, backend = import_mixins(
    "test_sequence_feature_extraction_common",
    "test_processing_common",
    "test_tokenization_common",
    "test_tokenizers_backend_mixin",
)

TEXTS = ["lower newer upper older longer string", "This is a sentence, 12 3 (contains #)."]

EXTRACTORS = {
    "Waveform": (VitsWaveformFeatureExtractor, {"feature_size": 1, "sampling_rate": 8192, "padding_value": 0.0}),
    "WaveformFixed": (
        VitsWaveformFeatureExtractor,
        {"feature_size": 1, "padding": "max_length", "max_length": 8192, "truncation": True, "do_normalize": True},
    ),
    "LogMel": (VitsSpectrogramFeatureExtractor, {"feature_size": 80, "hop_length": 128}),
    "Picture": (VitsSpectrogramFeatureExtractor, {"feature_size": 128, "normalization": "min_max"}),
    "Kaldi": (VitsSpectrogramFeatureExtractor, {"feature_size": 40, **KALDI, "normalization": "utterance"}),
    "Linear": (VitsSpectrogramFeatureExtractor, {"feature_size": 129, "n_fft": 256, "mel_scale": None}),
}


class ExtractorTester:
    """What the mixin asks for: fields, and sequences of rising lengths as they are before padding."""

    batch_size = 7
    min_seq_length = 400
    max_seq_length = 2000
    seq_length_diff = (max_seq_length - min_seq_length) // (batch_size - 1)

    def __init__(self, fields: dict):
        self.fields = fields
        self.feature_size = fields["feature_size"]

    def prepare_feat_extract_dict(self) -> dict:
        return self.fields

    def prepare_inputs_for_common(self, equal_length: bool = False, numpify: bool = False) -> list:
        generator = random.Random(0)
        lengths = range(self.min_seq_length, self.max_seq_length, self.seq_length_diff)
        shapes = [self.max_seq_length if equal_length else length for length in lengths]
        clips = [self._sequence(length, generator) for length in shapes][: self.batch_size]
        return [np.asarray(clip) for clip in clips] if numpify else clips

    def _sequence(self, length: int, generator: random.Random) -> list:
        if self.feature_size == 1:
            return [generator.random() for _ in range(length)]
        return [[generator.random() for _ in range(self.feature_size)] for _ in range(length)]


class ExtractorTests(sequences.SequenceFeatureExtractionTestMixin):
    """Attributes:
    fields: of the feature extractor, set in each class that is made of an entry of the table.
    """

    fields: dict

    def setUp(self):
        self.feat_extract_tester = ExtractorTester(self.fields)


for _name, (_extractor, _fields) in EXTRACTORS.items():
    _class = f"Test{_name}FeatureExtractor"
    globals()[_class] = type(
        _class,
        (ExtractorTests, unittest.TestCase),
        {"feature_extraction_class": _extractor, "fields": _fields, "__module__": __name__},
    )


class TestSpeechProcessor(processing.ProcessorTesterMixin, unittest.TestCase):
    processor_class = VitsSpeechProcessor
    text_input_name = "labels"

    @classmethod
    def _setup_feature_extractor(cls):
        return VitsSpectrogramFeatureExtractor()

    @classmethod
    def _setup_tokenizer(cls):
        return VitsCtcTokenizer.train_characters(TEXTS)


class TokenizerTests:
    """Saves a tokenizer where the mixins look for one, and the text that they read, which the source archive lacks."""

    tokenizer_class = rust_tokenizer_class = VitsCtcTokenizer

    @classmethod
    def setUpClass(cls):
        folder = Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, folder)
        cls.make_tokenizer().save_pretrained(folder / "tokenizer")
        cls.from_pretrained_id = str(folder / "tokenizer")
        (folder / "fixtures").mkdir()
        (folder / "fixtures" / "sample_text.txt").write_text("\n".join(TEXTS))
        with mock.patch.object(tokenization, "get_tests_dir", return_value=str(folder)):
            super().setUpClass()


class TestCharacterTokenizer(TokenizerTests, tokenization.TokenizerTesterMixin, unittest.TestCase):
    @staticmethod
    def make_tokenizer() -> VitsCtcTokenizer:
        return VitsCtcTokenizer.train_characters(TEXTS)


class TestSubwordTokenizer(
    TokenizerTests, tokenization.TokenizerTesterMixin, backend.TokenizersBackendTesterMixin, unittest.TestCase
):
    """The second mixin is about words in texts, of which characters know nothing."""

    @staticmethod
    def make_tokenizer() -> VitsCtcTokenizer:
        return VitsCtcTokenizer.train_bpe(TEXTS, vocab_size=80)
