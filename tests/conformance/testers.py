"""What the mixins ask about a model: its configuration, inputs and expected sizes, read off a form."""

import copy
import importlib
from random import Random

import torch
from transformers.testing_utils import torch_device

from hf_vits.auto import ARCHITECTURES, PRETRAINING
from tests.support.forms import FRAMES, SAMPLES, WORDS, Form, PretrainingForm

from .mixins import common


def images(config, batch_size: int, frames: int | None = None) -> dict[str, torch.Tensor]:
    """Images, or clips of so many frames."""
    size = config.image_size
    height, width = (size, size) if isinstance(size, int) else size
    shape = [*([] if frames is None else [frames]), config.num_channels, height, width]
    return {"pixel_values": common.floats_tensor([batch_size, *shape], rng=Random(0))}


def pixels(config, batch_size: int) -> dict[str, torch.Tensor]:
    """Images, or clips where the configuration says how many frames."""
    return images(config, batch_size, getattr(config, "num_frames", None))


def texts(config, batch_size: int) -> dict[str, torch.Tensor]:
    """The first text is whole, the others are padded."""
    input_ids = common.ids_tensor([batch_size, WORDS], config.vocab_size, rng=Random(0))
    return {"input_ids": input_ids, "attention_mask": mask(batch_size, WORDS)}


def mask(batch_size: int, length: int) -> torch.Tensor:
    """(batch, length): the first sequence is whole, the others lack the last three."""
    lengths = torch.tensor([length, *[length - 3] * (batch_size - 1)], device=torch_device)
    return (torch.arange(length, device=torch_device) < lengths[:, None]).long()


def waveforms(config, batch_size: int) -> dict[str, torch.Tensor]:
    return {"input_values": common.floats_tensor([batch_size, config.padded_length(SAMPLES)], rng=Random(0))}


def spectrograms(config, batch_size: int) -> dict[str, torch.Tensor]:
    """Of as many frames as the model is made for; where it takes any, the first is whole, the others are padded."""
    size = [batch_size, getattr(config, "num_frames", FRAMES), config.num_mel_bins]
    features = {"input_features": common.floats_tensor(size, rng=Random(0))}
    if hasattr(config, "num_frames"):
        return features
    features["attention_mask"] = mask(batch_size, FRAMES)
    if config.is_encoder_decoder:
        # As long as the speech, since the mixins put one mask on both.
        features["decoder_input_ids"] = common.ids_tensor([batch_size, FRAMES], config.vocab_size, rng=Random(0))
    return features


def points(config, batch_size: int) -> dict[str, torch.Tensor]:
    """The only modality of the configuration, (batch, index, channels)."""
    (_, count, channels), *_ = config.modalities
    return {"inputs": common.floats_tensor([batch_size, count, channels], rng=Random(0))}


def modalities(config, batch_size: int) -> dict[str, torch.Tensor]:
    """Clips, their sounds and texts."""
    clips, sounds = pixels(config.video_config, batch_size), waveforms(config.audio_config, batch_size)
    return clips | sounds | texts(config.text_config, batch_size)


INPUTS = {
    "pixel_values": pixels,
    "input_ids": texts,
    "input_values": waveforms,
    "input_features": spectrograms,
    "images": images,
    "modalities": modalities,
    "inputs": points,
}


MAIN_INPUTS = ("pixel_values", "input_ids", "input_values", "input_features", "inputs")


