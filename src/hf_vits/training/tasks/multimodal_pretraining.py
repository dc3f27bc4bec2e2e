"""Self-supervised pretraining on videos with sound and captions: each clip is compared with its own and others'."""

from collections import Counter
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import AutoModelForPreTraining, AutoProcessor, PreTrainedModel, set_seed

from hf_vits.configuration import pair
from hf_vits.data.audiovisual import SOURCES
from hf_vits.data.splits import Split, Splits, hold_out
from hf_vits.evaluation import low_shot
from hf_vits.evaluation.retrieval import groups_of_different, similarities
from hf_vits.figures.retrieval import draw_similarities
from hf_vits.figures.runs import draw_curves
from hf_vits.folders import temporary_folder
from hf_vits.hub.card import write_card
from hf_vits.processing.vatt import VattProcessor, VattTokenizer
from hf_vits.recipe import DataRecipe, Recipe

from ..examples.captioned_clips import EvaluationCaptionedClips, TrainingCaptionedClips
from ..examples.image_augmentation import training_transform
from ..examples.readable import ReadableSamples
from ..examples.selection import spaced_indices
from ..loop.multimodal_trainer import FEATURES, MultimodalTrainer, retrieval_metrics
from ..report import output
from ..report.card import training_card
from ..task import FinishedRun, Task, evaluated_splits

# Clips among which a sound or a caption is searched.
AMONG = 10
_MOST_PROBED = 2000  # training clips whose features the linear classifier learns from
_EPSILON = 1e-6


