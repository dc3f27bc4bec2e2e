"""What the tests of `hf_vits.hub` share: tiny models of every architecture, and a Python without hf_vits."""

import hashlib
import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hf_vits.auto import ARCHITECTURES, PRETRAINING
from hf_vits.processing.image import VitsImageProcessor
from hf_vits.testing.hub.loopback import LoopbackHub

SIZES = {
    "image_size": 32,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
}
STAGES = {"image_size": 32, "depths": [1, 1, 2], "hidden_sizes": [8, 16, 16], "num_attention_heads": [1, 2, 2]}
TINY = {
    "vit": {**SIZES, "patch_size": 8, "pooling": "map", "use_mask_token": True},
    "deit": {**SIZES, "patch_size": 8, "distilled": True},
    "cct": {**SIZES, "conv_hidden_size": 8},
    "cvt": STAGES,
    "coat": {
        "image_size": 32,
        "depths": [1, 1, 1, 1],
        "hidden_sizes": [8, 16, 16, 16],
        "mlp_ratios": [2, 2, 2, 2],
        "num_attention_heads": 2,
        "relative_window_sizes": [3, 5],
        "relative_window_heads": [1, 1],
        "num_parallel_layers": 2,
    },
    "lg_transformer": {
        "image_size": 32,
        "depths": [1, 1, 2],
        "hidden_sizes": [8, 16, 16],
        "num_attention_heads": [1, 2, 2],
        "window_size": 2,
        "path_strides": [[1, 2, 4], [1, 2], [1]],
    },
    "regionvit": {**STAGES, "window_size": 2},
    "locally_sag": {**STAGES, "patch_size": 4, "patch_stride": 4, "patch_padding": 0},
    "qna": {
        **STAGES,
        "window_depths": [0, 0, 1],
        "window_sizes": [7, 7, 2],
        "num_query_heads": [2, 2, 4],
        "kernel_sizes": [3, 3, 3],
    },
    "levit": {**STAGES, "key_dim": 8},
    "cmt": {
        "image_size": 32,
        "stem_hidden_size": 8,
        "depths": [1, 1, 1, 2],
        "hidden_sizes": [8, 8, 16, 16],
        "num_attention_heads": [1, 1, 2, 2],
        "pooler_hidden_size": 24,
    },
    "pvt": {
        **STAGES,
        "patch_sizes": [4, 2, 2],
        "sequence_reduction_ratios": [8, 4, 1],
        "mlp_ratios": [2, 2, 2],
        "squeeze_sizes": [4, 4, 4],
    },
    "swin": {**STAGES, "window_size": 2, "squeeze_sizes": [4, 4, 4]},
    "tnt": {**SIZES, "pixel_hidden_size": 8, "pixel_num_attention_heads": 2, "pixel_intermediate_size": 16},
    "mvit": STAGES,
    "t2t": {**SIZES, "token_size": 8},
}
VIDEO = {
    "vivit": {
        **SIZES,
        "num_frames": 4,
        "tubelet_size": [2, 8, 8],
        "attention_type": "factorized_encoder",
        "num_temporal_layers": 1,
    },
    "mvit": {
        **STAGES,
        "num_frames": 4,
        "patch_size": [3, 7, 7],
        "patch_stride": [2, 4, 4],
        "pooling_kernel_size": [3, 3, 3],
    },
}
AUDIO = {
    "audiomer": {"hidden_sizes": [4, 8, 16], "head_dim": 8, "num_random_features": 12},
    "septr": {
        "num_mel_bins": 12,
        "num_frames": 10,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "head_dim": 12,
        "intermediate_size": 32,
    },
    "branchformer": {
        "num_mel_bins": 12,
        "n_fft": 256,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 24,
        "conv_depthwise_kernel_size": 7,
    },
}
HEAD = {"num_prototypes": 12, "head_hidden_size": 20, "head_bottleneck_size": 8}
BACKBONE = {"model_type": "hf_vits_deit", **SIZES, "patch_size": 8, "position_interpolation": "bicubic_offset"}
# Self-supervised models.
METHODS = {
    "mae": {
        **SIZES,
        "patch_size": 8,
        "decoder_hidden_size": 16,
        "decoder_num_hidden_layers": 1,
        "decoder_num_attention_heads": 2,
        "decoder_intermediate_size": 24,
    },
    "dino": {**HEAD, "backbone_config": BACKBONE},
    "ibot": {**HEAD, "num_patch_prototypes": 12, "backbone_config": BACKBONE | {"use_mask_token": True}},
    "esvit": {**HEAD, "backbone_config": BACKBONE},
    "sit": {"backbone_config": BACKBONE, "head_hidden_size": 20, "embedding_size": 8},
}
# Stands before a script's own lines and makes hf_vits as absent as if it had never been installed.
WITHOUT_HF_VITS = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "hf_vits":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Absent())
"""


def model_class(name: str, auto_class: str) -> type:
    row = next(row for row in (*ARCHITECTURES, *PRETRAINING) if row.name == name)
    return getattr(importlib.import_module(row.model_module()), row.models[auto_class])


def tiny_model(name: str, auto_class: str = "AutoModelForImageClassification", **fields):
    """A small model with random weights everywhere, also where the original starts at zero."""
    cls = model_class(name, auto_class)
    torch.manual_seed(0)
    labels = {"id2label": {0: "cat", 1: "dog", 2: "eel"}, "label2id": {"cat": 0, "dog": 1, "eel": 2}}
    sizes = VIDEO if "Video" in auto_class else TINY | AUDIO | METHODS
    model = cls(cls.config_class(**sizes[name] | labels | fields)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.2)
    return model


def tiny_processor() -> VitsImageProcessor:
    return VitsImageProcessor(size={"height": 32, "width": 32}, do_center_crop=False)


def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 48, 3), dtype=np.uint8))


def run_without_hf_vits(script: str, hub: LoopbackHub, folder: Path, token: str | None = None) -> str:
    """What `script` prints, in a fresh interpreter that cannot import hf_vits and talks to `hub`."""
    result = subprocess.run(
        [sys.executable, "-c", WITHOUT_HF_VITS + script],
        env={**os.environ, **hub.environment(folder / "home", token)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def check_cache(home: Path) -> int:
    """How many files the client's cache below `home` holds; fails if one of them is not what its name says."""
    blobs = [path for path in home.rglob("blobs/*") if path.is_file()]
    for blob in blobs:
        data = blob.read_bytes()
        git_id = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        assert blob.name in (hashlib.sha256(data).hexdigest(), git_id), f"{blob.name}: {len(data)} bytes"
    return len(blobs)
