"""Cards of models, written from the model, the facts about its architecture, and its training run."""

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import PreTrainedModel

from hf_vits.architecture import Architecture
from hf_vits.auto import ROWS

from .facts import FACTS, Facts
from .privacy import contains_path, is_local, public_name
from .sections import citation_section, code, licence_section, papers, plain, plain_table
from .usage import snippet, use_of

LONGEST_TABLE = 20
IMAGE_LINK = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")
IMAGE_ENDINGS = (".gif", ".jpeg", ".jpg", ".png", ".webp")
# {kind of input: tags of its modality}
MODALITIES = {"image": ["vision"], "video": ["vision"], "speech": ["audio"], "audio": ["audio"], "text": []}
MODALITIES |= {"modalities": ["vision", "audio"], "arrays": ["multimodal"]}
NO_METRICS = re.compile(r"epoch|.*(runtime|_per_second|_time)")


class Card(ModelCard):
    """A model card and the images that it shows, which are in the same folder under their own names."""

    def __init__(
        self, content: str, images: Iterable[str | os.PathLike] = (), *, ignore_metadata_errors: bool = False
    ):
        super().__init__(content, ignore_metadata_errors=ignore_metadata_errors)
        self.images = [Path(image) for image in images]


@dataclass
class TrainingSummary:
    """What the card of a trained model says about its training run.

    Attributes:
        dataset: name of the data, as a reader knows it.
        train_size, eval_size: examples trained and evaluated on; None for a stream, whose length is unknown.
        hyperparameters: {name: value}. Local paths among the values are left out of the card.
        metrics: {name: value} on the evaluation data; timings and what is no number are left out.
        history: one {name: value} per evaluation, in order, such as {"epoch": 1, "loss": 0.3, "eval_accuracy": 0.9}.
        figures: image files (curves, confusion matrix) shown in the card, each under its name in words.
        samples: rows {name: value} of a table: some inputs with outputs, or the scores of each class.
        dataset_id: the data's id on the Hub, if it is there.
        split: evaluation split.
        task: the Hub's identifier of the task, by default the task of the model's class.
        base_model: Hub id of the model that was fine-tuned; a local path is left out.
        licence: licence of the trained weights, by default the licence of the original weights.
    """

    dataset: str
    train_size: int | None
    eval_size: int
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    history: Sequence[Mapping[str, float]] = ()
    figures: Sequence[str | os.PathLike] = ()
    samples: Sequence[Mapping[str, Any]] = ()
    dataset_id: str | None = None
    split: str = "test"
    task: str | None = None
    base_model: str | None = None
    licence: str | None = None


def model_card(
    model: PreTrainedModel,
    *,
    variant: str | None = None,
    source: str | None = None,
    licence: str | None = None,
    bundle: bool = True,
) -> Card:
    """Return the card of a model that was not trained here, in particular of a converted checkpoint.

    Args:
        model: any model; for architectures of hf_vits the card names papers, code and licence.
        variant: published name of the variant that was converted.
        source: where the checkpoint comes from: an address, or a file, whose name alone appears.
        licence: the Hub's identifier of the weights' licence, by default the licence of the original weights.
        bundle: whether the model's code is in the same repository.
    """
    facts = _facts(model)
    name = variant or _title(model, facts)
    body = [f"# {plain(name)}", _introduction(model, facts), _usage(model, bundle)]
    if variant or source:
        body.append(_origin(facts, variant, source))
    data = _metadata(model, facts, licence)
    return _assemble(data, [*body, *_closing(facts, licence)])


def trained_card(model: PreTrainedModel, summary: TrainingSummary, *, bundle: bool = True) -> Card:
    """Return the card of a trained or fine-tuned model, with data, hyperparameters, metrics and curves.

    Args:
        model: the trained model.
        summary: data, hyperparameters, metrics and figures of its run.
        bundle: whether the model's code is in the same repository.

    Raises:
        FileNotFoundError: a figure of the summary is missing.
        ValueError: a figure is no image file.
    """
    figures = [Path(figure) for figure in summary.figures]
    if missing := [figure.name for figure in figures if not figure.is_file()]:
        raise FileNotFoundError(f"figures of the card are missing: {', '.join(missing)}")
    if others := [figure.name for figure in figures if not _is_image(figure)]:
        raise ValueError(
            f"figures of a card must be image files ({', '.join(IMAGE_ENDINGS)}), no links, got {', '.join(others)}"
        )
    facts = _facts(model)
    name = f"{_title(model, facts)} on {public_name(summary.dataset)}"
    metrics = _metrics(summary.metrics)
    base_model = None if summary.base_model is None or is_local(summary.base_model) else summary.base_model
    data = _metadata(model, facts, summary.licence, summary.task)
    data.base_model = base_model
    data.datasets = [summary.dataset_id] if summary.dataset_id else None
    data.metrics = sorted(metrics) or None
    data.model_name = name
    data.eval_results = [_result(summary, data.pipeline_tag, key, value) for key, value in metrics.items()] or None
    body = [
        f"# {plain(name)}",
        _introduction(model, facts),
        _usage(model, bundle),
        *_training(summary, base_model, metrics, figures),
    ]
    return _assemble(data, [*body, *_closing(facts, summary.licence)], figures)


