"""Shape bias on cue conflicts as an `evaluate` module, loaded by its path since a name needs a network.

Geirhos et al., arXiv 1811.12231; bethgelab/model-vs-human (plotting/analyses.py, `ShapeBias`).
"""

import datasets
import evaluate
import numpy as np

_DESCRIPTION = "Of images with the shape of one category and the texture of another, how often shape decides."

_INPUTS = """
Args:
    predictions: category that the model says, as an index.
    references: category of the shape.
    textures: category of the texture. Images where both agree are no decision, but are in the fractions' denominator.
Returns:
    fraction_correct_shape and fraction_correct_texture, of all images; shape_bias: shape's fraction of the sum of
    both, NaN where neither ever decides.
"""


def shape_bias(responses, shapes, textures) -> dict[str, float]:
    """Return fraction_correct_shape, fraction_correct_texture and shape_bias, of categories (images,) each."""
    responses, shapes, textures = (np.asarray(values) for values in (responses, shapes, textures))
    conflict = shapes != textures
    by_shape, by_texture = (float((conflict & (responses == cue)).mean()) for cue in (shapes, textures))
    decided = by_shape + by_texture
    return {
        "fraction_correct_shape": by_shape,
        "fraction_correct_texture": by_texture,
        "shape_bias": by_shape / decided if decided else float("nan"),
    }


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class ShapeBias(evaluate.Metric):
    def _info(self):
        features = {"predictions": datasets.Value("int64"), "references": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(features),
        )

    def _compute(self, predictions, references, textures):
        return shape_bias(predictions, references, textures)
