"""Early-conv ViT of srvCodes/continual_learning_with_vit."""

from hf_vits.architecture import image_architecture

ARCHITECTURES = [image_architecture(__name__, "EarlyConvViT")]
