"""What a section of a report found: pictures, tables, and why models were left out."""

import csv
import io
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from hf_vits.files import write_text

from .study import Study, Subject

T = TypeVar("T")


class LeftOut(Exception):
    """A section fits none of the models, or not the images; the message says why."""


@dataclass
class Findings:
    """Pictures and tables of a section, in a folder of their own.

    Attributes:
        folder: existing folder that they are written to.
        pictures: {file, group, model, choice, caption} each. The page shows a group under one title, with a button
            for each choice, and models side by side.
        tables: {name, columns, rows} each, also written as CSV.
        left_out: {model: why it has no part in this section}.
        notes: sentences for the reader.
    """

    folder: Path
    pictures: list[dict[str, str]] = field(default_factory=list)
    tables: list[dict[str, Any]] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def picture(
        self, draw: Callable[[Path], None], group: str, model: str = "", choice: str = "", caption: str = ""
    ) -> None:
        """Add a picture that `draw` writes to the path it is given."""
        words = re.sub(r"[^a-z0-9]+", "-", f"{group} {choice} {model}".lower()).strip("-")[:60]
        file = f"{len(self.pictures) + 1:02d}-{words}.png"
        draw(self.folder / file)
        self.pictures.append({"file": file, "group": group, "model": model, "choice": choice, "caption": caption})

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        """Add a table; numbers are rounded to six digits."""
        rows = [[float(f"{value:.6g}") if isinstance(value, float) else value for value in row] for row in rows]
        self.tables.append({"name": name, "columns": list(columns), "rows": rows})
        text = io.StringIO()
        csv.writer(text).writerows([columns, *rows])
        write_text(self.folder / f"{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}.csv", text.getvalue())

    def of_each(self, study: Study, look: Callable[[Subject], T]) -> dict[str, T]:
        """Return {model: what `look` found}; models that raise ValueError are left out.

        Raises:
            LeftOut: all models are.
        """
        found = {}
        for subject in study.subjects:
            try:
                found[subject.name] = look(subject)
            except ValueError as error:
                self.left_out[subject.name] = str(error)
        if not found:
            raise LeftOut("; ".join(dict.fromkeys(self.left_out.values())))
        return found

    def save(self, facts: dict[str, Any]) -> None:
        """Write result.json with `facts` and the findings."""
        content = {
            **facts,
            "pictures": self.pictures,
            "tables": self.tables,
            "left_out": self.left_out,
            "notes": self.notes,
        }
        write_text(self.folder / "result.json", json.dumps(content, indent=2) + "\n")
