"""The page of `hf-vits demo` in Gradio: its parts, and what happens when something is dropped, chosen or clicked."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import gradio as gr
from PIL import Image
from transformers import PreTrainedModel

from hf_vits.hub.sections import plain

from .explorer import ALL_PATCHES, CLASS_TOKEN, CLICKED, Explorer, Point, cell_at

ROLLOUT, MEAN = "rollout through all blocks", "mean over heads"
NOUNS = {"image": "image", "video": "clip", "audio": "recording"}
SENSES = {"image": "sees", "video": "sees", "audio": "hears"}
_CACHE = 3600  # seconds after which uploads are deleted
_HEIGHT = 448  # pixels of drawn pictures


def make_page(model: PreTrainedModel, processor: Any, title: str | None = None) -> gr.Blocks:
    """Build the page, see `hf_vits.app.build_demo`."""
    explorer = Explorer(model, processor)
    name = title or type(model).__name__
    config = explorer.model.config
    numbers = [type(model).__name__, f"{model.num_parameters():,} parameters"]
    if explorer.has_classes:
        numbers.append(f"{config.num_labels} classes")
    noun = NOUNS[explorer.kind]
    with gr.Blocks(title=name, analytics_enabled=False, delete_cache=(_CACHE, _CACHE)) as page:
        gr.Markdown(f"# {plain(name)}\n\n{plain(', '.join(numbers))}.")
        with gr.Row():
            with gr.Column():
                given = upload(explorer.kind, f"Drop {'an' if noun == 'image' else 'a'} {noun} here", height=400)
            with gr.Column():
                seen = picture(f"The {noun} as the model {SENSES[explorer.kind]} it", height=240)
                scores = gr.Label(label="Classes", visible=explorer.has_classes)
                above = gr.Markdown(visible=False)
        given.change(
            guarded(lambda path: first_look(explorer, path)), given, [seen, scores, above], api_name="classify"
        )
        if shown := [part for part in PARTS if part not in explorer.missing]:
            with gr.Tabs():
                for part in shown:
                    with gr.Tab(part):
                        PARTS[part](explorer, given)
        if explorer.missing:
            lines = [f"- **{part}**: {plain(reason)}." for part, reason in explorer.missing.items()]
            gr.Markdown("### Not shown for this model\n\n" + "\n".join(lines))
    return page


def first_look(explorer: Explorer, path: str | None) -> tuple[Image.Image | None, dict[str, float] | None, Any]:
    """Return the input as the model sees it, its classes, and a line with the labels above their thresholds."""
    if path is None:
        return None, None, gr.Markdown(visible=False)
    seen = explorer.look_at(path).picture
    if not explorer.has_classes:
        return seen, None, gr.Markdown(visible=False)
    probabilities = explorer.probabilities(path)
    labels = explorer.predicted(probabilities)
    line = "" if labels is None else f"Above their thresholds: {plain(', '.join(labels)) or 'none'}"
    return seen, explorer.best(probabilities), gr.Markdown(line, visible=labels is not None)


def guarded(function: Callable) -> Callable:
    """Let the page show the message of an error about an input."""

    @wraps(function)
    def guarding(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except (ValueError, OSError, ImportError) as error:
            raise gr.Error(str(error), print_exception=False) from error

    return guarding


def upload(kind: str, label: str, height: int = _HEIGHT) -> Any:
    """Return the component into which a file is dropped."""
    if kind == "image":
        sources: Any = ["upload", "clipboard"]
        return gr.Image(label=label, type="filepath", image_mode=None, sources=sources, buttons=[], height=height)
    if kind == "video":
        return gr.Video(label=label, sources=["upload"], buttons=[], height=height)
    return gr.Audio(label=label, type="filepath", sources=["upload", "microphone"], buttons=[])


def picture(label: str, **options: Any) -> gr.Image:
    """Return a component that shows a picture."""
    options = {"height": _HEIGHT, **options}
    return gr.Image(label=label, interactive=False, type="filepath", format="png", buttons=[], **options)


def clicked(event: gr.SelectData, shown: str) -> Point:
    """Return where a picture was clicked, in fractions of its width and height.

    Args:
        shown: path of the picture.
    """
    with Image.open(shown) as image:
        return tuple((place + 0.5) / side for place, side in zip(event.index, image.size, strict=True))


def add_attention(explorer: Explorer, given: Any) -> None:
    """Add the attention of each head, drawn over the image."""
    blocks = [(f"block {block + 1}", block) for block in explorer.heads]
    if explorer.has_rollout:
        blocks.append((ROLLOUT, -1))
    last = max(explorer.heads)
    queries = [*([CLASS_TOKEN] if explorer.has_class_token else []), ALL_PATCHES]
    queries += [CLICKED] if explorer.kind == "image" else []

    def heads(block: int) -> list[tuple[str, int]]:
        return [(MEAN, -1)] + [(f"head {head + 1}", head) for head in range(explorer.heads.get(block, 0))]

    gr.Markdown(
        "Bright is what the chosen tokens attend to."
        + (" Click the picture for the attention of a place." if CLICKED in queries else "")
    )
    with gr.Row():
        with gr.Column(scale=1):
            block = gr.Dropdown(blocks, value=last, label="Block")
            head = gr.Dropdown(heads(last), value=-1, label="Head")
            of = gr.Radio(queries, value=queries[0], label="Attention of")
        with gr.Column(scale=2):
            drawn = picture("Attention")
    point = gr.State(None)

    def draw(path: str | None, block: int, head: int, of: str, point: Point | None) -> Image.Image | None:
        if path is None:
            return None
        number = None if head < 0 or head >= explorer.heads.get(block, 0) else head
        return explorer.draw_attention(path, None if block < 0 else block, number, of, point)

    def click(path: str | None, shown: str | None, block: int, head: int, event: gr.SelectData):
        if path is None or shown is None:
            return None, None, queries[0]
        place = clicked(event, shown)
        return draw(path, block, head, CLICKED, place), place, CLICKED

    inputs = [given, block, head, of, point]
    block.input(lambda block: gr.Dropdown(heads(block), value=-1), block, head, api_visibility="private").then(
        guarded(draw), inputs, drawn, api_visibility="private"
    )
    gr.on([given.change, head.input, of.input], guarded(draw), inputs, drawn, api_name="attention")
    if CLICKED in queries:
        drawn.select(guarded(click), [given, drawn, block, head], [drawn, point, of], api_visibility="private")


def add_similar(explorer: Explorer, given: Any) -> None:
    """Add the places of two images that resemble a clicked place."""
    layers = [(f"block {layer + 1}", layer) for layer in range(explorer.num_blocks)]
    gr.Markdown(
        "Click a place in image A. Bright places have similar descriptors, there and in image B. The white ring is "
        "the clicked place, green rings are the best matches."
    )
    with gr.Row():
        with gr.Column():
            layer = gr.Dropdown(layers, value=explorer.num_blocks * 3 // 4, label="Block")
            facet = gr.Radio(explorer.facets, value=explorer.facets[0], label="Descriptors")
            finer = gr.Radio(
                [(f"{factor} x finer than patches" if factor > 1 else "patches", factor) for factor in explorer.finer],
                value=explorer.finer[0],
                label="Grid",
            )
            bins = gr.Checkbox(label="With surroundings (log bins)")
        with gr.Column():
            other = upload(explorer.kind, "Drop image B here", height=320)
    report = gr.Markdown()
    with gr.Row():
        first = picture("Image A: click a place")
        second = picture("Image B")
    point = gr.State(None)

    def draw(path, other, point, layer, facet, finer, bins):
        paths = [one for one in (path, other) if one is not None]
        if path is None or point is None:
            pictures = [None if one is None else explorer.look_at(one).picture for one in (path, other)]
            return *pictures, ""
        pictures, best = explorer.draw_similar(paths, point, layer, facet, finer, bins)
        lines = [f"Best match in image {name}: cosine {cosine:.3f}" for name, cosine in zip("AB", best, strict=False)]
        return pictures[0], pictures[1] if len(pictures) > 1 else None, "  \n".join(lines)

    def click(path, other, shown, layer, facet, finer, bins, event: gr.SelectData):
        if path is None or shown is None:
            return None, None, "", None
        place = clicked(event, shown)
        return *draw(path, other, place, layer, facet, finer, bins), place

    choices, outputs = [layer, facet, finer, bins], [first, second, report]
    gr.on(
        [other.change, layer.input, facet.input, finer.input, bins.input],
        guarded(draw),
        [given, other, point, *choices],
        outputs,
        api_visibility="private",
    )
    given.change(lambda: None, None, point, api_visibility="private").then(
        guarded(draw), [given, other, point, *choices], outputs, api_visibility="private"
    )
    first.select(guarded(click), [given, other, first, *choices], [*outputs, point], api_visibility="private")


def add_occlusion(explorer: Explorer, given: Any) -> None:
    """Add the picture whose cells can be hidden, and the scores with and without them."""
    sizes = [(f"{rows} x {columns}", index) for index, (rows, columns) in enumerate(explorer.cells)]
    gr.Markdown("Click cells of the picture to hide them, and again to show them; the scores change.")
    with gr.Row():
        with gr.Column(scale=1):
            drawn = picture("Click to hide")
        with gr.Column(scale=1):
            size = gr.Radio(sizes, value=explorer.first_cells, label="Cells")
            with gr.Row():
                clear = gr.Button("Show all")
                swap = gr.Button("Swap hidden and shown")
            scores = gr.Dataframe(
                headers=["class", "whole", "with hidden cells", "change"],
                datatype=["str", "str", "str", "str"],
                label="Scores",
                interactive=False,
                buttons=[],
            )
    hidden = gr.State([])

    def draw(path: str | None, size: int, hidden: list[int]):
        if path is None:
            return None, None, []
        image, rows = explorer.occluded(path, explorer.cells[size], hidden)
        table = [[name, f"{before:.1%}", f"{now:.1%}", f"{100 * (now - before):+z.1f}"] for name, before, now in rows]
        return image, table, hidden

    def click(path: str | None, size: int, shown: str | None, hidden: list[int], event: gr.SelectData):
        if path is None or shown is None:
            return None, None, []
        rows_columns = explorer.cells[size]
        row, column = cell_at(clicked(event, shown), rows_columns)
        return draw(path, size, sorted({*hidden} ^ {row * rows_columns[1] + column}))

    def swapped(path: str | None, size: int, hidden: list[int]):
        rows, columns = explorer.cells[size]
        return draw(path, size, sorted({*range(rows * columns)} - {*hidden}))

    outputs = [drawn, scores, hidden]
    gr.on(
        [given.change, size.input, clear.click],
        guarded(lambda path, size: draw(path, size, [])),
        [given, size],
        outputs,
        api_visibility="private",
    )
    swap.click(guarded(swapped), [given, size, hidden], outputs, api_visibility="private")
    drawn.select(guarded(click), [given, size, drawn, hidden], outputs, api_visibility="private")


PARTS: dict[str, Callable[[Explorer, Any], None]] = {
    "Attention": add_attention,
    "Similar regions": add_similar,
    "Occlusion": add_occlusion,
}
