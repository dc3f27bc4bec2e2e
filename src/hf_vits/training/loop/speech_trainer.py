"""The Trainer of CTC speech recognition."""

from typing import Any

import torch
from transformers import EvalPrediction

from hf_vits.layers.sequence_losses import PADDING
from hf_vits.metrics import load_metric

from .trainer import RecipeTrainer

ERROR_RATES = ("word_error_rate", "character_error_rate")


class SpeechTrainer(RecipeTrainer):
    """Trainer of a CTC model. A batch is the model's keyword arguments; labels (batch, tokens) are padded with -100.

    The objective takes the model's outputs. Evaluation decodes greedily, by the most probable token of each frame.
    """

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(**inputs)
        loss, logged = self.objective(outputs)
        self.keep_for_log(logged)
        return (loss, outputs) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """Return no loss; tokens (batch, frames) and losses (batch,) as predictions; and the labels."""
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():
            outputs = model(**inputs)
        tokens = outputs.logits.argmax(dim=-1)
        own_model: Any = self.model
        lengths = own_model._get_feat_extract_output_lengths(inputs["attention_mask"].sum(dim=1))
        padding = torch.arange(tokens.shape[1], device=tokens.device) >= lengths[:, None]
        tokens = tokens.masked_fill(padding, PADDING)
        losses = outputs.loss.float().expand(len(tokens)).contiguous()
        return None, (tokens, losses), inputs["labels"]

    def metrics(self, prediction: EvalPrediction) -> dict[str, float]:
        """Return loss and error rates of a split."""
        references, predictions = transcripts(self.processor.tokenizer, prediction)
        rates = load_metric("word_error_rate").compute(predictions=predictions, references=references)
        own: Any = prediction.predictions
        return {"loss": float(own[1].mean())} | {name: rates[name] for name in ERROR_RATES}


def transcripts(tokenizer, prediction: Any) -> tuple[list[str], list[str]]:
    """Return the reference and predicted texts from the predictions of `SpeechTrainer` on a split."""
    labels, tokens = prediction.label_ids, prediction.predictions[0]
    references = [tokenizer.decode([token for token in row if token >= 0], group_tokens=False) for row in labels]
    return references, [tokenizer.decode([token for token in row if token >= 0]) for row in tokens]
