"""The Trainer of models that compare clips with their sounds and captions."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from hf_vits.evaluation.features import evaluating
from hf_vits.evaluation.retrieval import recall

from .trainer import RecipeTrainer, features_of

# Embeddings and features that are kept of each clip, by their names in the output of VATT.
EMBEDDINGS = ("video_audio_embeds", "audio_embeds", "video_text_embeds", "text_embeds")
FEATURES = "video_features"


class MultimodalTrainer(RecipeTrainer):
    """Trainer of a model whose forward computes the loss of clips with their sounds and captions.

    Evaluation retrieves the sound, and the caption, of each clip among those of other clips.

    Attributes:
        groups: (groups, clips), indices of the validation clips among which is searched.
    """

    groups: np.ndarray

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**features_of(inputs))
        self.keep_for_log({name: value.detach() for name, value in outputs.items() if name.endswith("_loss")})
        return (outputs.loss, outputs) if return_outputs else outputs.loss

    def evaluate(self, eval_dataset: Dataset | None = None, ignore_keys=None, metric_key_prefix: str = "eval"):
        """Measure retrieval on the validation clips, on the main process only."""
        metrics = {}
        if self.is_world_process_zero():
            encoded = self.encode(self.model, self.eval_dataset if eval_dataset is None else eval_dataset)
            found = retrieval_metrics(encoded, self.groups)
            metrics = {f"{metric_key_prefix}_{name}": value for name, value in found.items()}
        self.accelerator.wait_for_everyone()
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def encode(self, model: Any, dataset: Dataset) -> dict[str, Tensor]:
        """Return `EMBEDDINGS`, `FEATURES` and labels of clips, (clips, ...), of texts those of the first caption."""
        loader = DataLoader(dataset, self.args.eval_batch_size, num_workers=self.args.dataloader_num_workers)
        parts: list[dict[str, Tensor]] = []
        with torch.no_grad(), evaluating(model):
            for batch in loader:
                batch = self._prepare_inputs(batch)
                outputs = model(**features_of(batch) | {"input_ids": batch["input_ids"][:, :1]}, return_loss=False)
                encoded = {name: outputs[name].float() for name in EMBEDDINGS}
                parts.append(encoded | {FEATURES: outputs.video_model_output.pooler_output.float()})
                parts[-1]["labels"] = batch["labels"]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def retrieval_metrics(encoded: dict[str, Tensor], groups: np.ndarray) -> dict[str, float]:
    """Return `sound_recall` and `text_recall`: how often the own one is nearest to a clip (recall@1 in a group)."""
    return {
        "sound_recall": recall(encoded["video_audio_embeds"], encoded["audio_embeds"], groups),
        "text_recall": recall(encoded["video_text_embeds"], encoded["text_embeds"], groups),
    }
