"""Model cards that write themselves: from the model, what is known of its architecture, and its training run."""

import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import EvalResult, ModelCard, ModelCardData
from transformers import PreTrainedModel

from hf_vits.architecture import Architecture
from hf_vits.auto import ROWS

from .facts import FACTS, Facts

REPOSITORY = "USER/MODEL"  # stands in a card for its repository, until a push knows the name
LONGEST_TABLE = 20
IMAGE_LINK = re.compile(r"!\[[^\]]*\]\(([^)\s]+)\)")
NO_METRICS = re.compile(r"epoch|.*(runtime|_per_second|_time)")


class Use(NamedTuple):
    """How a card shows a model's use: the Hub's task, what to call the output, its attribute, what to print of it."""

    task: str
    output: str
    attribute: str
    shown: str


LABEL = "model.config.id2label[logits.argmax(-1).item()]"
USES = {
    "AutoModelForImageClassification": Use("image-classification", "logits", ".logits", LABEL),
    "AutoModelForVideoClassification": Use("video-classification", "logits", ".logits", LABEL),
    "AutoModelForAudioClassification": Use("audio-classification", "logits", ".logits", LABEL),
    "AutoModelForCTC": Use("automatic-speech-recognition", "logits", ".logits", "processor.decode_logits(logits)[0]"),
    "AutoModelForSpeechSeq2Seq": Use(
        "automatic-speech-recognition", "tokens", "", "processor.decode(tokens[0], skip_special_tokens=True)"
    ),
    "AutoModelForSequenceClassification": Use("text-classification", "logits", ".logits", LABEL),
    "AutoModelForMaskedImageModeling": Use("image-feature-extraction", "images", ".reconstruction", "images.shape"),
    "AutoBackbone": Use("image-feature-extraction", "maps", ".feature_maps", "[tuple(map.shape) for map in maps]"),
}
IMAGE_FEATURES = Use("image-feature-extraction", "features", ".pooler_output", "features.shape")
OTHER_FEATURES = IMAGE_FEATURES._replace(task="feature-extraction")


class Card(ModelCard):
    """A model card and the images it shows, which are kept beside it under their own names."""

    def __init__(
        self, content: str, images: Iterable[str | os.PathLike] = (), *, ignore_metadata_errors: bool = False
    ):
        super().__init__(content, ignore_metadata_errors=ignore_metadata_errors)
        self.images = [Path(image) for image in images]


@dataclass
class TrainingSummary:
    """What a training run tells its model's card.

    Attributes:
        dataset: name of the data, as a reader knows it.
        train_size, eval_size: examples trained and evaluated on.
        hyperparameters: {name: value}. Local paths among the values are left out of the card.
        metrics: {name: value} on the evaluation data; timings and what is no number are left out.
        history: one {name: value} per evaluation, in order, such as {"epoch": 1, "loss": 0.3, "eval_accuracy": 0.9}.
        figures: image files (curves, confusion matrix) shown in the card, each under its name in words.
        samples: some inputs and what the model made of them, one {name: value} for each.
        dataset_id: the data's id on the Hub, if it is there.
        split: evaluation split.
        task: the Hub's identifier of the task, by default that of the model's kind.
        base_model: Hub id of the model that was fine-tuned; a local path is not told.
        licence: of the trained weights, by default that of the architecture's originals.
    """

    dataset: str
    train_size: int
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
    """Card of a model that was not trained here, in particular of a converted checkpoint.

    Args:
        model: any model; of an architecture of hf_vits the card tells papers, code and licence.
        variant: published name of the variant that was converted.
        source: where the checkpoint comes from: an address, or a file, of which only the name is told.
        licence: the Hub's identifier of the weights' licence, by default that of the architecture's originals.
        bundle: whether the model's code lies beside the card.
    """
    facts = _facts(model)
    name = variant or (facts.title if facts else type(model).__name__)
    body = [f"# {name}", _introduction(model, facts), _usage(model, bundle)]
    if variant or source:
        body.append(_origin(facts, variant, source))
    data = _metadata(model, facts, licence)
    return _assemble(data, [*body, *_closing(facts, licence)])


def trained_card(model: PreTrainedModel, summary: TrainingSummary, *, bundle: bool = True) -> Card:
    """Card of a model that was trained or fine-tuned: also its data, hyperparameters, metrics and curves.

    Args:
        model: the trained model.
        summary: what its run tells. FileNotFoundError if a figure is missing.
        bundle: whether the model's code lies beside the card.
    """
    figures = [Path(figure) for figure in summary.figures]
    if missing := [figure.name for figure in figures if not figure.is_file()]:
        raise FileNotFoundError(f"figures of the card are missing: {', '.join(missing)}")
    facts = _facts(model)
    title = facts.title if facts else type(model).__name__
    name = f"{title} on {_public(summary.dataset)}"
    metrics = _metrics(summary.metrics)
    base_model = None if summary.base_model is None or _is_local(summary.base_model) else summary.base_model
    data = _metadata(model, facts, summary.licence, summary.task)
    data.base_model = base_model
    data.datasets = [summary.dataset_id] if summary.dataset_id else None
    data.metrics = sorted(metrics) or None
    data.model_name = name
    data.eval_results = [_result(summary, data.pipeline_tag, key, value) for key, value in metrics.items()] or None
    body = [
        f"# {name}",
        _introduction(model, facts),
        _usage(model, bundle),
        *_training(summary, base_model, metrics, figures),
    ]
    return _assemble(data, [*body, *_closing(facts, summary.licence)], figures)


