"""Write the parts of the model cards and of README that follow from the facts and sizes of the architectures.

    python -m model_cards.generate

or `make cards`. The facts are in `src/hf_vits/hub/facts/<system>.yaml`, the sizes in
`model_cards/variants/<system>.yaml`. In a card the generated parts are its front matter and the blocks between
`<!-- generated: NAME -->` and `<!-- end -->`; the rest is written by hand and stays as it is. A system without a card
gets one that consists of all blocks. The blocks are:

    introduction    title, summary, original code, papers and classes
    variants        the table of variants; where there are several tables, a block of each table's name
    use             Python code that loads a model (may be left out, where a card shows other code)
    convert         the command that converts a checkpoint (may be left out)
    licence         the section on the licence
    citation        the section with the BibTeX entries

In README it is the table of architectures, between `<!-- architectures -->` and `<!-- end -->`. Beside the facts it is
variants.json, the size and input of each variant, so that `hf-vits list` need not import the systems.
"""

import json
import re
from pathlib import Path
from typing import Any

from hf_vits import conversion
from hf_vits.auto import ROWS
from hf_vits.conversion.core import variant_fields  # pyright: ignore[reportMissingImports] - of conversion/
from hf_vits.hub.facts import FACTS, SIZES, Facts
from hf_vits.hub.sections import citation_section, licence_section, papers, table, wrapped
from hf_vits.hub.usage import snippet

from . import variants

ROOT = Path(__file__).parents[1]
CARDS = Path(__file__).parent
WIDTH = 119
# {task of an architecture: (tag of its modality, Auto class of the example, kind of its input)}, in README's order.
TASKS = {
    "image-classification": ("vision", "AutoModelForImageClassification", "image"),
    "object-detection": ("vision", "AutoModelForObjectDetection", "image"),
    "video-classification": ("vision", "AutoModelForVideoClassification", "video"),
    "audio-classification": ("audio", "AutoModelForAudioClassification", "audio"),
    "automatic-speech-recognition": ("audio", "AutoModelForCTC", "speech"),
    "image-feature-extraction": ("vision", "AutoModel", "image"),
}
OPTIONAL = ("use", "convert")


def main() -> None:
    """Write what has changed, and print the names of the files."""
    for path, text in generate().items():
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            print(path.relative_to(ROOT))


def generate() -> dict[Path, str]:
    """Return {path: whole text} of all cards, of the sizes of variants and of README, as they should be."""
    texts = {CARDS / f"{system}.md": card(system) for system in conversion.SYSTEMS}
    texts[FACTS.folder / SIZES] = sizes()
    readme = ROOT / "README.md"
    texts[readme] = replace_block(readme.read_text(encoding="utf-8"), "architectures", architectures(), str(readme))
    return texts


def sizes() -> str:
    """Return the sizes of all variants as JSON, a line per variant."""
    systems = []
    for system in conversion.SYSTEMS:
        parameters = {name: row["parameters"] for rows in variants.load(system).values() for name, row in rows.items()}
        lines = [
            f"  {json.dumps(name)}: {json.dumps({'parameters': parameters[name], **input_of(system, name)})}"
            for name in conversion.variants(system)
        ]
        systems.append(f" {json.dumps(system)}: {{\n" + ",\n".join(lines) + "\n }")
    return "{\n" + ",\n".join(systems) + "\n}\n"


def input_of(system: str, variant: str) -> dict[str, Any]:
    """Return what a variant reads, and the size of its images or frames, see `hub.facts.variant_sizes`."""
    fields = variant_fields(system, variant)
    model_class = conversion.system(system).model_class(fields)
    config = model_class.config_class(**fields)
    own = getattr(config, "image_size", None)
    config = config if own else getattr(config, "backbone_config", None) or config
    size = getattr(config, "image_size", None)
    if isinstance(size, list | tuple):
        size = size[0] if size[0] == size[1] else list(size)
    kind = {"input_values": "audio", "input_features": "audio", "input_ids": "text", "inputs": "arrays"}
    if isinstance(model_class.input_modalities, list | tuple) and len(model_class.input_modalities) > 1:
        return {"input": "several", "image_size": size}
    if model_class.main_input_name != "pixel_values":
        return {"input": kind[model_class.main_input_name], "image_size": None}
    is_clip = getattr(config, "num_frames", None) is not None
    return {"input": "clip" if is_clip else "image", "image_size": size}


def card(system: str) -> str:
    """Return the card of a system with its generated parts renewed."""
    facts, made = facts_of(system), blocks(system)
    path = CARDS / f"{system}.md"
    text = path.read_text(encoding="utf-8") if path.exists() else new_card(made)
    for name, content in made.items():
        if name not in OPTIONAL or start(f"generated: {name}") in text:
            text = replace_block(text, f"generated: {name}", content, str(path))
    known = {start(f"generated: {name}") for name in made}
    if unknown := [line for line in re.findall(r"^<!-- generated: .*", text, flags=re.MULTILINE) if line not in known]:
        raise ValueError(f"{path} has the block {unknown[0]}, but {system} has only {', '.join(sorted(known))}")
    return re.sub(r"\A---\n.*?^---\n", lambda _: front_matter(facts), text, count=1, flags=re.DOTALL | re.MULTILINE)


def facts_of(system: str) -> Facts:
    """Return the facts of a system; ValueError if there are none or the task is unknown here."""
    if system not in FACTS:
        raise ValueError(f"{system} has no facts: write {FACTS.folder / system}.yaml")
    if FACTS[system].task not in TASKS:
        raise ValueError(f"{system}.yaml: task must be one of {', '.join(TASKS)}, got {FACTS[system].task!r}")
    return FACTS[system]


