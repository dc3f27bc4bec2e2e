"""Folding batch norms into the linear maps before them, for inference."""

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

FUSERS = {
    nn.Conv1d: fuse_conv_bn_eval,
    nn.Conv2d: fuse_conv_bn_eval,
    nn.Conv3d: fuse_conv_bn_eval,
    nn.Linear: fuse_linear_bn_eval,
}


def fuse(model: nn.Module) -> nn.Module:
    """Fold every batch norm that directly follows a convolution or linear layer in an `nn.Sequential`, in place.

    The fused model computes the same up to rounding with fewer operations; it can no longer be trained as before,
    nor saved as a checkpoint of its architecture. Raises ValueError for a model in training mode, whose batch norms
    still depend on the batch.

    Returns:
        The same model.
    """
    if model.training:
        raise ValueError("fuse() folds batch norms at their running statistics; call model.eval() first")
    for container in [module for module in model.modules() if isinstance(module, nn.Sequential)]:
        for index in range(len(container) - 1):
            linear, norm = container[index], container[index + 1]
            fuser = FUSERS.get(type(linear))
            if fuser is not None and isinstance(norm, nn.modules.batchnorm._BatchNorm):
                container[index], container[index + 1] = fuser(linear, norm), nn.Identity()
    return model