def write_card(card: ModelCard | str | os.PathLike, folder: str | os.PathLike) -> None:
    """Write README.md and its images into an existing folder.

    Args:
        card: a card, its text, or the path of a README.md, which brings the images that it shows from beside it.
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
        shown = [path.parent / link for link in IMAGE_LINK.findall(text) if "/" not in link]
        return text, [image for image in shown if image.is_file()]
    if isinstance(card, str):
        return card, []
    raise TypeError(f"card must be a ModelCard, its text or the path of one, got {type(card).__name__}")


def _row(model: PreTrainedModel) -> Architecture | None:
    """The row of a model of hf_vits, be its class the library's or from a repository's bundle; None for others."""
    config = model.config
    found = (row for row in ROWS if row.config == type(config).__name__)
    return next(found, None) if config.model_type.startswith("hf_vits_") else None


def _facts(model: PreTrainedModel) -> Facts | None:
    row = _row(model)
    if row and row.folder == "linear_probe":
        return _facts(model.backbone)
    if row and getattr(model.config, "feed_forward", None) == "locality":
        return FACTS["localvit"]
    return FACTS.get(row.folder) if row else None


def _reads_images(model: PreTrainedModel) -> bool:
    row = _row(model)
    return row is None or "AutoImageProcessor" in row.processors


def _reads_audio(model: PreTrainedModel) -> bool:
    row = _row(model)
    return row is not None and "AutoFeatureExtractor" in row.processors


def _reads_videos(model: PreTrainedModel) -> bool:
    return model.main_input_name == "pixel_values" and getattr(model.config, "num_frames", None) is not None


def _auto_class(model: PreTrainedModel) -> str:
    """Name of the Auto class that loads `model` as what it is."""
    row = _row(model)
    models = row.models.items() if row else ()
    return next((auto_class for auto_class, name in models if name == type(model).__name__), "AutoModel")


def _use(model: PreTrainedModel) -> Use:
    return USES.get(_auto_class(model), IMAGE_FEATURES if _reads_images(model) else OTHER_FEATURES)


def _metadata(
    model: PreTrainedModel, facts: Facts | None, licence: str | None, task: str | None = None
) -> ModelCardData:
    sees = _reads_images(model) or _reads_videos(model)
    modality = ["vision"] if sees else ["audio"] if _reads_audio(model) else []
    tags = [*modality, *(["hf_vits"] if _row(model) else [])]
    return ModelCardData(
        license=licence or (facts.licence if facts else None),
        library_name="transformers",
        pipeline_tag=task or _use(model).task,
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
    if _auto_class(model).endswith("Classification"):
        numbers.append(f"{config.num_labels} classes")
    papers = " Papers: " + ", ".join(_link(paper.title, paper.arxiv) for paper in facts.papers) + "." if facts else ""
    return f"{facts.summary + ' ' if facts else ''}This model: {', '.join(numbers)}.{papers}"


def _link(title: str, arxiv: str) -> str:
    return f"[{title}](https://arxiv.org/abs/{arxiv})"


def _usage(model: PreTrainedModel, bundle: bool) -> str:
    auto_class, use = _auto_class(model), _use(model)
    if _reads_videos(model):
        imports = [f"from transformers import AutoVideoProcessor, {auto_class}"]
        loading = [f'processor = AutoVideoProcessor.from_pretrained("{REPOSITORY}")']
        inputs, comment = '**processor("clip.mp4", return_tensors="pt")', ""
    elif _reads_images(model):
        imports = ["from PIL import Image", f"from transformers import AutoImageProcessor, {auto_class}"]
        loading = [f'processor = AutoImageProcessor.from_pretrained("{REPOSITORY}")']
        inputs, comment = '**processor(Image.open("image.jpg"), return_tensors="pt")', ""
    elif auto_class in ("AutoModelForCTC", "AutoModelForSpeechSeq2Seq"):
        imports = [f"from transformers import AutoProcessor, {auto_class}"]
        loading = [f'processor = AutoProcessor.from_pretrained("{REPOSITORY}")']
        inputs, comment = '**processor(audio="audio.wav", return_tensors="pt")', ""
    elif _reads_audio(model):
        imports = [f"from transformers import AutoFeatureExtractor, {auto_class}"]
        loading = [f'extractor = AutoFeatureExtractor.from_pretrained("{REPOSITORY}")']
        inputs, comment = '**extractor("audio.wav", return_tensors="pt")', ""
    else:
        imports = ["import torch", f"from transformers import {auto_class}"]
        loading = []
        inputs, comment = "torch.tensor([[7, 42, 3, 19, 5, 88, 61, 2]])", "  # numbers of words in the vocabulary"
    call = "model.generate" if auto_class == "AutoModelForSpeechSeq2Seq" else "model"
    export = ".export()" if auto_class == "AutoModelForPreTraining" else ""  # the encoder alone
    lines = [
        *(["import hf_vits"] if _row(model) else []),
        *imports,
        "",
        *loading,
        f'model = {auto_class}.from_pretrained("{REPOSITORY}"){export}',
        f"{use.output} = {call}({inputs}){use.attribute}{comment}",
        f"print({use.shown})",
    ]
    without = (
        "\n\nWhere hf_vits is not installed, leave out its import and pass `trust_remote_code=True` to "
        "`from_pretrained`: this repository carries the model's code."
    )
    code = "\n".join(lines)
    if getattr(model, "needs_package", False):
        without = "\n\nThis needs hf_vits: `pip install hf_vits`."
        if export:
            without += " What `export` gives, shared by itself, does not."
    elif not (bundle and _row(model)):
        without = ""
    return f"## Use\n\n```python\n{code}\n```{without}"


def _origin(facts: Facts | None, variant: str | None, source: str | None) -> str:
    what = f"the original checkpoint of `{variant}`" if variant else "an original checkpoint"
    addresses = " and ".join(f"<{address}>" for address in facts.repositories) if facts else ""
    where = f" ({addresses})" if addresses else ""
    file = f", `{_public(source)}`" if source else ""
    return (
        f"## Weights\n\nConverted with hf_vits from {what}{where}{file}. The model computes what the original's code "
        "computes on it; it was not trained further."
    )


def _training(
    summary: TrainingSummary, base_model: str | None, metrics: Mapping[str, float], figures: Sequence[Path]
) -> list[str]:
    start, data = "Trained", _public(summary.dataset)
    if base_model:
        start = f"Fine-tuned from [{base_model}](https://hf.co/{base_model})"
    if summary.dataset_id:
        data = f"[{data}](https://hf.co/datasets/{summary.dataset_id})"
    sections = [
        f"## Training\n\n{start} on {data}: {summary.train_size:,} examples, evaluated on {summary.eval_size:,} "
        f"({summary.split})."
    ]
    settings = {key: value for key, value in summary.hyperparameters.items() if not _tells_path(value)}
    if settings:
        sections.append("### Hyperparameters\n\n" + _table(["name", "value"], sorted(settings.items())))
    if metrics:
        sections.append("## Evaluation\n\n" + _table([summary.split, "value"], metrics.items()))
    sections += [f"![{figure.stem.replace('_', ' ').capitalize()}]({figure.name})" for figure in figures]
    if summary.samples:
        rows = [row.values() for row in summary.samples]
        sections.append("### Samples\n\n" + _table(list(summary.samples[0]), rows))
    if summary.history:
        names = list(dict.fromkeys(name for row in summary.history for name in row))
        rows = ([row.get(name, "") for name in names] for row in _thinned(summary.history))
        sections.append("### Course\n\n" + _table(names, rows))
    return sections


def _metrics(values: Mapping[str, Any]) -> dict[str, float]:
    """The numbers that judge the model, without Trainer's prefix and its timings."""
    named = {name.removeprefix("eval_"): value for name, value in values.items()}
    return {
        name: value
        for name, value in named.items()
        if isinstance(value, int | float) and not isinstance(value, bool) and not NO_METRICS.fullmatch(name)
    }


