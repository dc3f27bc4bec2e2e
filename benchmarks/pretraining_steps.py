"""The steps that `benchmarks.pretraining` compares: for each method ours, the original's and those of other peers.

Child processes build the steps too, from the sizes, so builders are functions of this module.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from types import SimpleNamespace
from unittest import mock

import numpy as np
import timm.models.vision_transformer
import torch
from scipy import ndimage
from torch import nn
from transformers import CLIPVisionConfig
from transformers import ViTMAEConfig as TransformersViTMAEConfig
from transformers import ViTMAEForPreTraining as TransformersViTMAEForPreTraining

from hf_vits.models.deit.configuration_deit import DeiTConfig
from hf_vits.models.res_net.configuration_res_net import ResNetConfig
from hf_vits.models.swin.configuration_swin import SwinConfig
from hf_vits.models.vit.configuration_vit import ViTConfig
from hf_vits.objectives.leopart import overlap_boxes
from hf_vits.objectives.masks import MaskRatio, block_mask
from hf_vits.pretraining.dino.configuration_dino import DINOConfig
from hf_vits.pretraining.dino.modeling_dino import DINOForPreTraining
from hf_vits.pretraining.esvit.configuration_esvit import EsViTConfig
from hf_vits.pretraining.esvit.modeling_esvit import EsViTForPreTraining
from hf_vits.pretraining.ibot.configuration_ibot import IBOTConfig
from hf_vits.pretraining.ibot.modeling_ibot import IBOTForPreTraining
from hf_vits.pretraining.leopart.configuration_leopart import LeopartConfig
from hf_vits.pretraining.leopart.modeling_leopart import LeopartForPreTraining
from hf_vits.pretraining.mae.configuration_mae import MAEConfig
from hf_vits.pretraining.mae.modeling_mae import MAEForPreTraining
from hf_vits.pretraining.milan.configuration_milan import MILANConfig
from hf_vits.pretraining.milan.modeling_milan import MILANForPreTraining
from hf_vits.pretraining.sfc.configuration_sfc import SFCConfig
from hf_vits.pretraining.sfc.modeling_sfc import SFCForPreTraining
from hf_vits.pretraining.sit.configuration_sit import SiTConfig
from hf_vits.pretraining.sit.modeling_sit import SiTForPreTraining
from hf_vits.training.loop.callbacks import clip_each

from .originals import TIMM, definitions, start_one_process
from .steps import Step

CLIP = 3.0
MOMENTUM = 0.996
DROP_PATH = 0.1
TEMPERATURE = 0.04
IBOT_PROTOTYPES = 8192
# Fields of our configurations and of transformers' ViTMAE.
VIT_SMALL = {"hidden_size": 384, "num_hidden_layers": 12, "num_attention_heads": 6, "intermediate_size": 1536}
CLIP_BASE = {
    "hidden_size": 768,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "patch_size": 16,
    "projection_dim": 512,
}


@dataclass(frozen=True)
class Sizes:
    """Sizes of inputs and models, the same for all contestants.

    Attributes:
        batch: number of images.
        local_views: number of views of `local_size` pixels, beside two of `image_size`.
        vit: fields of the ViT's configuration; the originals always have ViT-S.
        num_prototypes: number of prototypes of DINO and EsViT.
    """

    batch: int = 8
    local_views: int = 2
    image_size: int = 224
    local_size: int = 96
    vit: dict[str, int] = field(default_factory=lambda: dict(VIT_SMALL))
    num_prototypes: int = 65536

    def views(self) -> dict[str, torch.Tensor]:
        """Draw global and local views in the form that our models take."""
        shapes = {
            "pixel_values": (self.batch, 2, 3, self.image_size, self.image_size),
            "local_pixel_values": (self.batch, self.local_views, 3, self.local_size, self.local_size),
        }
        return {name: torch.randn(shape) for name, shape in shapes.items() if shape[1]}

    def list_of_views(self) -> list[torch.Tensor]:
        """Draw views as a list with a tensor per view, the form that the originals take."""
        return [view for views in self.views().values() for view in views.unbind(1)]

    def overlaps(self) -> tuple[torch.Tensor, ...]:
        """Return boxes of overlaps of views that cover quarters and more of an image, as Leopart takes them."""
        side, number = self.image_size, 2 + self.local_views
        start = torch.arange(number) * side / (4 * number)
        boxes = torch.stack([start, start, start + side / 2, start + side / 2], dim=1)
        resized = [(side, side)] * 2 + [(self.local_size, self.local_size)] * self.local_views
        return overlap_boxes(boxes.expand(self.batch, -1, -1), resized, 2)

    def masks(self) -> torch.Tensor:
        """Draw block-wise masks (batch, 2, rows, columns) as iBOT does; half of the views are not masked."""
        grid, generator = (self.image_size // 16,) * 2, Random(0)
        ratios = MaskRatio((0.0, 0.3), (0.0, 0.2))
        masks = [block_mask(grid, ratios.draw(generator), generator) for _ in range(2 * self.batch)]
        return torch.tensor(np.stack(masks)).unflatten(0, (self.batch, 2))


Make = Callable[..., Step]


@dataclass(frozen=True)
class Method:
    """A method whose steps are compared.

    Attributes:
        ours: function that makes our step from the sizes.
        clone: <owner>/<name> of the original.
        original: function that makes the original's step from the sizes and the folder of its clone.
        peers: {name of another peer: function that makes its step from the sizes}.
    """

    ours: Make
    clone: str | None = None
    original: Make | None = None
    peers: dict[str, Make] = field(default_factory=dict)

    def makers(self, sizes: Sizes, originals: Path | None) -> dict[str, Callable[[], Step]]:
        """Return {"ours", "original" (if its clone exists) or other peer: function that makes its step}."""
        makers = {name: partial(make, sizes) for name, make in {"ours": self.ours, **self.peers}.items()}
        if self.original and originals is not None and (originals / self.clone).is_dir():
            makers["original"] = partial(self.original, sizes, (originals / self.clone).resolve())
        return makers


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    return torch.optim.AdamW(trained, lr=1e-4, fused=True)


# Ours


def our_step(model: nn.Module, inputs: dict[str, torch.Tensor], has_teacher: bool = True, clips: bool = True) -> Step:
    model.train()
    optimizer = optimizer_of(model)

    def step() -> None:
        optimizer.zero_grad()
        model(**inputs).loss.backward()
        if has_teacher and clips:
            clip_each(model.parameters(), CLIP)
        optimizer.step()
        if has_teacher:
            model.update_teacher(MOMENTUM)

    return step


def our_backbone(sizes: Sizes, **more) -> DeiTConfig:
    fields = {"image_size": sizes.image_size, "position_interpolation": "bicubic_offset"}
    return DeiTConfig(**sizes.vit, **fields, drop_path_rate=DROP_PATH, **more)


def our_mae(sizes: Sizes) -> Step:
    model = MAEForPreTraining(MAEConfig(**sizes.vit, image_size=sizes.image_size))
    return our_step(model, {"pixel_values": sizes.views()["pixel_values"][:, 0]}, has_teacher=False)


def our_milan(sizes: Sizes) -> Step:
    """Return the step with CLIP ViT-B/16 as target, of the same depth as the encoder if that is less."""
    backbone = ViTConfig(**sizes.vit, image_size=sizes.image_size, hidden_act="gelu")
    depth = min(sizes.vit["num_hidden_layers"], 12)
    clip = CLIPVisionConfig(**CLIP_BASE, num_hidden_layers=depth, image_size=sizes.image_size)
    model = MILANForPreTraining(MILANConfig(backbone_config=backbone, target_config=clip))
    return our_step(model, {"pixel_values": sizes.views()["pixel_values"][:, 0]}, has_teacher=False)


def our_dino(sizes: Sizes) -> Step:
    config = DINOConfig(backbone_config=our_backbone(sizes), num_prototypes=sizes.num_prototypes)
    return our_step(DINOForPreTraining(config), sizes.views())


def our_ibot(sizes: Sizes) -> Step:
    prototypes = {"num_prototypes": IBOT_PROTOTYPES, "num_patch_prototypes": IBOT_PROTOTYPES}
    config = IBOTConfig(backbone_config=our_backbone(sizes, use_mask_token=True), **prototypes)
    return our_step(IBOTForPreTraining(config), sizes.views() | {"bool_masked_pos": sizes.masks().flatten(2)})


def our_sit(sizes: Sizes) -> Step:
    views = sizes.views()["pixel_values"]
    inputs = {"pixel_values": views, "corrupted_pixel_values": views + 1, "corruption_mask": views[:, :, 0] > 0}
    return our_step(SiTForPreTraining(SiTConfig(backbone_config=our_backbone(sizes))), inputs)


def our_esvit(sizes: Sizes) -> Step:
    backbone = SwinConfig(layer_norm_eps=1e-6, shift_like="image_size", drop_path_rate=DROP_PATH)
    model = EsViTForPreTraining(EsViTConfig(backbone_config=backbone, num_prototypes=sizes.num_prototypes))
    return our_step(model, sizes.views())


def our_leopart(sizes: Sizes) -> Step:
    # Views of the tests have too few patches for a foreground.
    region = "foreground" if sizes.image_size >= 64 else "all"
    config = LeopartConfig(backbone_config=our_backbone(sizes), queue_length=0, region=region)
    model = LeopartForPreTraining(config).train()
    global_boxes, crop_boxes = sizes.overlaps()
    inputs = sizes.views() | {"global_boxes": global_boxes, "crop_boxes": crop_boxes}
    optimizer = optimizer_of(model)

    def step() -> None:
        optimizer.zero_grad()
        model(**inputs).loss.backward()
        model.update_teacher(MOMENTUM)
        optimizer.step()

    return step


def view_boxes(batch: int) -> torch.Tensor:
    """Return the places of two views that overlap, (batch, 2, 4)."""
    return torch.tensor([[0.0, 0.0, 0.8, 0.8], [0.3, 0.2, 1.0, 1.0]]).repeat(batch, 1, 1)


def our_sfc(sizes: Sizes) -> Step:
    backbone = ResNetConfig(image_size=sizes.image_size, strides=[1, 2, 1, 1])
    inputs = {"pixel_values": sizes.views()["pixel_values"], "view_boxes": view_boxes(sizes.batch)}
    return our_step(SFCForPreTraining(SFCConfig(backbone_config=backbone)), inputs, clips=False)


def our_encoder(sizes: Sizes, visible: bool) -> Step:
    """Return forward and backward of MAE's encoder, on the quarter of the patches that is visible or on all."""
    config = MAEConfig(**sizes.vit, image_size=sizes.image_size)
    encoder = MAEForPreTraining(config).model.train()
    images = sizes.views()["pixel_values"][:, 0]
    num_patches = (sizes.image_size // 16) ** 2
    kept = torch.rand(sizes.batch, num_patches).argsort(dim=1)[:, : num_patches // 4] if visible else None

    def step() -> None:
        encoder.zero_grad()
        encoder(images, kept_patches=kept).last_hidden_state.mean().backward()

    return step


# Peers


def transformers_mae(sizes: Sizes) -> Step:
    config = TransformersViTMAEConfig(**sizes.vit, image_size=sizes.image_size, layer_norm_eps=1e-6)
    images = {"pixel_values": sizes.views()["pixel_values"][:, 0]}
    return our_step(TransformersViTMAEForPreTraining(config), images, has_teacher=False)


# The originals


def original_step(loss_of: Callable[[], torch.Tensor], student: nn.Module, teacher: nn.Module, utils) -> Step:
    """Return a step with the originals' clipping and update of the teacher (`train_one_epoch` in each repository)."""
    optimizer = optimizer_of(student)
    followed = dict(student.named_parameters())
    pairs = [(own, followed[name]) for name, own in teacher.named_parameters() if name in followed]

    def step() -> None:
        loss = loss_of()
        optimizer.zero_grad()
        loss.backward()
        utils.clip_gradients(student, CLIP)
        optimizer.step()
        with torch.no_grad():
            for own, parameter in pairs:
                own.data.mul_(MOMENTUM).add_((1 - MOMENTUM) * parameter.detach().data)

    return step


def start_teacher(student: nn.Module, teacher: nn.Module) -> None:
    teacher.load_state_dict(student.state_dict(), strict=False)
    teacher.requires_grad_(False)


def original_mae(sizes: Sizes, clone: Path) -> Step:
    """Return the step of MAE's original, adapted to present versions of timm and numpy.

    timm's block no longer has an argument, which has its default value here. The position table is zero, since the
    function that computes it uses a name that numpy has removed; time and memory do not depend on it.
    """
    block = timm.models.vision_transformer.Block
    code = definitions(
        clone,
        "models_mae.py",
        Block=lambda *arguments, qk_scale, **options: block(*arguments, **options),
        get_2d_sincos_pos_embed=lambda size, side, cls_token: np.zeros((1 + side * side, size)),
    )
    norm = partial(nn.LayerNorm, eps=1e-6)
    model = code.MaskedAutoencoderViT(embed_dim=384, depth=12, num_heads=6, norm_layer=norm).train()
    images, optimizer = sizes.list_of_views()[0], optimizer_of(model)

    def step() -> None:
        optimizer.zero_grad()
        loss, _, _ = model(images)
        loss.backward()
        optimizer.step()

    return step


def original_milan(sizes: Sizes, clone: Path) -> Step:
    """Return the step of MILAN's original, adapted as `original_mae`, with CLIP ViT-B/16 as target."""
    block = timm.models.vision_transformer.Block
    code = definitions(
        clone,
        "models_milan.py",
        Block=lambda *arguments, qk_scale, **options: block(*arguments, **options),
        get_2d_sincos_pos_embed=lambda size, side, cls_token: np.zeros((1 + side * side, size)),
    )
    clip = definitions(clone, "clip_demo.py").VisionTransformer(sizes.image_size, 16, 768, 12, 12, 512)
    clip.requires_grad_(False).eval()
    norm = partial(nn.LayerNorm, eps=1e-6)
    options = {"embed_dim": 384, "depth": 12, "num_heads": 6, "norm_layer": norm}
    model = code.MaskedAutoencoderViT(**options, use_clip=True, attn_mask=True).train()
    images, optimizer = sizes.list_of_views()[0], optimizer_of(model)

    def step() -> None:
        optimizer.zero_grad()
        with torch.no_grad():
            target = clip(images)
        loss, _, _ = model(images, clip_teacher=target)
        loss.backward()
        optimizer.step()

    return step


def original_dino(sizes: Sizes, clone: Path) -> Step:
    start_one_process()
    code = definitions(clone, "main_dino.py")

    def branch(**options) -> nn.Module:
        backbone = code.vits.vit_small(patch_size=16, **options)
        head = code.DINOHead(backbone.embed_dim, sizes.num_prototypes, norm_last_layer=False)
        return code.utils.MultiCropWrapper(backbone, head).train()

    student, teacher = branch(drop_path_rate=DROP_PATH), branch()
    start_teacher(student, teacher)
    loss = code.DINOLoss(sizes.num_prototypes, 2 + sizes.local_views, TEMPERATURE, TEMPERATURE, 0, 1)
    views = sizes.list_of_views()
    return original_step(lambda: loss(student(views), teacher(views[:2]), 0), student, teacher, code.utils)


def original_ibot(sizes: Sizes, clone: Path) -> Step:
    start_one_process()
    main = definitions(clone, "main_ibot.py")
    vits = definitions(clone, "models/vision_transformer.py", **TIMM)
    heads = definitions(clone, "models/head.py")

    def branch(**options) -> nn.Module:
        backbone = vits.vit_small(patch_size=16, return_all_tokens=True, **options)
        head = heads.iBOTHead(
            backbone.embed_dim,
            IBOT_PROTOTYPES,
            patch_out_dim=IBOT_PROTOTYPES,
            norm_last_layer=False,
            shared_head=True,
        )
        return main.utils.MultiCropWrapper(backbone, head).train()

    student, teacher = branch(drop_path_rate=DROP_PATH, masked_im_modeling=True), branch()
    start_teacher(student, teacher)
    schedule = (TEMPERATURE,) * 4
    loss = main.iBOTLoss(IBOT_PROTOTYPES, IBOT_PROTOTYPES, 2, sizes.local_views, *schedule, 0, 1)
    views, masks = sizes.list_of_views(), list(sizes.masks().unbind(1))

    def loss_of() -> torch.Tensor:
        targets = teacher(views[:2])
        predicted = student(views[:2], mask=masks)
        student.backbone.masked_im_modeling = False
        local = student(views[2:])[0] if views[2:] else None
        student.backbone.masked_im_modeling = True
        return loss(predicted, targets, local, masks, 0)["loss"]

    return original_step(loss_of, student, teacher, main.utils)


def original_sit(sizes: Sizes, clone: Path) -> Step:
    """Return the step of SiT's third version; its loss moves labels to a GPU, here to the device of the images."""
    start_one_process()
    main = definitions(clone, "main.py")

    def branch(**options) -> nn.Module:
        backbone = main.vits.vit_small(**options)
        heads = main.CLSHead(backbone.embed_dim, 256), main.RECHead(backbone.embed_dim)
        return main.FullPipline(backbone, *heads).train()

    student, teacher = branch(drop_path_rate=DROP_PATH), branch()
    start_teacher(student, teacher)
    contrast = main.SimCLR()
    clean = torch.cat(sizes.list_of_views()[:2])
    corrupted, mask = clean + 1, (clean[:, :1] > 0).float().expand_as(clean)

    def loss_of() -> torch.Tensor:
        targets, _ = teacher(clean, recons=False)
        predicted, painted = student(corrupted)
        errors = nn.functional.l1_loss(painted, clean, reduction="none")
        with mock.patch.object(torch.Tensor, "cuda", lambda tensor: tensor.to(clean.device)):
            return contrast(predicted, targets, 0) + errors[mask == 1].mean()

    return original_step(loss_of, student, teacher, main.utils)


def original_esvit(sizes: Sizes, clone: Path) -> Step:
    start_one_process()
    main, utils = definitions(clone, "main_esvit.py"), definitions(clone, "utils.py")
    swin = definitions(clone, "models/swin_transformer.py", **TIMM)
    heads = definitions(clone, "models/vision_transformer.py", **TIMM)

    def branch(drop_path_rate: float) -> nn.Module:
        backbone = swin.SwinTransformer(
            num_classes=0,
            drop_path_rate=drop_path_rate,
            norm_layer=partial(nn.LayerNorm, eps=1e-6),
            use_dense_prediction=True,
        )
        size = backbone.num_features
        backbone.head = heads.DINOHead(size, sizes.num_prototypes, norm_last_layer=False)
        backbone.head_dense = heads.DINOHead(size, sizes.num_prototypes, norm_last_layer=False)
        return backbone.train()

    student, teacher = branch(DROP_PATH), branch(0.0)
    start_teacher(student, teacher)
    loss = main.DDINOLoss(sizes.num_prototypes, 2 + sizes.local_views, TEMPERATURE, TEMPERATURE, 0, 1)
    views = sizes.list_of_views()
    return original_step(lambda: loss(student(views), teacher(views[:2]), 0, None), student, teacher, utils)


def original_leopart(sizes: Sizes, clone: Path) -> Step:
    """Return the step of Leopart's original, without Lightning, and without the queue, which needs a GPU there.

    Components of the foreground are labelled by scipy, in the shape that present versions of torch index with.
    """

    def label(mask: np.ndarray) -> np.ndarray:
        return ndimage.label(mask[0], np.ones((3, 3)))[0]

    utils = definitions(clone, "experiments/utils.py", label=label, Metric=object, VOCDataModule=object)
    vits = definitions(clone, "src/vit.py")
    lightning = type("LightningModule", (nn.Module,), {"save_hyperparameters": lambda module: None})
    code = definitions(
        clone,
        "src/leopart.py",
        pl=SimpleNamespace(LightningModule=lightning),
        PredsmIoUKmeans=lambda *arguments: None,
        process_attentions=utils.process_attentions,
        cosine_scheduler=utils.cosine_scheduler,
        vit_small=vits.vit_small,
    )
    method = code.Leopart(
        gpus=0,
        num_samples=100,
        batch_size=sizes.batch,
        max_epochs=1,
        lr_heads=1e-4,
        lr_backbone=1e-5,
        final_lr=0.0,
        weight_decay_end=0.5,
        weight_decay=0.04,
        epsilon=0.05,
        temperature=0.1,
        projection_hidden_dim=2048,
        projection_feat_dim=256,
        n_layers_projection_head=3,
        nmb_prototypes=300,
        sinkhorn_iterations=3,
        crops_for_assign=[0, 1],
        nmb_crops=[2, sizes.local_views],
        num_classes=21,
        val_iters=0,
        num_clusters_kmeans=[21],
        loss_mask="fg",
    ).train()
    views, boxes = sizes.list_of_views(), dict(zip(("gc", "all"), sizes.overlaps(), strict=True))
    optimizer = optimizer_of(method.model)

    def step() -> None:
        loss = method.shared_step((views, boxes))
        with torch.no_grad():
            for own, followed in zip(method.teacher.parameters(), method.model.parameters(), strict=True):
                own.data.mul_(MOMENTUM).add_((1 - MOMENTUM) * followed.detach().data)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def original_sfc(sizes: Sizes, clone: Path) -> Step:
    """Return the original's step; its forward pass moves the teacher."""
    network, method = (definitions(clone, f"code/models/{name}.py") for name in ("resnet", "fine_grained"))
    settings = SimpleNamespace(
        momentum_target=MOMENTUM,
        pos_radius=0.5,
        num_steps=1000,
        epochs=1,
        img_size=sizes.image_size,
        remove_stride_layers=("layer3", "layer4"),
        projection_hidden_dim=2048,
        projection_dim=256,
        prediction_hidden_dim=2048,
    )
    model = method.FineGrained(network.resnet18, settings).train()
    optimizer = optimizer_of(model)
    views = [view[:, None] for view in sizes.views()["pixel_values"].unbind(1)]
    boxes = [box[:, None] for box in view_boxes(sizes.batch).unbind(1)]

    def step() -> None:
        optimizer.zero_grad()
        model(*views, *boxes).backward()
        optimizer.step()

    return step


METHODS = {
    "mae": Method(our_mae, "facebookresearch/mae", original_mae, {"transformers": transformers_mae}),
    "milan": Method(our_milan, "zejiangh/MILAN", original_milan),
    "dino": Method(our_dino, "facebookresearch/dino", original_dino),
    "ibot": Method(our_ibot, "bytedance/ibot", original_ibot),
    "sit": Method(our_sit, "Sara-Ahmed/SiT", original_sit),
    "esvit": Method(our_esvit, "microsoft/esvit", original_esvit),
    "leopart": Method(our_leopart, "MkuuWaUjinga/leopart", original_leopart),
    "sfc": Method(our_sfc, "Alxead/SFC", original_sfc),
    "mae encoder": Method(
        partial(our_encoder, visible=True), peers={"all patches": partial(our_encoder, visible=False)}
    ),
}
