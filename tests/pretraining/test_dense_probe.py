"""Dense probe: labels of pixels that do not fit the images."""

import pytest
import torch

from hf_vits.pretraining.dense_probe.configuration_dense_probe import DenseProbeConfig
from hf_vits.pretraining.dense_probe.modeling_dense_probe import DenseProbeForSemanticSegmentation
from tests.support.forms import BACKBONE


@pytest.fixture(scope="module")
def probe() -> DenseProbeForSemanticSegmentation:
    return DenseProbeForSemanticSegmentation(DenseProbeConfig(backbone_config=BACKBONE, num_labels=3))


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (torch.zeros(2, 16, 16).long(), ValueError, r"labels must have shape \(2, 32, 32\)"),
        (torch.zeros(2, 32, 32), TypeError, "labels must be int64"),
        (torch.full((2, 32, 32), 3), ValueError, r"labels must lie in \[0, 3\)"),
    ],
)
def test_labels_that_do_not_fit_are_refused(probe, labels, error, message):
    with pytest.raises(error, match=message):
        probe(torch.rand(2, 3, 32, 32), labels=labels)


def test_pixels_without_a_label_do_not_count(probe):
    images, labels = torch.rand(2, 3, 32, 32), torch.ones(2, 32, 32).long()
    output = probe(images, labels=labels.index_fill(2, torch.arange(16), 255))
    seen = output.logits[..., 16:].log_softmax(dim=1)[:, 1]
    torch.testing.assert_close(output.loss, -seen.mean())