def _result(summary: TrainingSummary, task: str, name: str, value: float) -> EvalResult:
    dataset = _public(summary.dataset)
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
    if facts is None:
        return []
    own = f"The weights: {licence}. " if licence and licence != facts.licence else ""
    citations = "\n\n".join(paper.bibtex for paper in facts.papers)
    original = f"The original: {facts.licence} ({', '.join(f'<{url}>' for url in facts.repositories)})."
    if not facts.repositories:
        original = f"The paper came without code; this implementation: {facts.licence}."
    return [
        f"## Licence\n\n{own}{original}",
        f"## Citation\n\n```bibtex\n{citations}\n```",
    ]


def _table(head: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    lines = [head, ["---"] * len(head), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: Any) -> str:
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def _thinned(history: Sequence[Mapping[str, float]]) -> list[Mapping[str, float]]:
    """At most `LONGEST_TABLE` rows, evenly spaced, the last among them."""
    step = -(-len(history) // LONGEST_TABLE)
    return list(history[::-1][::step])[::-1]


def _is_local(name: str | os.PathLike) -> bool:
    """Whether `name` is a path on this machine, which nobody else is to read."""
    if isinstance(name, os.PathLike) or os.path.isabs(name) or name.startswith(("~", "./", "../", "file:")):
        return True
    return "/" in name and os.path.exists(name)


def _tells_path(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_tells_path(item) for item in value.values())
    if isinstance(value, list | tuple | set):
        return any(_tells_path(item) for item in value)
    return isinstance(value, str | os.PathLike) and _is_local(value)


def _public(name: str | os.PathLike) -> str:
    """`name`, or of a local path only the last part."""
    return Path(name).name if _is_local(name) else str(name)
