"""Labels of the first frame of videos, propagated by the similarity of dense features."""

import argparse
from pathlib import Path
from typing import Any

from ..numbers import positive

MOVING_OBJECTS = "moving-objects"
OPTIONS = {
    "target": "objects",
    "semantic": None,
    "fine_weight": 1.75,
    "contexts": 20,
    "topk": None,
    "radius": None,
    "label_temperature": None,
    "map_stage": None,
    "semantic_stage": None,
    "sheet": None,
    "masks_to": None,
}
# topk, radius and temperature of Alxead/SFC's README, for one network and for fused features.
ALONE, FUSED = (10, 12.0, 0.05), (15, 15.0, 0.1)
_DRAWN = 4  # videos on the contact sheet


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--target", choices=("objects", "parts", "pose"), help="what is followed (default: objects)")
    parser.add_argument("--semantic", metavar="MODEL", help="encoder whose features are fused with those of MODEL")
    parser.add_argument("--fine-weight", type=float, metavar="W", help="weight of MODEL's features (default: 1.75)")
    parser.add_argument("--contexts", type=positive, metavar="N", help="frames that give labels (default: 20)")
    parser.add_argument("--topk", type=positive, metavar="K", help="cells that give labels (default: 10; fused 15)")
    parser.add_argument("--radius", type=float, metavar="R", help="of a move, in cells (default: 12; fused 15)")
    parser.add_argument(
        "--label-temperature", type=float, metavar="T", help="divisor of similarities (default: 0.05; fused 0.1)"
    )
    parser.add_argument("--map-stage", type=positive, metavar="N", help="stage or layer of MODEL (default: the last)")
    parser.add_argument("--semantic-stage", type=positive, metavar="N", help="the same of the semantic encoder")
    parser.add_argument("--sheet", type=Path, metavar="PNG", help="draw propagated masks as a contact sheet")
    parser.add_argument("--masks-to", type=Path, metavar="DIR", help="write the masks, in DAVIS's format, to a folder")


def evaluate(args: argparse.Namespace) -> dict[str, Any]:
    from hf_vits.evaluation.propagation import LabelPropagation

    topk, radius, temperature = ALONE if args.semantic is None else FUSED
    propagation = LabelPropagation(
        args.contexts,
        args.topk or topk,
        temperature if args.label_temperature is None else args.label_temperature,
        radius if args.radius is None else args.radius,
    )
    encoders = [encoder_of(args.model, args.map_stage)]
    if args.semantic is not None:
        encoders.append(encoder_of(args.semantic, args.semantic_stage))
    measured = (measure_pose if args.target == "pose" else measure_masks)(args, encoders, propagation)
    facts = {"model": args.model, "semantic": args.semantic, "data": args.data, "method": args.method}
    facts |= {"target": args.target, "topk": propagation.topk, "radius": propagation.radius}
    return {name: value for name, value in facts.items() if value is not None} | measured


def encoder_of(source: str, stage: int | None):
    """Return the encoder of a model with its preprocessing."""
    from hf_vits.evaluation.video_segmentation import DenseEncoder

    from .features import load_encoder_of

    encoder, processor = load_encoder_of(source)
    return DenseEncoder(encoder, processor.image_mean, processor.image_std, stage)


def measure_masks(args: argparse.Namespace, encoders, propagation) -> dict[str, Any]:
    """Propagate masks through all videos of DATA and return J&F of objects or mIoU of parts."""
    import numpy as np
    from tqdm import tqdm

    from hf_vits.evaluation.mean_iou import mean_iou
    from hf_vits.evaluation.video_segmentation import measure_objects, segment_video, summary
    from hf_vits.figures.propagation import draw_propagated

    objects, rows, drawn, pairs = [], [], [], []
    for video in tqdm(load_videos(args), "Propagating masks", unit="video", disable=None):
        try:
            truth = video.masks()
            predicted = segment_video(video.frames, truth[0], encoders, propagation, args.fine_weight)
            if args.target == "objects":
                objects += (found := measure_objects(predicted, truth))
                rows.append({"video": video.name, "objects": len(found), **summary(found)})
            else:
                pairs.append((predicted[1:].ravel(), truth[1:].ravel()))
        except ValueError as error:
            raise ValueError(f"video {video.name}: {error}") from error
        if args.masks_to is not None:
            write_masks(args.masks_to / video.name, predicted, video)
        if len(drawn) < _DRAWN and args.sheet is not None:
            drawn.append((video.name, np.stack([np.asarray(frame) for frame in video.frames]), predicted, truth))
    if args.sheet is not None:
        args.sheet.parent.mkdir(parents=True, exist_ok=True)
        draw_propagated(drawn, args.sheet)
    if args.target == "objects":
        return {"videos": len(rows), "objects": len(objects), **summary(objects), "results": rows}
    predicted, truth = (np.concatenate(part) for part in zip(*pairs, strict=True))
    classes = int(max(predicted.max(), truth[truth < 255].max())) + 1
    measured = mean_iou(predicted, truth, classes, classes, matching=None)
    rows = [{"class": number, "IoU": float(value)} for number, value in enumerate(measured.iou)]
    return {"videos": len(pairs), "mIoU": float(measured.mean), "results": rows}


def measure_pose(args: argparse.Namespace, encoders, propagation) -> dict[str, Any]:
    """Propagate keypoints through all videos of DATA and return PCK."""
    from tqdm import tqdm

    from hf_vits.data.videos.masks import load_pose_videos
    from hf_vits.evaluation.keypoints import correct_keypoints, track_keypoints

    videos, predicted = load_pose_videos(Path(args.data)), []
    for video in tqdm(videos, "Propagating keypoints", unit="video", disable=None):
        try:
            predicted.append(
                track_keypoints(video.frames, video.keypoints[0], encoders, propagation, args.fine_weight)
            )
        except ValueError as error:
            raise ValueError(f"video {video.name}: {error}") from error
    found = correct_keypoints(predicted, [video.keypoints for video in videos])
    return {"videos": len(videos), "results": [{"threshold": at, "PCK": value} for at, value in found.items()]}


def load_videos(args: argparse.Namespace):
    """Return the videos with masks that DATA names."""
    from huggingface_hub import cached_assets_path

    from hf_vits.data.synthetic.moving_objects import moving_objects
    from hf_vits.data.videos.masks import load_masked_videos

    if args.data == MOVING_OBJECTS:
        folder = moving_objects(cached_assets_path("hf_vits", "videos", "moving_objects") / "seed0")
        return load_masked_videos(folder)
    return load_masked_videos(Path(args.data), args.split)


def write_masks(folder: Path, masks, video) -> None:
    """Write masks as palette images under the names of the true ones."""
    from PIL import Image

    from hf_vits.data.synthetic.moving_objects import PALETTE

    folder.mkdir(parents=True, exist_ok=True)
    for mask, path in zip(masks, video.mask_files, strict=True):
        image = Image.fromarray(mask, "P")
        image.putpalette(PALETTE)
        image.save(folder / f"{path.stem}.png")


def show(result: dict[str, Any]) -> None:
    """Print the measures of all videos together, and of each."""
    from ..tables import print_facts, print_table

    print_facts((name, value) for name, value in result.items() if name != "results")
    print_table(result["results"][0], (row.values() for row in result["results"]))


__all__ = ["OPTIONS", "configure", "evaluate", "show"]