def write_card(card: ModelCard | str | os.PathLike, folder: str | os.PathLike) -> None:
    """Write README.md and its images into an existing folder.

    Args:
        card: a card, its text, or the path of a README.md, which brings the images that it shows from beside it.
            Only image files are brought: no links to other files, and no files of another type.
        folder: where to write.
    """
    text, images = _content(card)
    for image in images:
        shutil.copyfile(image, Path(folder, image.name))
    Path(folder, "README.md").write_text(text, encoding="utf-8")


def _content(card: ModelCard | str | os.PathLike) -> tuple[str, list[Path]]:
    if isinstance(card, ModelCard):
        return str(card), card.images if isinstance(card, Card) else []
    if isinstance(card, os.PathLike) or (isinstance(card, str) and "\n" not in card and Path(card).is_file()):
        path = Path(card)
        text = path.read_text(encoding="utf-8")
        names = map(unquote, IMAGE_LINK.findall(text))
        return text, [image for name in names if "/" not in name and _is_image(image := path.parent / name)]
    if isinstance(card, str):
        return card, []
    raise TypeError(f"card must be a ModelCard, its text or the path of one, got {type(card).__name__}")


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in IMAGE_ENDINGS and path.is_file() and not path.is_symlink()


def _row(model: PreTrainedModel) -> Architecture | None:
    """Return the row of a model of hf_vits, whose class may be from a repository's bundle; None for other models."""
    config = model.config
    found = (row for row in ROWS if row.config == type(config).__name__)
    return next(found, None) if config.model_type.startswith("hf_vits_") else None


def is_around(model: PreTrainedModel) -> bool:
    """Return whether a model of transformers, such as UperNet, is around a backbone of hf_vits."""
    inner = getattr(model.config, "backbone_config", None)
    return _row(model) is None and getattr(inner, "model_type", "").startswith("hf_vits_")


def _title(model: PreTrainedModel, facts: Facts | None) -> str:
    name = type(model).__name__
    if facts is None:
        return name
    return f"{name.partition('For')[0]} over {facts.title}" if is_around(model) else facts.title


def _facts(model: PreTrainedModel) -> Facts | None:
    row = _row(model)
    if is_around(model) or (row and row.folder in ("linear_probe", "dense_probe")):
        return _facts(model.backbone)
    if row and row.folder == "res_net":  # of which SFC's system has the checkpoints
        return FACTS["sfc"]
    if row and getattr(model.config, "feed_forward", None) == "locality":
        return FACTS["localvit"]
    return FACTS.get(row.folder) if row else None


def kind_of_input(model: PreTrainedModel) -> str:
    """Return what the model reads, a key of `usage.INPUTS`."""
    row = _row(model)
    if getattr(model, "modality_models", None):
        return "modalities"
    if _reads_videos(model):
        return "video"
    if model.main_input_name == "inputs":
        return "arrays"
    if row is None or ("AutoImageProcessor" in row.processors and model.main_input_name == "pixel_values"):
        return "image"
    if "AutoFeatureExtractor" in row.processors:
        return "speech" if _auto_class(model) in ("AutoModelForCTC", "AutoModelForSpeechSeq2Seq") else "audio"
    return "text"


def _reads_videos(model: PreTrainedModel) -> bool:
    is_for_images = _auto_class(model) == "AutoModelForImageClassification"
    has_frames = getattr(model.config, "num_frames", None) is not None
    return model.main_input_name == "pixel_values" and has_frames and not is_for_images


def _auto_class(model: PreTrainedModel) -> str:
    """Return the name of the Auto class that loads `model` with its own class."""
    row = _row(model)
    if is_around(model):
        return f"AutoModelFor{type(model).__name__.partition('For')[2]}"
    models = row.models.items() if row else ()
    return next((auto_class for auto_class, name in models if name == type(model).__name__), "AutoModel")


def _metadata(
    model: PreTrainedModel, facts: Facts | None, licence: str | None, task: str | None = None
) -> ModelCardData:
    kind = kind_of_input(model)
    tags = [*MODALITIES[kind], *(["hf_vits"] if _row(model) or is_around(model) else [])]
    return ModelCardData(
        license=licence or (facts.licence if facts else None),
        library_name="transformers",
        pipeline_tag=task or use_of(_auto_class(model), kind).task,
        tags=[*tags, *(facts.tags if facts else ())],
    )


def _assemble(data: ModelCardData, body: Iterable[str], images: Iterable[Path] = ()) -> Card:
    return Card(f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(body) + "\n", images)


