"""Pipelines with tiny models that are built here.

transformers runs its pipeline tests, which its source distribution leaves out, on tiny models from the Hub. The mixin
that runs them is there; it gets local models, and the tests below.
"""

import atexit
import functools
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, pipeline

from hf_vits.data.label_groups import class_probabilities
from hf_vits.models.detection.configuration_detection import DetectorConfig
from hf_vits.processing.audio import VitsSpectrogramFeatureExtractor, VitsWaveformFeatureExtractor
from hf_vits.processing.detection import VitsDetectionProcessor
from hf_vits.processing.image import VitsImageProcessor
from hf_vits.processing.video import VitsVideoProcessor
from tests.support.forms import FRAMES

from ..support.audio import noise
from ..support.video import encode, numbered
from . import mixins
from .testers import FormTests, ModelTester


def photographs() -> list[Image.Image]:
    """In colour, greyscale, with transparency, and a small one."""
    china, flower = (Image.fromarray(image) for image in load_sample_images().images)
    return [china, flower.convert("L"), china.convert("RGBA"), flower.resize((17, 23))]


def sentences() -> list[str]:
    return ["the cat sat on the mat", "a dog", "the dog and the cat saw the sea"]


@functools.cache
def videos() -> list[str]:
    """Files of several lengths, sizes and formats."""
    folder = tempfile.TemporaryDirectory()
    atexit.register(folder.cleanup)
    sizes = {"long.mp4": (80, 48, 96), "short.mkv": (3, 60, 48), "square.avi": (20, 48, 48)}
    codecs = {"square.avi": {"codec": "mpeg4"}}
    return [
        str(encode(Path(folder.name, name), numbered(range(count), height, width), **codecs.get(name, {})))
        for name, (count, height, width) in sizes.items()
    ]


def clips() -> list[np.ndarray]:
    """Noises of several lengths."""
    return [noise(samples, seed=samples) for samples in (800, 1200, 300)]


EXAMPLES = {"pixel_values": photographs, "input_ids": sentences, "input_values": clips, "input_features": clips}


def make_image_processor(tester: ModelTester) -> VitsImageProcessor:
    side = tester.get_config().image_size
    if issubclass(tester.config_class, DetectorConfig):
        return VitsDetectionProcessor(size={"shortest_edge": side, "longest_edge": 2 * side}, size_divisor=8)
    return VitsImageProcessor(size={"height": side, "width": side}, do_center_crop=False)


def make_video_processor(tester: ModelTester) -> VitsVideoProcessor:
    size = tester.image_size
    return VitsVideoProcessor(num_frames=tester.num_frames, size={"shortest_edge": size}, crop_size=size)


def make_waveform_extractor(config) -> VitsWaveformFeatureExtractor:
    """Makes all clips equally long, as no mask says where they end."""
    samples = config.padded_length(1000)
    return VitsWaveformFeatureExtractor(padding="max_length", max_length=samples, truncation=True)


def make_spectrogram_extractor(config) -> VitsSpectrogramFeatureExtractor:
    """Makes all clips equally long; frames are a hundredth of a second apart."""
    frames = getattr(config, "num_frames", FRAMES)
    return VitsSpectrogramFeatureExtractor(
        feature_size=config.num_mel_bins,
        sampling_rate=8000,
        n_fft=256,
        hop_length=80,
        normalization="min_max",
        padding="max_length",
        max_length=80 * (frames - 1),
        truncation=True,
        pad_with_silence=True,
        return_attention_mask=False,
    )


EXTRACTORS = {"input_values": make_waveform_extractor, "input_features": make_spectrogram_extractor}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Knows the words of `sentences`."""
    words = ["<unk>", "<pad>", *sorted(set(" ".join(sentences()).split()))]
    backend = Tokenizer(models.WordLevel({word: index for index, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inputs = ["input_ids", "attention_mask"]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, unk_token="<unk>", pad_token="<pad>", model_input_names=inputs
    )


class PipelineCheck:
    """A task's pipeline gives what processor and model give, for single inputs and for batches.

    Attributes:
        task: name of the pipeline.
        options: arguments of its calls.
        batch_size: for several inputs.
    """

    task: str
    options: dict[str, Any] = {}
    batch_size = 2

    def get_test_pipeline(self, model, *args, dtype: str = "float32", **kwargs):
        """The pipeline, which the Auto classes load from the folder that `model` came from, and examples for it."""
        loaded = pipeline(self.task, model=model.name_or_path, dtype=dtype)
        assert type(loaded.model) is type(model)
        assert loaded.model.dtype == getattr(torch, dtype)
        return loaded, EXAMPLES[model.main_input_name]()

    def run_pipeline_test(self, loaded, examples: list) -> None:
        processor = loaded.video_processor or loaded.image_processor or loaded.feature_extractor or loaded.tokenizer
        half = loaded.model.dtype == torch.float16
        batched = loaded(examples, batch_size=self.batch_size, **self.options)
        for example, from_batch in zip(examples, batched, strict=True):
            inputs = processor(example, return_tensors="pt")
            if loaded.model.main_input_name != "input_ids":
                inputs = inputs.to(loaded.model.dtype)
            with torch.no_grad():
                expected = self.answer(loaded.model(**inputs), loaded.model.config).float().numpy()
            for found in (loaded(example, **self.options), from_batch):
                found = self.numbers(found, loaded.model.config)
                found = found[tuple(map(slice, expected.shape))]  # texts in a batch are padded
                np.testing.assert_allclose(found, expected, rtol=1e-4, atol=5e-3 if half else 1e-5)

    def answer(self, outputs, config) -> torch.Tensor:
        """What of the model's output the pipeline shows."""
        raise NotImplementedError

    def numbers(self, found: Any, config) -> np.ndarray:
        """What the pipeline shows, in the shape of `answer`."""
        raise NotImplementedError


