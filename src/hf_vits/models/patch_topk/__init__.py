"""Differentiable patch selection (arXiv 2104.03059): classifiers that look at a few patches of a large image."""

from hf_vits.architecture import IMAGES, architecture

MODELS = {"AutoModel": "Model", "AutoModelForImageClassification": "ForImageClassification"}

ARCHITECTURES = [
    architecture(__name__, "PatchSelection", MODELS, IMAGES, name="patch_selection"),
    architecture(__name__, "PatchCnn", MODELS, IMAGES, name="patch_cnn"),
    architecture(__name__, "NtsNet", MODELS, IMAGES, name="nts_net"),
]
