"""Parts of Markdown text that the cards of models and the cards of architectures share."""

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from .facts import Facts

LICENCES = {
    "apache-2.0": "Apache-2.0",
    "bsd-3-clause-clear": "Clear BSD (BSD-3-Clause-Clear)",
    "cc-by-nc-4.0": "CC BY-NC 4.0",
    "cc-by-sa-4.0": "CC BY-SA 4.0",
    "gpl": "GNU General Public License",
    "mit": "MIT",
}
# Characters that begin markup anywhere in a line; an underscore does not between letters or digits.
MARKUP = re.compile(r"[\\`*\[\]~$]|(?<![^\W_])_|_(?![^\W_])")


def papers(facts: Facts) -> str:
    """Return a sentence that names the papers of an architecture, with links."""
    links = ", ".join(f"[{paper.title}](https://arxiv.org/abs/{paper.arxiv})" for paper in facts.papers)
    return f"{'Papers' if len(facts.papers) > 1 else 'Paper'}: {links}."


def wrapped(text: str) -> str:
    """Return a paragraph broken into lines of at most 119 characters."""
    return textwrap.fill(text, 119, break_long_words=False, break_on_hyphens=False)


def licence_section(facts: Facts, own: str | None = None) -> str:
    """Return the section on licences.

    Args:
        facts: facts about the architecture.
        own: the Hub's identifier of the licence of a model's weights; None if they have the original's.
    """
    name = LICENCES.get(facts.licence, facts.licence)
    addresses = ", ".join(f"<{address}>" for address in facts.repositories)
    if not facts.repositories:
        text = f"The paper was published without code; the licence of this implementation: {name}."
    elif facts.licence == "unknown":
        text = f"The authors state no licence for their code and weights ({addresses})."
    else:
        text = f"Licence of the original code and weights ({addresses}): {name}."
    if own and own != facts.licence:
        text = f"Licence of these weights: {LICENCES.get(own, own)}. {text}"
    return f"## Licence\n\n{wrapped(' '.join(filter(None, (text, facts.licence_note))))}"


def citation_section(facts: Facts) -> str:
    """Return the section with the BibTeX entries of all papers."""
    entries = "\n\n".join(paper.bibtex for paper in facts.papers)
    return f"## Citation\n\n```bibtex\n{entries}\n```"


def table(head: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a Markdown table of Markdown texts and numbers; floats are written with six significant digits."""
    lines = [[cell(value) for value in head], ["---"] * len(head), *([cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def cell(value: Any) -> str:
    """Return a value as text for a cell of a table."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")


def plain_table(head: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """Return a Markdown table that shows texts as they are, whatever they contain."""
    return table([plain(name) for name in head], ([plain(value) for value in row] for row in rows))


def plain(value: Any) -> Any:
    """Return Markdown that shows a text, in one line, as it is; a float is returned unchanged."""
    if isinstance(value, float):
        return value
    text = MARKUP.sub(r"\\\g<0>", " ".join(str(value).split()))
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code(text: str) -> str:
    """Return Markdown that shows a text as code; a text with a backtick, which would end it, is shown plainly."""
    text = " ".join(text.split())
    return plain(text) if "`" in text else f"`{text}`"