def new_card(made: dict[str, str]) -> str:
    """Return a card that consists of empty blocks."""
    headings = {name: "## Variants\n\n" for name in made if name.startswith("variants")} | {"use": "## Use\n\n"}
    empty = (f"{headings.get(name, '')}{start(f'generated: {name}')}\n<!-- end -->\n" for name in made)
    return "---\n---\n\n" + "\n".join(empty)


def start(name: str) -> str:
    """Return the comment that begins a block."""
    return f"<!-- {name} -->"


def replace_block(text: str, name: str, content: str, where: str) -> str:
    """Return `text` with the content of one block replaced; ValueError unless it has exactly one of that name."""
    block = re.compile(rf"^{re.escape(start(name))}\n.*?^<!-- end -->$", flags=re.DOTALL | re.MULTILINE)
    if len(block.findall(text)) != 1:
        raise ValueError(
            f"{where} has {len(block.findall(text))} blocks from {start(name)} to <!-- end -->, but needs one"
        )
    return block.sub(lambda _: f"{start(name)}\n\n{content}\n\n<!-- end -->", text)


def blocks(system: str) -> dict[str, str]:
    """Return {name: content} of the generated blocks of a card."""
    facts = facts_of(system)
    _, auto_class, kind = TASKS[facts.task]
    made = {"introduction": introduction(system, facts)}
    made |= {name: variants_table(rows) for name, rows in variants.load(system).items()}
    made["use"] = snippet(auto_class, kind)
    if facts.example:
        made["convert"] = f"Convert an original checkpoint, and share it:\n\n```sh\n{command(system, facts)}\n```"
    return made | {"licence": licence_section(facts), "citation": citation_section(facts)}


def front_matter(facts: Facts) -> str:
    """Return the metadata of a card, between its lines of dashes."""
    tags = "".join(f"- {tag}\n" for tag in (TASKS[facts.task][0], "hf_vits", *facts.tags))
    lines = f"library_name: transformers\nlicense: {facts.licence}\npipeline_tag: {facts.task}\ntags:\n{tags}"
    return f"---\n{lines}---\n"


def introduction(system: str, facts: Facts) -> str:
    """Return title, summary, and where code, papers and classes are."""
    rows = [row for row in ROWS if row.folder == system]
    code = ", ".join(f"[{repository_name(address)}]({address})" for address in facts.repositories)
    sources = [
        f"{'Architecture' if len(rows) == 1 else 'Architectures'}: {listed(row.model_type for row in rows)}."
        if rows
        else "",
        f"Original code: {code}." if code else "",
        papers(facts),
    ]
    classes = "; ".join(listed(dict.fromkeys(row.models.values())) for row in rows)
    paragraphs = [
        facts.summary,
        " ".join(filter(None, sources)),
        f"Classes: {classes}." if classes else "",
    ]
    return "\n\n".join([f"# {facts.title}", *(wrapped(paragraph) for paragraph in paragraphs if paragraph)])


def listed(names: Any) -> str:
    """Return names as code, separated by commas."""
    return ", ".join(f"`{name}`" for name in names)


def repository_name(address: str) -> str:
    """Return "owner/name" of the address of a repository or of a folder in it."""
    return "/".join(address.removeprefix("https://").split("/")[1:3])


def variants_table(rows: dict[str, dict[str, Any]]) -> str:
    """Return the table of some variants."""
    columns = list(next(iter(rows.values())))
    return table(
        ["variant", *columns],
        ([f"`{variant}`", *(shown(column, row[column]) for column in columns)] for variant, row in rows.items()),
    )


def shown(column: str, value: Any) -> str:
    """Return a value of a table of variants as text."""
    if value is None:
        return ""
    if column == "parameters":
        return f"{value:,}"
    if column.startswith("multiply-adds"):
        return f"{value:,} G" if value >= 1 else f"{value * 1000:g} M"
    return str(value)


def command(system: str, facts: Facts) -> str:
    """Return the command that converts the example of a system, on two lines if it is long."""
    example = facts.example
    repository = f"--push-to-hub USER/{example.folder}"
    words = ("hf-vits convert", system, example.variant, example.checkpoint, example.folder, example.options)
    line = " ".join(filter(None, words))
    return f"{line} {repository}" if len(f"{line} {repository}") <= WIDTH else f"{line} \\\n  {repository}"


def architectures() -> str:
    """Return README's table of architectures: images, videos, sound, then self-supervised methods."""
    order = list(TASKS)
    systems = sorted(
        conversion.SYSTEMS, key=lambda system: (order.index(facts_of(system).task), FACTS[system].name.lower())
    )
    head = ["architecture", "system", "published variants", "paper", "original code", "transformers' layout", "card"]
    return table(head, (architecture(system, FACTS[system]) for system in systems))


def architecture(system: str, facts: Facts) -> list[str]:
    """Return the row of one system in README's table."""
    arxiv = facts.papers[0].arxiv
    code = ", ".join(f"[{repository_name(address).split('/')[1]}]({address})" for address in facts.repositories)
    return [
        facts.name,
        f"`{system}`",
        str(len(conversion.variants(system))),
        f"[{arxiv}](https://arxiv.org/abs/{arxiv})",
        code or "none published",
        layouts(system),
        f"[{system}](model_cards/{system}.md)",
    ]


def layouts(system: str) -> str:
    """Return in which directions a system converts between hf_vits and transformers' own models."""
    module = conversion.system(system)
    directions = [name for name in ("from", "to") if hasattr(module, f"{name}_transformers")]
    return "both ways" if len(directions) == 2 else "".join(directions)


if __name__ == "__main__":
    main()
