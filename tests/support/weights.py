"""Weights for tests."""

import torch


@torch.no_grad()
def perturb(model: torch.nn.Module) -> torch.nn.Module:
    """Random weights everywhere, other in the student than in the teacher."""
    generator = torch.Generator().manual_seed(3)
    for tensor in model.parameters():
        tensor.add_(torch.randn(tensor.shape, generator=generator), alpha=0.1)
    return model