class ModelTester:
    """Answers for one form; the fields of its configuration are attributes too, as the mixins expect.

    Attributes:
        expected_num_hidden_layers: how many hidden states the model returns.
        num_hidden_layers: how many attention maps it returns, which is all that the mixins compare it with.
        models: {Auto class: our class}.
        seq_length: tokens of the inputs.
        encoder_seq_length: tokens that the layers see.
        num_masks, mask_length: patches masked, and all patches.
    """

    batch_size = 3
    num_labels = 3
    is_training = True

    def __init__(self, form: Form):
        self.__dict__.update(form.config)
        self.fields = form.config
        self.kind_of_inputs = form.inputs
        architecture = next(a for a in ARCHITECTURES if a.name == form.architecture)
        module = importlib.import_module(architecture.model_module())
        self.config_class = architecture.config_class()
        self.models = {
            auto: getattr(module, name)
            for auto, name in architecture.models.items()
            if auto in (form.auto_classes or architecture.models)
        }
        config = self.get_config()
        parts = [] if hasattr(config, "hidden_size") else [getattr(config, name) for name in config.sub_configs]
        encoder = parts[0] if parts else config
        self.hidden_size = encoder.hidden_size
        self.expected_num_hidden_layers = (form.layers or encoder.num_hidden_layers) + 1
        self.num_hidden_layers = form.attentions or encoder.num_hidden_layers
        self.encoder_seq_length = form.tokens
        if form.attention is not None:
            self.num_attention_heads, self.encoder_seq_length, self.key_length = form.attention
        self.seq_length = WORDS if self.main_input_name == "input_ids" else form.tokens
        self.decoder_seq_length = FRAMES if config.is_encoder_decoder else self.seq_length
        self.mask_length = form.tokens - config.num_prefix_tokens
        self.num_masks = self.mask_length // 2
        if form.inputs == "modalities":
            self.video_model_tester = ClipsTester(self)

    @property
    def main_input_name(self) -> str:
        """The main input of the model classes, or of the models, where a configuration decides it."""
        name = self.kind_of_inputs
        return name if name in MAIN_INPUTS else next(iter(self.models.values())).main_input_name

    @property
    def classifier_class(self) -> type | None:
        """Our model with a classification head; the training mixin calls it `sequence_classification_class`."""
        names = (
            "AutoModelForImageClassification",
            "AutoModelForVideoClassification",
            "AutoModelForSequenceClassification",
            "AutoModelForAudioClassification",
        )
        return next((self.models[name] for name in names if name in self.models), None)

    sequence_classification_class = classifier_class

    def get_config(self, **changes):
        return self.config_class(num_labels=self.num_labels, **self.fields | changes)

    def inputs(self, config) -> dict[str, torch.Tensor]:
        return INPUTS[self.kind_of_inputs or self.main_input_name](config, self.batch_size)

    def prepare_config_and_inputs_for_common(self):
        config = self.get_config()
        return config, self.inputs(config)


class ClipsTester:
    """Answers for the clips of a model of several modalities, which the mixins else call `pixel_values_videos`."""

    def __init__(self, whole: ModelTester):
        self.whole = whole
        self.num_hidden_layers = whole.num_hidden_layers

    def prepare_config_and_inputs_for_common(self):
        config, inputs = self.whole.prepare_config_and_inputs_for_common()
        return config, {"pixel_values": inputs["pixel_values"]}


def views(config, batch_size: int, number: int = 2, part: float = 1.0) -> torch.Tensor:
    """(batch, views, channels, height, width), of a part of the side that the backbone is made for."""
    side = int(config.image_size * part)
    return common.floats_tensor([batch_size, number, config.num_channels, side, side], rng=Random(number))


def last_side(config) -> int:
    """Side of the grid of patch tokens, of a map in stages in the last."""
    return config.image_size // (config.patch_size * 2 ** (len(getattr(config, "depths", [1])) - 1))


def patch_masks(config, batch_size: int) -> torch.Tensor:
    """(batch, 2, patches), True where a patch is masked."""
    masks = common.floats_tensor([batch_size, 2, last_side(config) ** 2], rng=Random(3)) < 0.3
    return masks.to(torch_device)


def patch_order(config, batch_size: int) -> torch.Tensor:
    """(batch, patches), permutations of the patches."""
    return common.floats_tensor([batch_size, last_side(config) ** 2], rng=Random(3)).argsort(dim=1).to(torch_device)


