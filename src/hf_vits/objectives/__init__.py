"""Losses as modules over tensors; each returns a scalar loss and a dict of values to log."""

from hf_vits.objectives.classification import (
    BinaryCrossEntropy,
    CoSubLoss,
    CrossEntropy,
    FrequencyBalancedCrossEntropy,
    SigmoidCrossEntropy,
)
from hf_vits.objectives.continual import (
    ContinualCrossEntropy,
    ElasticWeightConsolidation,
    JensenShannonRegularization,
    LwfDistillation,
    MapRegularization,
    PathIntegral,
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
from hf_vits.objectives.sfc import CorrespondenceLoss
from hf_vits.objectives.sit import MomentumSiTLoss, SiTLoss
from hf_vits.objectives.uncertainty import UncertaintyWeighting

__all__ = [
    "AbsoluteReconstruction",
    "AsymmetricLoss",
    "BinaryCrossEntropy",
    "CoSubLoss",
    "ContinualCrossEntropy",
    "CorrespondenceLoss",
    "CrossEntropy",
    "DINOLoss",
    "DistillationLoss",
    "ElasticWeightConsolidation",
    "EsViTLoss",
    "FeatureRegression",
    "FrequencyBalancedCrossEntropy",
    "IBOTLoss",
    "JensenShannonRegularization",
    "LeopartLoss",
    "LwfDistillation",
    "MapRegularization",
    "MaskedLabelLoss",
    "MaskedPatchRegression",
    "MomentumContrastLoss",
    "MomentumSiTLoss",
    "MultiHeadCrossEntropy",
    "NTXentLoss",
    "PathIntegral",
    "PriorAttentionLoss",
    "SiTLoss",
    "SigmoidCrossEntropy",
    "UncertaintyWeighting",
]