class FeatureExtraction(PipelineCheck):
    task = "feature-extraction"

    def answer(self, outputs, config) -> torch.Tensor:
        return outputs.last_hidden_state

    def numbers(self, found, config) -> np.ndarray:
        return np.array(found)


class ImageFeatureExtraction(FeatureExtraction):
    task = "image-feature-extraction"

    def run_pipeline_test(self, loaded, examples: list) -> None:
        super().run_pipeline_test(loaded, examples)
        pooled = loaded(examples[0], pool=True)
        assert np.shape(pooled) == (1, loaded.model.config.pooler_size)


class TextClassification(PipelineCheck):
    task = "text-classification"
    options = {"top_k": 3}

    def answer(self, outputs, config) -> torch.Tensor:
        return class_probabilities(config, outputs.logits[0])

    def numbers(self, found, config) -> np.ndarray:
        scores = [item["score"] for item in found]
        assert scores == sorted(scores, reverse=True)
        by_label = {item["label"]: item["score"] for item in found}
        return np.array([by_label[config.id2label[index]] for index in range(config.num_labels)])


class ImageClassification(TextClassification):
    task = "image-classification"


class VideoClassification(TextClassification):
    task = "video-classification"
    batch_size = 1  # transformers makes batches for tokenizers, feature extractors and image processors alone

    def get_test_pipeline(self, model, *args, **kwargs):
        loaded, _ = super().get_test_pipeline(model, *args, **kwargs)
        assert isinstance(loaded.video_processor, VitsVideoProcessor)
        return loaded, videos()


class AudioClassification(TextClassification):
    task = "audio-classification"


class ObjectDetection(PipelineCheck):
    task = "object-detection"
    options = {"threshold": 0.0}

    def get_test_pipeline(self, model, *args, **kwargs):
        """As for all, with images of one size, since transformers does not pad those of a batch."""
        loaded, examples = super().get_test_pipeline(model, *args, **kwargs)
        return loaded, [image.resize((60, 45)) for image in examples]

    def run_pipeline_test(self, loaded, examples: list) -> None:
        batched = loaded(examples, batch_size=1, **self.options)
        for example, from_batch in zip(examples, batched, strict=True):
            inputs = loaded.image_processor(example.convert("RGB"), return_tensors="pt").to(loaded.model.dtype)
            with torch.no_grad():
                outputs = loaded.model(**inputs)
            self.check(loaded, outputs, (example.height, example.width), loaded(example, **self.options))
            self.check(loaded, outputs, (example.height, example.width), from_batch)

    def check(self, loaded, outputs, size: tuple[int, int], found: list[dict]) -> None:
        """Compare what the pipeline found in an image with the model's outputs."""
        (expected,) = loaded.image_processor.post_process_object_detection(outputs, 0.0, [size])
        assert found
        assert [item["score"] for item in found] == pytest.approx(expected["scores"].tolist(), abs=1e-3)
        boxes = [list(item["box"].values()) for item in found]
        np.testing.assert_allclose(boxes, expected["boxes"].int().numpy(), atol=1)


class ImageSegmentation(ObjectDetection):
    task = "image-segmentation"
    options = {"threshold": 0.0, "mask_threshold": 0.1}

    def check(self, loaded, outputs, size: tuple[int, int], found: list[dict]) -> None:
        processor = loaded.image_processor
        (expected,) = processor.post_process_instance_segmentation(outputs, 0.0, 0.1, 0.5, [size])
        assert found
        assert [item["score"] for item in found] == pytest.approx(
            [item["score"] for item in expected["segments_info"]], abs=1e-3
        )
        for number, item in enumerate(found):
            assert np.array_equal(np.asarray(item["mask"]) > 0, (expected["segmentation"] == number).numpy())