class MultimodalPretraining(Task):
    """Task of pretraining without labels. These, where there are any, only measure the features of the clips."""

    auto_model = AutoModelForPreTraining
    auto_processor = AutoProcessor
    trainer = MultimodalTrainer
    noun = "clip"

    def load_splits(self, recipe: DataRecipe) -> Splits:
        loaded = SOURCES.load(recipe)
        by_class = bool(loaded.class_names)
        parts = hold_out(loaded.name, loaded.splits, recipe, by_class=by_class)
        return Splits(loaded.name, list(loaded.class_names), *parts)

    def head_fields(self, recipe: Recipe, splits: Splits) -> dict[str, Any]:
        return {}

    def fit_processor(self, recipe: Recipe, processor: Any, splits: Splits) -> VattProcessor:
        """Return the processor; that of a new model with the words of the training captions, the frequent ones first.

        Raises:
            ValueError: the model's processor does not prepare clips, sounds and words, or there are no captions.
        """
        if not isinstance(processor, VattProcessor):
            raise ValueError(f"expected a model with a VattProcessor, got one with a {type(processor).__name__}")
        if recipe.train.accumulation > 1:
            raise ValueError(
                f"train.accumulation must be 1, got {recipe.train.accumulation}: a clip is compared with the others "
                "of its part of the batch; use more processes or a smaller train.batch_size"
            )
        if recipe.model.pretrained is not None:
            return processor
        tokenizer = processor.tokenizer
        counts: Counter[str] = Counter()
        for index in range(len(splits.train)):
            for caption in splits.train.inputs[index].captions:
                counts.update(VattTokenizer.words_of(caption))
        if not counts:
            raise ValueError(f"{splits.name} has no captions to learn words from")
        words = [word for word, _ in counts.most_common(len(tokenizer) - 1)]
        learned = VattTokenizer.of_words(words, tokenizer.model_max_length)
        return VattProcessor(processor.video_processor, processor.feature_extractor, learned)

    def training_set(self, recipe: Recipe, model: PreTrainedModel, processor, split: Split) -> TrainingCaptionedClips:
        size = pair(model.config.video_config.image_size)
        transform = training_transform(recipe.augmentation, processor.video_processor, size)
        return TrainingCaptionedClips(split, processor, recipe.data.captions, transform, recipe.audio)

    def evaluation_set(self, recipe: Recipe, model: PreTrainedModel, processor, split) -> EvaluationCaptionedClips:
        return EvaluationCaptionedClips(split, processor, recipe.data.captions)

    def objective(self, recipe: Recipe) -> nn.Module:
        return nn.Identity()

    def attach(self, trainer: MultimodalTrainer, splits: Splits) -> None:
        trainer.groups = retrieval_groups(splits.validation)

    def evaluate(self, trainer: MultimodalTrainer, processor, splits: Splits) -> tuple[dict[str, Any], Any]:
        """Return recall@1 among `AMONG` on the splits; on test with classes also the accuracy of linear classifiers.

        They are trained on features of training clips, of this model and of the untrained one.
        """
        results, encoded = {}, {}
        for name, split in evaluated_splits(splits).items():
            encoded = trainer.encode(
                trainer.model, self.evaluation_set(trainer.recipe, trainer.model, processor, split)
            )
            results[name] = retrieval_metrics(encoded, retrieval_groups(split))
        if splits.class_names:
            from ..building import build_model

            set_seed(trainer.recipe.train.seed)
            untrained: Any = build_model(trainer.recipe.model, {}, self)[0].to(trainer.args.device)
            probed = spaced(splits.train, _MOST_PROBED)
            known = self.evaluation_set(trainer.recipe, trainer.model, processor, probed)
            known = ReadableSamples(known, trainer.recipe)
            asked = self.evaluation_set(trainer.recipe, trainer.model, processor, splits.test)
            for name, model in {"linear_accuracy": trainer.model, "untrained_linear_accuracy": untrained}.items():
                pair_of = [trainer.encode(model, dataset) for dataset in (known, asked)]
                results["test"][name] = linear_accuracy(*pair_of)
        return results, encoded

    def write_report(self, run: FinishedRun) -> None:
        """Write README.md with curves and similarities, and each modality's encoder into a directory of its own."""
        model: Any = run.model
        parts = {"video": run.processor.video_processor, "audio": run.processor.feature_extractor}
        for modality, processor in (parts | {"text": run.processor.tokenizer}).items():
            folder = run.directory / modality
            folder.mkdir(exist_ok=True)
            output.save_model(folder, model.export(modality), processor)
        group = retrieval_groups(run.splits.test)[0]
        names = [captions[0] if captions else "" for _, captions in (run.splits.test.inputs[i] for i in group)]
        chosen = {name: value[torch.as_tensor(group, device=value.device)] for name, value in run.details.items()}
        matrices = {
            "sounds": similarities(chosen["video_audio_embeds"], chosen["audio_embeds"]),
            "captions": similarities(chosen["video_text_embeds"], chosen["text_embeds"]),
        }
        with temporary_folder() as drawn:
            curves, seen = drawn / "curves.png", drawn / "similarities.png"
            draw_curves(run.history, curves)
            draw_similarities(matrices, names, seen)
            write_card(training_card(run, self.noun, [curves, seen]), run.directory)


def retrieval_groups(split: Split) -> np.ndarray:
    """Return groups of `AMONG` clips of different classes or, without classes, with different first captions."""
    names = [f"{label}" for label in split.labels]
    if (split.labels < 0).any():
        names = [next(iter(split.inputs[index].captions), "") for index in range(len(split))]
    return groups_of_different(names, AMONG)


def spaced(split: Split, count: int) -> Split:
    """Return some evenly spaced inputs of a split."""
    return split.subset(np.asarray(spaced_indices(len(split), count)))


def linear_accuracy(known: dict[str, Any], asked: dict[str, Any]) -> float:
    """Return the accuracy on `asked` of a logistic regression on the standardised features of `known`."""
    std, mean = torch.std_mean(known[FEATURES], dim=0)
    train, test = ((part[FEATURES] - mean) / (std + _EPSILON) for part in (known, asked))
    classifier = low_shot.fit(train.cpu().numpy(), known["labels"].cpu().numpy(), penalty=1.0)
    return float(classifier.score(test.cpu().numpy(), asked["labels"].cpu().numpy()))


TASK = MultimodalPretraining()
