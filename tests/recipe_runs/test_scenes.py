"""Leopart on scenes, from the backbone that DINO learned there, at full length: `make recipe-runs` alone runs it."""

import pytest
from torch.utils.data import DataLoader

from hf_vits.data.images.masked import load_masked
from hf_vits.data.images.sources.scenes import folder_of
from hf_vits.evaluation.dense_features import MaskedSamples, extract_dense
from hf_vits.evaluation.features import load_encoder
from hf_vits.evaluation.segmentation import segment_by_clusters
from hf_vits.processing.image import VitsImageProcessor
from hf_vits.recipe import load_recipe
from hf_vits.training import train
from tests.support.paths import RECIPES

MARGIN = 0.05  # by which Leopart raises the mean IoU of clusters over its start


def mean_iou_of(run) -> float:
    """Mean IoU of as many clusters as classes, on scenes of 128 pixels, mean over three runs of k-means."""
    images = load_masked(folder_of(load_recipe(RECIPES / "scenes_leopart.yaml").data))["test"]
    encoder = load_encoder(str(run))
    samples = MaskedSamples(images, VitsImageProcessor.from_pretrained(run), encoder, size=128, side=100)
    features, number = extract_dense(encoder, DataLoader(samples, 32)), len(images.class_names)
    return sum(segment_by_clusters(features, number, number, seed=seed).measured.mean for seed in range(3)) / 3


@pytest.mark.timeout(7200)
def test_leopart_raises_the_mean_iou_of_clusters_over_its_start(tmp_path):
    start, end = tmp_path / "dino", tmp_path / "leopart"
    train(RECIPES / "scenes_dino.yaml", [f"output.directory={start}"])
    trained = f"model.initialize_from={{pretrained: {start / 'backbone'}}}"
    train(RECIPES / "scenes_leopart.yaml", [trained, f"output.directory={end}"])
    assert mean_iou_of(end / "backbone") >= mean_iou_of(start / "backbone") + MARGIN
