"""DINO on a folder of your own images: learn a ViT without labels, save it, draw what its class token attends to.

    python examples/dino_own_folder.py [FOLDER] [--output dino] [--steps 300] [--image-size 12] [--patch-size 2]

FOLDER holds images in one folder per class, as torchvision's ImageFolder reads them. The classes do not enter
training: they only measure what was learned, by the five nearest neighbours of each image among a tenth of the images.
Without FOLDER, scikit-learn's digits are written to a temporary one. For photographs, begin with
`--image-size 96 --patch-size 8` on a GPU. `OUTPUT/backbone` is a plain model, which AutoModel loads;
`OUTPUT/attention.png` shows the attention of its class token. The last line printed is
`dino: loss=<first>-><last> knn=<accuracy untrained>-><trained> output=<folder>`. Expect about 0.46->0.73 on the
digits, after a minute on one CPU core; the class token then attends to the empty patches around a digit.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neighbors import KNeighborsClassifier
from torch.utils.data import DataLoader, RandomSampler
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2 as transforms
from tqdm import tqdm
from transformers import AutoModel, PreTrainedModel

from hf_vits import DeiTConfig, DINOConfig, DINOForPreTraining, VitsImageProcessor
from hf_vits.figures.features import draw_attention


def write_digits(folder: Path) -> None:
    digits = load_digits()
    for index, (pixels, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        path = folder / str(label) / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray((pixels * 255 / 16).astype("uint8")).save(path)


def make_model(image_size: int, patch_size: int) -> DINOForPreTraining:
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
    backbone = DeiTConfig(image_size=image_size, patch_size=patch_size, initializer_range=0.1, **sizes)
    head = {"num_prototypes": 256, "head_hidden_size": 256, "head_bottleneck_size": 64, "head_norm": "batch_norm"}
    return DINOForPreTraining(DINOConfig(backbone_config=backbone, **head))


def train(model: DINOForPreTraining, images: ImageFolder, steps: int) -> list[float]:
    """Return the loss of every step."""
    sampler = RandomSampler(images, replacement=True, num_samples=64 * steps)
    optimizer = torch.optim.AdamW(model.student.parameters(), lr=5e-3, weight_decay=0.04)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 5e-3, total_steps=steps, pct_start=0.1)
    losses = []
    model.train()
    for views, _ in (bar := tqdm(DataLoader(images, batch_size=64, sampler=sampler), desc="training")):
        loss = model(views.to(model.device)).loss  # of views (batch, 2, channels, height, width)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.student.parameters(), 3.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        model.update_teacher(1 - 0.05 * (1 - len(losses) / steps))  # the momentum rises from 0.95 to 1
        losses.append(loss.item())
        bar.set_postfix(loss=f"{losses[-1]:.3f}")
    return losses


@torch.inference_mode()
def neighbour_accuracy(backbone: PreTrainedModel, batches: list[torch.Tensor], classes: list[int]) -> float:
    features = torch.cat([backbone.eval()(batch.to(backbone.device)).pooler_output.cpu() for batch in batches])
    split = train_test_split(features.numpy(), classes, train_size=0.1, stratify=classes, random_state=0)
    known, others, known_classes, other_classes = split
    return KNeighborsClassifier(5, metric="cosine").fit(known, known_classes).score(others, other_classes)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", nargs="?", type=Path, help="of images, one folder per class; default: digits")
    parser.add_argument("--output", type=Path, default=Path("dino"), help="folder to write")
    parser.add_argument("--steps", type=int, default=300, help="of training")
    parser.add_argument("--image-size", type=int, default=12, help="side of an image, in pixels")
    parser.add_argument("--patch-size", type=int, default=2, help="side of a patch, in pixels")
    args = parser.parse_args(arguments)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as temporary:
        if args.folder is None:
            write_digits(Path(temporary))
        pretrain(args.folder or Path(temporary), args)


def pretrain(folder: Path, args: argparse.Namespace) -> None:
    processor = VitsImageProcessor(size={"height": args.image_size, "width": args.image_size}, do_center_crop=False)
    crop = transforms.RandomResizedCrop(args.image_size, scale=(0.5, 1.0))
    jitter = transforms.RandomApply([transforms.ColorJitter(0.4, 0.4)], p=0.8)
    to_tensor = [transforms.ToImage(), transforms.ToDtype(torch.float32, scale=True)]
    normalize = transforms.Normalize(processor.image_mean, processor.image_std)
    # Photographs are also mirrored, by transforms.RandomHorizontalFlip(): digits must not be.
    view = transforms.Compose([crop, jitter, *to_tensor, normalize])
    pairs = ImageFolder(folder, lambda image: torch.stack([view(image), view(image)]))
    images = ImageFolder(folder, lambda image: processor(image, return_tensors="pt").pixel_values[0])

    model = make_model(args.image_size, args.patch_size).to("cuda" if torch.cuda.is_available() else "cpu")
    batches = [batch for batch, _ in DataLoader(images, batch_size=256)]  # read once
    untrained = neighbour_accuracy(model.export(), batches, images.targets)
    losses = train(model, pairs, args.steps)
    model.export().save_pretrained(args.output / "backbone")
    processor.save_pretrained(args.output / "backbone")

    backbone = AutoModel.from_pretrained(args.output / "backbone")
    trained = neighbour_accuracy(backbone, batches, images.targets)
    shown = torch.stack([images[len(images) * index // 6][0] for index in range(6)])
    draw_attention(backbone, shown, processor, args.output / "attention.png")
    accuracies, loss = f"{untrained:.3f}->{trained:.3f}", f"{losses[0]:.3f}->{losses[-1]:.3f}"
    print(f"dino: loss={loss} knn={accuracies} output={args.output}")


if __name__ == "__main__":
    main()
