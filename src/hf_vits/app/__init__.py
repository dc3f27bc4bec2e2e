"""The page of `hf-vits demo`: try a model on your own images, clips and recordings, in a browser."""

from typing import TYPE_CHECKING, Any

from transformers import PreTrainedModel

if TYPE_CHECKING:
    import gradio


def build_demo(model: PreTrainedModel, processor: Any, title: str | None = None) -> "gradio.Blocks":
    """Build the page of `hf-vits demo`, a Gradio app that shows what a model makes of an input.

    It has the classes with their scores, the attention of each head and its rollout, regions with similar descriptors,
    and the scores where parts are hidden. What does not fit the model is not there, and a sentence says why.

    Example: `build_demo(model, processor).launch(server_name="127.0.0.1")`.

    Args:
        model: classifier of images, clips or recordings, or encoder of images; of hf_vits or transformers. A
            pretraining model is shown by its encoder.
        processor: the image processor, `VitsVideoProcessor` or feature extractor of the model.
        title: heading of the page, by default the name of the model's class.

    Raises:
        ImportError: Gradio is not installed.
        TypeError: the processor is of another kind.
        ValueError: there is nothing to show of the model.
    """
    try:
        from .page import make_page
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise ImportError("the page needs Gradio: pip install 'hf_vits[demo]'") from error
    return make_page(model, processor, title)


__all__ = ["build_demo"]
