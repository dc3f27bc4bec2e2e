"""Losses as modules over tensors; each returns a scalar loss and a dict of values to log."""

from hf_vits.objectives.classification import (
    BinaryCrossEntropy,
    CoSubLoss,
    CrossEntropy,
    FocalLoss,
    FrequencyBalancedCrossEntropy,
    SigmoidCrossEntropy,
    balanced_weights,
)
from hf_vits.objectives.continual import (
    ElasticWeightConsolidation,
    IncrementalCriterion,
    JensenShannonLoss,
    PathIntegral,
    PooledDistillationLoss,
)
from hf_vits.objectives.contrastive import MomentumContrastLoss, NTXentLoss
from hf_vits.objectives.dino import DINOLoss
from hf_vits.objectives.distillation import DistillationLoss
from hf_vits.objectives.esvit import EsViTLoss
from hf_vits.objectives.ibot import IBOTLoss
from hf_vits.objectives.leopart import LeopartLoss
from hf_vits.objectives.multi_head import MultiHeadCrossEntropy
from hf_vits.objectives.multi_label import AsymmetricLoss, MaskedLabelLoss
from hf_vits.objectives.priors import PriorAttentionLoss
from hf_vits.objectives.reconstruction import AbsoluteReconstruction, FeatureRegression, MaskedPatchRegression
from hf_vits.objectives.regression import StandardizedSquaredError
from hf_vits.objectives.sfc import CorrespondenceLoss
from hf_vits.objectives.sit import MomentumSiTLoss, SiTLoss
from hf_vits.objectives.uncertainty import UncertaintyWeighting

__all__ = [
    "AbsoluteReconstruction",
    "AsymmetricLoss",
    "BinaryCrossEntropy",
    "CoSubLoss",
    "CorrespondenceLoss",
    "CrossEntropy",
    "DINOLoss",
    "DistillationLoss",
    "ElasticWeightConsolidation",
    "EsViTLoss",
    "FeatureRegression",
    "FocalLoss",
    "FrequencyBalancedCrossEntropy",
    "IBOTLoss",
    "IncrementalCriterion",
    "JensenShannonLoss",
    "LeopartLoss",
    "MaskedLabelLoss",
    "MaskedPatchRegression",
    "MomentumContrastLoss",
    "MomentumSiTLoss",
    "MultiHeadCrossEntropy",
    "NTXentLoss",
    "PathIntegral",
    "PooledDistillationLoss",
    "PriorAttentionLoss",
    "SiTLoss",
    "SigmoidCrossEntropy",
    "StandardizedSquaredError",
    "UncertaintyWeighting",
    "balanced_weights",
]
