"""Early-conv ViT (arXiv 2203.13167): a ViT on the last map of four strided convolutions, for continual learning."""

from hf_vits.architecture import IMAGES, architecture

MODELS = {
    "AutoModel": "Model",
    "AutoModelForImageClassification": "ForImageClassification",
    "AutoBackbone": "Backbone",
}

ARCHITECTURES = [architecture(__name__, "EarlyConvViT", MODELS, IMAGES, name="early_conv_vit")]
