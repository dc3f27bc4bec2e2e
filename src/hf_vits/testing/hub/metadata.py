"""The check of the YAML block at the top of a model card (https://hf.co/docs/hub/model-cards).

The real Hub has it at `/api/validate-yaml`. Here are those of its rules that matter for the model cards of this
library; `LoopbackHub` answers with them.
"""

import re
from typing import Any

import yaml


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


LICENCES = _words(
    "afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 cc cc0-1.0"
    " cc-by-3.0 cc-by-4.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-4.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0"
    " cc-by-sa-3.0 cc-by-sa-4.0 cdla-permissive-2.0 ecl-2.0 epl-2.0 eupl-1.2 gpl gpl-2.0 gpl-3.0 isc lgpl lgpl-2.1"
    " lgpl-3.0 mit mpl-2.0 ms-pl ncsa odbl ofl-1.1 openrail osl-3.0 pddl unlicense wtfpl zlib unknown other"
)
PIPELINE_TAGS = _words(
    "any-to-any audio-classification audio-to-audio automatic-speech-recognition depth-estimation feature-extraction"
    " fill-mask image-classification image-feature-extraction image-segmentation image-text-to-text image-to-image"
    " image-to-text image-to-video keypoint-detection mask-generation object-detection other tabular-classification"
    " text-classification text-generation text-to-image text-to-speech unconditional-image-generation"
    " video-classification visual-question-answering voice-activity-detection zero-shot-classification"
    " zero-shot-image-classification zero-shot-object-detection"
)
SPACE_SDKS = _words("docker gradio static streamlit")
SPACE_COLOURS = _words("red yellow green blue indigo purple pink gray")
LONGEST_DESCRIPTION = 60  # characters of a Space's short description
STRING_LISTS = ("tags", "datasets", "metrics", "language", "base_model")
FRONT_MATTER = re.compile(r"\A\s*---[ \t]*\r?\n(.*?)^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)


def front_matter(content: str) -> dict[str, Any]:
    """Return the metadata of a card, `{}` if it has none; ValueError if it is invalid YAML or no mapping."""
    found = FRONT_MATTER.match(content)
    if found is None:
        return {}
    try:
        data = yaml.safe_load(found.group(1))
    except yaml.YAMLError as error:
        raise ValueError(f"invalid YAML: {error}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise ValueError(f"the metadata must be a mapping, got {type(data).__name__}")
    return data


def check_metadata(content: str, kind: str = "model") -> tuple[list[str], list[str]]:
    """Return errors and warnings about the metadata of the card of a repository of a kind, both empty if correct."""
    try:
        data = front_matter(content)
    except ValueError as error:
        return [str(error)], []
    if not data:
        return [], ["empty or missing yaml metadata in repo card"]
    errors = [*_string_errors(data), *_choice_errors(data), *_model_index_errors(data.get("model-index"))]
    return [*errors, *(_space_errors(data) if kind == "space" else [])], []


def _space_errors(data: dict[str, Any]) -> list[str]:
    """Return errors in what only Spaces have (https://hf.co/docs/hub/spaces-config-reference)."""
    errors = []
    if data.get("sdk") not in SPACE_SDKS:
        errors.append(f'"sdk" must be one of {", ".join(sorted(SPACE_SDKS))}; got {data.get("sdk")!r}')
    for key in ("colorFrom", "colorTo"):
        if key in data and data[key] not in SPACE_COLOURS:
            errors.append(f'"{key}" must be one of {", ".join(sorted(SPACE_COLOURS))}; got {data[key]!r}')
    if "sdk_version" in data and not isinstance(data["sdk_version"], str):
        errors.append('"sdk_version" must be a string')
    if len(str(data.get("short_description", ""))) > LONGEST_DESCRIPTION:
        errors.append(f'"short_description" must be at most {LONGEST_DESCRIPTION} characters long')
    return errors


def _string_errors(data: dict[str, Any]) -> list[str]:
    errors = [
        f'"{key}" must be a string'
        for key in ("library_name", "license_name", "license_link", "thumbnail")
        if key in data and not isinstance(data[key], str)
    ]
    for key in STRING_LISTS:
        value = data.get(key)
        many = value if isinstance(value, list) else [value]
        if key in data and not all(isinstance(item, str) for item in many):
            errors.append(f'"{key}" must be a string or a list of strings')
    return errors


def _choice_errors(data: dict[str, Any]) -> list[str]:
    errors = []
    licences = data.get("license", [])
    for licence in licences if isinstance(licences, list) else [licences]:
        if licence not in LICENCES:
            errors.append(f'"license" must be one of {", ".join(sorted(LICENCES))}; got {licence!r}')
    tag = data.get("pipeline_tag")
    if "pipeline_tag" in data and tag not in PIPELINE_TAGS:
        errors.append(f'"pipeline_tag" must be one of {", ".join(sorted(PIPELINE_TAGS))}; got {tag!r}')
    return errors


def _model_index_errors(index: Any) -> list[str]:
    if index is None:
        return []
    if not isinstance(index, list):
        return ['"model-index" must be an array']
    errors = []
    for i, model in enumerate(index):
        where = f"model-index[{i}]"
        if not isinstance(model, dict) or not isinstance(model.get("name"), str):
            errors.append(f'"{where}.name" must be a string')
            continue
        results = model.get("results")
        if not isinstance(results, list):
            errors.append(f'"{where}.results" must be an array')
            continue
        for j, result in enumerate(results):
            errors += _result_errors(result, f"{where}.results[{j}]")
    return errors


def _result_errors(result: Any, where: str) -> list[str]:
    if not isinstance(result, dict):
        return [f'"{where}" must be an object']
    required = {"task": ("type",), "dataset": ("type", "name")}
    errors = [
        f'"{where}.{part}.{key}" must be a string'
        for part, keys in required.items()
        for key in keys
        if not isinstance((result.get(part) or {}).get(key), str)
    ]
    metrics = result.get("metrics")
    if not isinstance(metrics, list) or not metrics:
        return [*errors, f'"{where}.metrics" must be an array with at least one metric']
    for k, metric in enumerate(metrics):
        if not isinstance(metric, dict) or not isinstance(metric.get("type"), str) or metric.get("value") is None:
            errors.append(f'"{where}.metrics[{k}]" must have a type and a value')
    return errors
