"""The code that a card shows under "Use": how to load a model of one kind and what to do with its output."""

from typing import NamedTuple

REPOSITORY = "USER/MODEL"  # placeholder for the name of the repository, which a push replaces


class Use(NamedTuple):
    """How a card shows the use of models of one Auto class.

    Attributes:
        task: the Hub's identifier of the task.
        output: name of the variable that holds the output.
        attribute: attribute of the model's output that is kept.
        shown: expression that is printed.
    """

    task: str
    output: str
    attribute: str
    shown: str


LABEL = "model.config.id2label[logits.argmax(-1).item()]"
MASK = "processor.post_process_semantic_segmentation(outputs)[0].unique()  # classes of the pixels"
FOUND_BOXES = "processor.post_process_object_detection(outputs, threshold=0.5)[0]"
FOUND_MASKS = 'processor.post_process_instance_segmentation(outputs)[0]["segments_info"]'
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
    "AutoModelForObjectDetection": Use("object-detection", "outputs", "", FOUND_BOXES),
    "AutoModelForInstanceSegmentation": Use("image-segmentation", "outputs", "", FOUND_MASKS),
    "AutoModelForSemanticSegmentation": Use("image-segmentation", "outputs", "", MASK),
    "AutoBackbone": Use("image-feature-extraction", "maps", ".feature_maps", "[tuple(map.shape) for map in maps]"),
}
IMAGE_FEATURES = Use("image-feature-extraction", "features", ".pooler_output", "features.shape")
SIMILARITIES = Use("feature-extraction", "similarities", ".logits_per_video", "similarities")
OTHER_FEATURES = IMAGE_FEATURES._replace(task="feature-extraction")


class Input(NamedTuple):
    """How a card prepares an input.

    Attributes:
        processor: Auto class of the processor; empty if there is none.
        variable: name of the variable that holds the processor.
        arguments: arguments of the call of the model.
        imports: lines of imports before the import from transformers.
        comment: comment after the call of the model.
    """

    processor: str
    variable: str
    arguments: str
    imports: tuple[str, ...] = ()
    comment: str = ""


INPUTS = {
    "video": Input("AutoVideoProcessor", "processor", '**processor("clip.mp4", return_tensors="pt")'),
    "image": Input(
        "AutoImageProcessor",
        "processor",
        '**processor(Image.open("image.jpg"), return_tensors="pt")',
        ("from PIL import Image",),
    ),
    "speech": Input("AutoProcessor", "processor", '**processor(audio="audio.wav", return_tensors="pt")'),
    "audio": Input("AutoFeatureExtractor", "extractor", '**extractor("audio.wav", return_tensors="pt")'),
    "modalities": Input(
        "AutoProcessor",
        "processor",
        '**processor(videos="clip.mp4", audio="audio.wav", text=["a dog barks"], return_tensors="pt")',
    ),
    "text": Input(
        "",
        "",
        "torch.tensor([[7, 42, 3, 19, 5, 88, 61, 2]])",
        ("import torch",),
        "  # numbers of words in the vocabulary",
    ),
    "arrays": Input(
        "",
        "",
        "{name: torch.zeros(1, *model.config.sizes[name]) for name in model.config.batches[0]}",
        ("import torch",),
    ),
}


def use_of(auto_class: str, kind: str) -> Use:
    """Return how a card shows models of an Auto class whose input is of the `kind`, a key of `INPUTS`."""
    if kind == "modalities":
        return SIMILARITIES
    return USES.get(auto_class, IMAGE_FEATURES if kind == "image" else OTHER_FEATURES)


def snippet(auto_class: str, kind: str, *, imports_package: bool = True) -> str:
    """Return a block of Python code that loads a model and runs it on one input.

    Args:
        auto_class: name of the Auto class that loads the model.
        kind: what the model's input is, a key of `INPUTS`.
        imports_package: whether the code imports hf_vits, which a model of hf_vits needs.
    """
    use, given = use_of(auto_class, kind), INPUTS[kind]
    classes = sorted(filter(None, (given.processor, auto_class)))
    call = "model.generate" if auto_class == "AutoModelForSpeechSeq2Seq" else "model"
    is_method = auto_class == "AutoModelForPreTraining" and kind != "modalities"
    export = ".export()" if is_method else ""  # the encoder alone
    lines = [
        *(["import hf_vits"] if imports_package else []),
        *given.imports,
        f"from transformers import {', '.join(classes)}",
        "",
        *([f'{given.variable} = {given.processor}.from_pretrained("{REPOSITORY}")'] if given.processor else []),
        f'model = {auto_class}.from_pretrained("{REPOSITORY}"){export}',
        f"{use.output} = {call}({given.arguments}){use.attribute}{given.comment}",
        f"print({use.shown})",
    ]
    code = "\n".join(lines)
    return f"```python\n{code}\n```"