def corrupted_views(config, batch_size: int) -> dict[str, torch.Tensor]:
    """Other images, and which of their pixels count as corrupted."""
    side = config.image_size
    mask = common.floats_tensor([batch_size, 2, side, side], rng=Random(4)) > 0.5
    return {"corrupted_pixel_values": views(config, batch_size).flip(0), "corruption_mask": mask}


def view_boxes(batch_size: int) -> torch.Tensor:
    """(batch, 2, 4), the places of two views that overlap."""
    return torch.tensor([[[0.0, 0.0, 0.8, 0.8], [0.3, 0.2, 1.0, 1.0]]] * batch_size, device=torch_device)


def overlaps(config, batch_size: int) -> dict[str, torch.Tensor]:
    """Boxes of overlaps of 2 views and 3 local ones: a half of each."""
    box = torch.tensor([0.0, 0.0, config.image_size / 2, config.image_size / 2], device=torch_device)
    boxes = box.expand(batch_size, 2, 5, 4)
    part = torch.where(torch.arange(5, device=torch_device)[:, None] < 2, 1.0, 0.6)
    return {"global_boxes": boxes.clone(), "crop_boxes": (boxes * part).transpose(1, 2).clone()}


# {what a batch holds: its tensors, from the configuration of the backbone and the batch size}
PRETRAINING_INPUTS = {
    "images": lambda config, batch: {"pixel_values": views(config, batch)[:, 0]},
    "noise": lambda config, batch: {
        "noise": common.floats_tensor([batch, (config.image_size // config.patch_size) ** 2], rng=Random(4))
    },
    "order": lambda config, batch: {"order": patch_order(config, batch)},
    "views": lambda config, batch: {"pixel_values": views(config, batch)},
    "local_views": lambda config, batch: {"local_pixel_values": views(config, batch, number=3, part=0.6)},
    "overlaps": overlaps,
    "patch_masks": lambda config, batch: {"bool_masked_pos": patch_masks(config, batch)},
    "priors": lambda config, batch: {
        "priors": common.floats_tensor([batch, 2, 2, last_side(config), last_side(config)], rng=Random(4)).abs()
    },
    "corrupted_views": corrupted_views,
    "view_boxes": lambda config, batch: {"view_boxes": view_boxes(batch)},
    "rotations": lambda config, batch: {"rotation_labels": common.ids_tensor([batch, 2], 4, rng=Random(5))},
}


class PretrainingTester:
    """Answers for one form of a self-supervised model; sizes are those of its backbone.

    Attributes:
        models: {Auto class: our class}.
    """

    batch_size = 3
    is_training = True

    def __init__(self, form: PretrainingForm):
        self.form = form
        architecture = next(a for a in PRETRAINING if a.name == form.architecture)
        module = importlib.import_module(architecture.model_module())
        self.config_class = architecture.config_class()
        self.models = {auto: getattr(module, name) for auto, name in architecture.models.items()}
        backbone = self.backbone_of(self.get_config())
        for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "image_size", "patch_size"):
            setattr(self, name, getattr(backbone, name))
        self.encoder_seq_length = self.seq_length = form.tokens

    @staticmethod
    def backbone_of(config):
        return getattr(config, "backbone_config", config)

    def get_config(self, **changes):
        return self.config_class(**copy.deepcopy(self.form.config) | changes)

    def prepare_config_and_inputs_for_common(self):
        config = self.get_config()
        backbone = self.backbone_of(config)
        inputs = {}
        for name in self.form.inputs:
            inputs |= PRETRAINING_INPUTS[name](backbone, self.batch_size)
        return config, inputs


class FormTests:
    """Tests on one form of the table.

    Attributes:
        form: set in each class that is made of a form.
    """

    form: Form | PretrainingForm
    model_tester_class: type = ModelTester

    def setUp(self):
        self.model_tester = self.model_tester_class(self.form)
        self.config_class = self.model_tester.config_class
        self.all_model_classes = tuple(dict.fromkeys(self.model_tester.models.values()))
