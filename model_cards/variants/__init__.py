"""Tables of the published variants: sizes, and results as the originals report them.

`<system>.yaml` of this folder holds one or more tables, {name of the table: {"columns": [...], "rows": {...}}}. A row
is {published name of the variant: [a value for each column]}; empty values at its end are left out, null is an empty
value before others. The name of a table is the name of the block of the card that shows it. Three columns have a
meaning: `parameters` is their number; `multiply-adds` are those of the original code for one input, in units of 1e9;
`multiply-adds of hf_vits` are there where this implementation needs fewer. `tests/conversion/test_sizes.py` counts
them.
"""

from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parent


def load(system: str, folder: Path = FOLDER) -> dict[str, dict[str, dict[str, Any]]]:
    """Return the tables of a system, {table: {variant: {column: value}}}; every row has every column.

    Raises:
        FileNotFoundError: the system has no file.
        ValueError: the file has another form, or a variant is in two tables.
    """
    path = folder / f"{system}.yaml"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: it holds the sizes of the variants of {system}")
    tables = {}
    for name, table in yaml.safe_load(path.read_text(encoding="utf-8")).items():
        if not isinstance(table, dict) or table.keys() != {"columns", "rows"}:
            raise ValueError(f"{path}: {name!r} must be a mapping with the keys columns and rows, got {table!r}")
        columns = table["columns"]
        if "parameters" not in columns:
            raise ValueError(f"{path}: {name!r} needs the column 'parameters', got {', '.join(columns)}")
        for variant, values in table["rows"].items():
            if any(variant in rows for rows in tables.values()):
                raise ValueError(f"{path}: {variant} is in two tables; name it in one")
            if len(values) > len(columns):
                raise ValueError(f"{path}: {variant} has {len(values)} values for {len(columns)} columns")
            padded = [*values, *[None] * (len(columns) - len(values))]
            tables.setdefault(name, {})[variant] = dict(zip(columns, padded, strict=True))
    return tables
