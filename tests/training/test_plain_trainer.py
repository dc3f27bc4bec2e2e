"""Models in transformers' own Trainer: accumulated parts take the step of the batch, metrics get logits alone."""

import dataclasses

import pytest
import torch
from torch.utils.data import SequentialSampler
from transformers import Trainer, TrainingArguments

import hf_vits

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
IMAGES = {"image_size": 16, "patch_size": 8, "num_labels": 3, **SIZES}
TEXTS = {"vocab_size": 20, "max_position_embeddings": 8, "num_labels": 3, **SIZES}
CLIPS = {"image_size": 16, "tubelet_size": [2, 8, 8], "num_frames": 4, **SIZES}
SPEECH = {"num_mel_bins": 12, "n_fft": 256, "conv_depthwise_kernel_size": 7, "vocab_size": 6, **SIZES}
DECODER = {"decoder_layers": 1, "decoder_attention_heads": 2, "decoder_ffn_dim": 32}
SEVERAL = {"problem_type": "multi_label_classification"}
REGRESSION = {"problem_type": "regression"}


def drawn(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


PIXELS = {"pixel_values": drawn(4, 3, 16, 16)}
CLASSES, VALUES = torch.tensor([0, 1, 2, 0]), torch.tensor([[1.0, 0, 1], [0, 0, 1], [1, 1, 0], [0, 1, 1]])
SOUNDS = {"input_features": drawn(4, 80, 12), "attention_mask": torch.ones(4, 80, dtype=torch.long)}
SPOKEN = torch.tensor([[1, 2, 3, -100], [2, 3, 1, 2], [3, -100, -100, -100], [1, 1, -100, -100]])
CASES = {
    "one class": ("ViTForImageClassification", IMAGES, PIXELS, CLASSES),
    "several labels": ("ViTForImageClassification", IMAGES | SEVERAL, PIXELS, VALUES),
    "regression": ("ViTForImageClassification", IMAGES | REGRESSION, PIXELS, VALUES),
    "one number": ("ViTForImageClassification", IMAGES | {"num_labels": 1}, PIXELS, VALUES[:, 0]),
    "two classifiers, one class": ("DeiTForImageClassification", IMAGES | {"distilled": True}, PIXELS, CLASSES),
    "two classifiers, several": ("DeiTForImageClassification", IMAGES | {"distilled": True} | SEVERAL, PIXELS, VALUES),
    "classifiers of tokens": ("SiTForImageClassification", IMAGES | {"head": "tokens"} | SEVERAL, PIXELS, VALUES),
    "texts": ("CctForSequenceClassification", TEXTS, {"input_ids": torch.arange(32).view(4, 8) % 20}, CLASSES),
    "several heads": (
        "VivitForVideoClassification",
        CLIPS | {"num_labels": 5, "head_sizes": [3, 2]},
        {"pixel_values": drawn(4, 4, 3, 16, 16)},
        torch.tensor([[0, 0], [1, 1], [2, 1], [0, 0]]),
    ),
    "sounds, several": (
        "BranchformerForAudioClassification",
        SPEECH | SEVERAL | {"num_labels": 3},
        SOUNDS,
        VALUES,
    ),
    "CTC": ("BranchformerForCTC", SPEECH, SOUNDS, SPOKEN),
    "CTC and decoder": ("BranchformerForSpeechSeq2Seq", SPEECH | DECODER, SOUNDS, SPOKEN),
}


class InOrder(Trainer):
    def _get_train_sampler(self, *args, **kwargs):
        return SequentialSampler(self.train_dataset)


def model_of(case):
    name, fields, inputs, labels = CASES[case]
    torch.manual_seed(0)
    model_class = getattr(hf_vits, name)
    names = (field.name for field in dataclasses.fields(model_class.config_class))
    undropped = {
        name: 0.0 for name in names if name.endswith(("drop_rate", "drop_path_rate", "dropout_prob", "dropout"))
    }
    model = model_class(model_class.config_class(**undropped | fields))
    samples = [{**{key: value[index] for key, value in inputs.items()}, "labels": labels[index]} for index in range(4)]
    return model, samples


def step(case, directory, size, parts):
    """Length of a step of SGD with learning rate 1."""
    model, samples = model_of(case)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    arguments = TrainingArguments(
        output_dir=directory, per_device_train_batch_size=size, gradient_accumulation_steps=parts, max_steps=1,
        learning_rate=1.0, lr_scheduler_type="constant", max_grad_norm=0.0, weight_decay=0.0, optim="sgd",
        report_to="none", use_cpu=True, save_strategy="no", remove_unused_columns=False, disable_tqdm=True,
    )  # fmt: skip
    InOrder(model=model, args=arguments, train_dataset=samples).train()
    moved = [(model.state_dict()[name] - value).double().square().sum() for name, value in before.items()]
    return torch.stack(moved).sum().sqrt().item()


@pytest.mark.parametrize("case", CASES)
def test_accumulated_parts_take_the_step_of_the_batch(case, tmp_path):
    whole, parts = step(case, tmp_path, 4, 1), step(case, tmp_path, 1, 4)
    assert whole > 0
    assert parts == pytest.approx(whole, rel=1e-3)


@pytest.mark.parametrize("case", CASES)
def test_metrics_get_one_array_of_predictions(case, tmp_path):
    model, samples = model_of(case)
    seen = []

    def metrics(prediction):
        seen.append(prediction.predictions)
        return {}

    arguments = TrainingArguments(
        output_dir=tmp_path, per_device_eval_batch_size=2, report_to="none", use_cpu=True, disable_tqdm=True,
        remove_unused_columns=False,
    )  # fmt: skip
    Trainer(model=model, args=arguments, eval_dataset=samples, compute_metrics=metrics).evaluate()
    with torch.no_grad():
        batch = {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}
        logits = model.eval()(**batch).logits
    (predictions,) = seen
    torch.testing.assert_close(torch.from_numpy(predictions), logits, atol=1e-4, rtol=1e-4)