CHECKS = (
    FeatureExtraction,
    ImageFeatureExtraction,
    TextClassification,
    ImageClassification,
    VideoClassification,
    AudioClassification,
    ObjectDetection,
    ImageSegmentation,
)
for _check in CHECKS:
    mixins.pipelines.pipeline_test_mapping[_check.task] = {"test": f"{__name__}.{_check.__name__}"}

TASKS = {
    "clips": {"AutoModelForVideoClassification": "video-classification"},
    "pixel_values": {
        "AutoModel": "image-feature-extraction",
        "AutoModelForImageClassification": "image-classification",
        "AutoModelForObjectDetection": "object-detection",
        "AutoModelForInstanceSegmentation": "image-segmentation",
    },
    "input_values": {"AutoModelForAudioClassification": "audio-classification"},
    "input_features": {"AutoModelForAudioClassification": "audio-classification"},
    "input_ids": {
        "AutoModel": "feature-extraction",
        "AutoModelForSequenceClassification": "text-classification",
    },
}


class PipelineTests(FormTests, mixins.pipelines.PipelineTesterMixin):
    def setUp(self):
        super().setUp()
        self.pipeline_model_mapping = self.tasks(self.model_tester)

    @staticmethod
    def tasks(tester: ModelTester) -> dict[str, type]:
        """{task: our class} of what the architecture can do."""
        takes_images = tester.main_input_name == "pixel_values"
        clips = takes_images and getattr(tester.get_config(), "num_frames", None) is not None
        clips = clips and tester.kind_of_inputs != "images"
        if tester.kind_of_inputs == "modalities":
            return {}
        tasks = TASKS.get("clips" if clips else tester.main_input_name, {})
        return {task: tester.models[auto_class] for auto_class, task in tasks.items() if auto_class in tester.models}

    @classmethod
    def other_tests(cls, tester: ModelTester) -> list[str]:
        """Names of the mixin's tests of tasks that the architecture has no model for."""
        ours = {f"test_pipeline_{task.replace('-', '_')}" for task in cls.tasks(tester)}
        return [name for name in dir(cls) if name.startswith("test_") and name.removesuffix("_fp16") not in ours]

    def run_task_tests(self, task: str, dtype: str = "float32") -> None:
        with tempfile.TemporaryDirectory() as folder:
            summary = self.save_tiny_model(self.pipeline_model_mapping[task], Path(folder))
            with mock.patch.multiple(
                mixins.pipelines, TRANSFORMERS_TINY_MODEL_PATH=folder, tiny_model_summary=summary
            ):
                super().run_task_tests(task, dtype)

    def save_tiny_model(self, model_class: type, folder: Path) -> dict[str, dict]:
        """Write model and processor where the mixin looks for them; the summary says what they are."""
        tester, name = self.model_tester, model_class.__name__
        target = folder / tester.config_class.model_type / name
        torch.manual_seed(0)
        model = model_class(tester.get_config())
        # The boxes of a detector would be far outside the image.
        mean, std = (0.0, 0.1) if issubclass(tester.config_class, DetectorConfig) else (0.1, 0.2)
        for parameter in model.parameters():
            # Heads start at zero in some architectures, which would make all images look alike.
            torch.nn.init.normal_(parameter, mean=mean, std=std)
        model.save_pretrained(target)
        if tester.main_input_name == "input_ids":
            make_tokenizer().save_pretrained(target)
            return {name: {"tokenizer_classes": ["PreTrainedTokenizerFast"], "processor_classes": []}}
        if "video-classification" in self.pipeline_model_mapping:
            make_video_processor(tester).save_pretrained(target)
            return {name: {"tokenizer_classes": [], "processor_classes": []}}
        if tester.main_input_name in EXTRACTORS:
            EXTRACTORS[tester.main_input_name](model.config).save_pretrained(target)
            return {name: {"tokenizer_classes": [], "processor_classes": ["AutoFeatureExtractor"]}}
        make_image_processor(tester).save_pretrained(target)
        return {name: {"tokenizer_classes": [], "processor_classes": ["AutoImageProcessor"]}}

    def run_pipeline_test(self, task, repo_name, model_architecture, *args, dtype: str = "float32", **kwargs) -> None:
        """As in the mixin, which knows no video processors and skips what has only one."""
        if task != VideoClassification.task:
            super().run_pipeline_test(task, repo_name, model_architecture, *args, dtype=dtype, **kwargs)
            return
        folder = Path(mixins.pipelines.TRANSFORMERS_TINY_MODEL_PATH, model_architecture.config_class.model_type)
        check = VideoClassification()
        loaded, examples = check.get_test_pipeline(model_architecture.from_pretrained(folder / repo_name), dtype=dtype)
        check.run_pipeline_test(loaded, examples)
        assert len(list(loaded(example for example in examples))) == len(examples)

    def skipTest(self, reason: str) -> None:
        """The mixin skips what it cannot load; here that is a failure."""
        self.fail(reason)
