"""Classification of videos by names of classes, with a model that was not trained to classify."""

import argparse
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoProcessor

from hf_vits.data.videos import VIDEOS as MEDIA
from hf_vits.evaluation.zero_shot import classify_by_names

from ..models import load_with

CHECKED_FIRST = True


def predict(args: argparse.Namespace, paths: list[Path]) -> list[dict[str, Any]]:
    """Return {file, predictions: [{label, score}, ...]} per video, by the similarity of its central clip to names."""
    model, processor = load_with(AutoProcessor, args.model)
    rows = []
    for path in tqdm(paths, desc="Classifying", unit="video", disable=None):
        scores = classify_by_names(model, processor, [str(path)], args.label)[0]
        best = torch.topk(scores, min(args.top_k, len(scores)))
        pairs = zip(best.indices.tolist(), best.values.tolist(), strict=True)
        rows.append(
            {"file": str(path), "predictions": [{"label": args.label[i], "score": score} for i, score in pairs]}
        )
    return rows


__all__ = ["CHECKED_FIRST", "MEDIA", "predict"]
