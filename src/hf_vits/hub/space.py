"""The files of a Space that shows a model of the Hub in the page of `hf-vits demo`."""

import json
from importlib.metadata import version
from pathlib import Path

from huggingface_hub import SpaceCardData, SpaceInfo
from huggingface_hub.utils import HFValidationError, validate_repo_id
from transformers import PreTrainedModel

from hf_vits import __version__

from .card import kind_of_input
from .sections import code, plain

SDK, SDK_VERSION = "gradio", "6.31.0"
TAG = "hf_vits-demo"  # by which a later push knows the Space as its own
# {kind of input: extras of hf_vits that the page needs}
EXTRAS = {"image": "demo", "video": "demo,video", "audio": "demo,audio"}
LIBRARIES = ("torch", "torchvision", "transformers")

APP = '''"""The page of `hf-vits demo` for {model_id}, written by `hf-vits push --space`."""

from hf_vits import build_demo
from hf_vits.cli.models import load_model, load_processor, on_accelerator

MODEL = {name}
page = build_demo(on_accelerator(load_model(MODEL)), load_processor(MODEL), MODEL)

if __name__ == "__main__":
    page.launch(ssr_mode=False)
'''


def write_space(model: PreTrainedModel, model_id: str, folder: Path) -> None:
    """Write README.md, app.py and requirements.txt of a Space; errors as of `push_space`."""
    extras = space_extras(model)
    try:
        validate_repo_id(model_id)
    except HFValidationError as error:
        raise ValueError(f"a Space loads its model by the name of a repository, user/name: {error}") from error
    name = model_id.rpartition("/")[2]
    data = SpaceCardData(
        title=name,
        emoji="🔍",
        colorFrom="indigo",
        colorTo="gray",
        sdk=SDK,
        sdk_version=SDK_VERSION,
        python_version="3.11",
        app_file="app.py",
        models=[model_id],
        tags=["hf_vits", TAG],
        short_description="See what a vision or audio model looks at",
    )
    command = code(f"hf-vits demo {model_id}")
    body = (
        f"# {plain(name)}\n\n"
        f"A page to try the model [{plain(model_id)}](https://hf.co/{model_id}) on your own inputs: its classes, its "
        f"attention, similar regions, and its scores where parts are hidden. On your own machine: {command}."
    )
    (folder / "README.md").write_text(f"---\n{data.to_yaml()}\n---\n\n{body}\n", encoding="utf-8")
    (folder / "app.py").write_text(APP.format(model_id=model_id, name=json.dumps(model_id)), encoding="utf-8")
    lines = [
        f"# What app.py needs to show {model_id}.",
        f"hf_vits[{extras}]{version_range(__version__)}",
        f"{SDK}{version_range(SDK_VERSION)}",
        *(f"{library}{version_range(version(library))}" for library in LIBRARIES),
    ]
    (folder / "requirements.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


def space_extras(model: PreTrainedModel) -> str:
    """Return the extras of hf_vits with which the page shows such a model; ValueError if it does not show them."""
    kind = kind_of_input(model)
    if kind not in EXTRAS:
        raise ValueError(
            f"the page shows models of images, clips and classes of sound, and {type(model).__name__} is none of "
            "them: push it without a Space"
        )
    return EXTRAS[kind]


def version_range(found: str) -> str:
    """Return the range of versions that are compatible with one: `>=2.14,<3`, before 1.0 `>=0.1,<0.2`."""
    major, minor = (int(part) for part in found.split(".")[:2])
    return f">={major}.{minor},<{major + 1 if major else f'0.{minor + 1}'}"


def check_space(space: SpaceInfo) -> None:
    """Raise ValueError if a Space is of another kind, or has an app that `push_space` did not write."""
    advice = "choose another name, or delete it first"
    if space.sdk not in (None, SDK):
        raise ValueError(f"{space.id} exists and is a Space of the kind {space.sdk!r}, not {SDK!r}: {advice}")
    tags = (space.card_data.get("tags") if space.card_data else None) or []
    if TAG not in tags and any(file.rfilename == "app.py" for file in space.siblings or ()):
        raise ValueError(f"{space.id} exists and has an app.py that hf_vits did not write: {advice}")