def _introduction(model: PreTrainedModel, facts: Facts | None) -> str:
    config = model.config
    numbers = [f"{model.num_parameters():,} parameters"]
    if (size := getattr(config, "image_size", None)) is not None:
        height, width = size if isinstance(size, list | tuple) else (size, size)
        inputs = f"clips of {config.num_frames} frames" if _reads_videos(model) else "images"
        numbers.append(f"made for {inputs} of {height}x{width} pixels")
    if _auto_class(model).endswith(("Classification", "SemanticSegmentation")):
        numbers.append(f"{config.num_labels} classes")
    size_and_use = f"This model: {', '.join(numbers)}."
    return f"{facts.summary} {size_and_use} {papers(facts)}" if facts else size_and_use


def _usage(model: PreTrainedModel, bundle: bool) -> str:
    ours = _row(model) is not None or is_around(model)
    auto_class = _auto_class(model)
    code = snippet(auto_class, kind_of_input(model), imports_package=ours)
    note = ""
    if getattr(model, "needs_package", False) or is_around(model):
        note = "\n\nThis needs hf_vits: `pip install hf_vits`."
        if auto_class == "AutoModelForPreTraining":
            note += " The encoder that `export` returns does not, once it is pushed by itself."
    elif bundle and ours:
        note = (
            "\n\nWhere hf_vits is not installed, leave out its import and pass `trust_remote_code=True` to "
            "`from_pretrained`: this repository holds the model's code."
        )
    return f"## Use\n\n{code}{note}"


def _origin(facts: Facts | None, variant: str | None, source: str | None) -> str:
    what = f"the original checkpoint of {code(variant)}" if variant else "an original checkpoint"
    addresses = " and ".join(f"<{address}>" for address in facts.repositories) if facts else ""
    where = f" ({addresses})" if addresses else ""
    file = f", {code(public_name(source))}" if source else ""
    return (
        f"## Weights\n\nConverted with hf_vits from {what}{where}{file}. The model computes what the original's code "
        "computes on it; it was not trained further."
    )


def _training(
    summary: TrainingSummary, base_model: str | None, metrics: Mapping[str, float], figures: Sequence[Path]
) -> list[str]:
    start, data = "Trained", plain(public_name(summary.dataset))
    if base_model:
        start = f"Fine-tuned from [{plain(base_model)}](https://hf.co/{quote(base_model)})"
    if summary.dataset_id:
        data = f"[{data}](https://hf.co/datasets/{quote(summary.dataset_id)})"
    trained = "a stream of examples" if summary.train_size is None else f"{summary.train_size:,} examples"
    sections = [
        f"## Training\n\n{start} on {data}: {trained}, evaluated on {summary.eval_size:,} ({plain(summary.split)})."
    ]
    settings = {key: value for key, value in summary.hyperparameters.items() if not contains_path(value)}
    if settings:
        sections.append("### Hyperparameters\n\n" + plain_table(["name", "value"], sorted(settings.items())))
    if metrics:
        sections.append("## Evaluation\n\n" + plain_table([summary.split, "value"], metrics.items()))
    for figure in figures:
        sections.append(f"![{plain(figure.stem.replace('_', ' ').capitalize())}]({quote(figure.name)})")
    if summary.samples:
        rows = [row.values() for row in summary.samples]
        heading = "Classes" if "class" in summary.samples[0] else "Samples"
        sections.append(f"### {heading}\n\n" + plain_table(list(summary.samples[0]), rows))
    if summary.history:
        names = list(dict.fromkeys(name for row in summary.history for name in row))
        rows = ([row.get(name, "") for name in names] for row in _thinned(summary.history))
        sections.append("### Course\n\n" + plain_table(names, rows))
    return sections


def _metrics(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the metrics of the model, without Trainer's prefix and without timings."""
    named = {name.removeprefix("eval_"): value for name, value in values.items()}
    return {
        name: value
        for name, value in named.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and not NO_METRICS.fullmatch(name)
    }


def _result(summary: TrainingSummary, task: str, name: str, value: float) -> EvalResult:
    dataset = public_name(summary.dataset)
    return EvalResult(
        task_type=task,
        dataset_type=summary.dataset_id or re.sub(r"[^a-z0-9]+", "-", dataset.lower()).strip("-"),
        dataset_name=dataset,
        dataset_split=summary.split,
        metric_type=name,
        metric_name=name.replace("_", " "),
        metric_value=value,
    )


def _closing(facts: Facts | None, licence: str | None) -> list[str]:
    return [licence_section(facts, licence), citation_section(facts)] if facts else []


def _thinned(history: Sequence[Mapping[str, float]]) -> list[Mapping[str, float]]:
    """Return at most `LONGEST_TABLE` rows, evenly spaced, with the last row."""
    step = -(-len(history) // LONGEST_TABLE)
    return list(history[::-1][::step])[::-1]
