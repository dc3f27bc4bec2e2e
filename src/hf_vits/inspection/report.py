"""A report is a folder: index.html, report.json, and a folder for each section with its result.json, CSV and PNG.

A section is written whole or not at all, with the fingerprint of models and images, so that a second run with the same
folder adds what is missing.
"""

import json
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hf_vits.files import read_json, write_text
from hf_vits.folders import locked, temporary_folder

from .findings import Findings, LeftOut
from .page import page
from .sections import SECTIONS, Section
from .study import Images, Study, Subject, fingerprint, seconds_per_image

REPORT, PAGE, RESULT = "report.json", "index.html", "result.json"
DONE, LEFT_OUT, FAILED = "done", "left out", "failed"
DRAWING = 1.0  # seconds that a section takes beside the models


def inspect(
    subjects: Sequence[Subject], images: Images, out: Path, minutes: float, started: float | None = None
) -> dict[str, Any]:
    """Write a report, or add to it what is missing, and return what report.json has.

    Args:
        minutes: sections that would take longer than what is left of it are left out.
        started: `time.monotonic()` from which the minutes count; None: now.

    Raises:
        FileExistsError: `out` is something else, or a report of other models or images.
    """
    started = time.monotonic() if started is None else started
    prints = fingerprint(subjects, images)
    check_folder(out, prints)
    study = Study(list(subjects), images, seconds_per_image(subjects), prints)
    facts = {
        "models": [{"name": subject.name, "source": subject.source} for subject in subjects],
        "images": {
            "folder": str(images.folder),
            "used": len(images.paths),
            "found": images.found,
            "classes": images.class_names,
            "left_out": images.left_out,
        },
        "fingerprint": prints,
    }
    with locked(out):
        write_text(out / REPORT, json.dumps({**facts, "sections": []}, indent=2) + "\n")
        results = []
        with tqdm(SECTIONS, desc="Inspecting", unit="section") as bar:
            for section in bar:
                bar.set_postfix_str(section.title)
                results.append(result_of(section, study, out, started + 60 * minutes, minutes))
        report = {**facts, "sections": results}
        write_text(out / REPORT, json.dumps(report, indent=2) + "\n")
        write_text(out / PAGE, page(report, out))
    return report


def check_folder(out: Path, prints: dict[str, str]) -> None:
    """Raise FileExistsError unless a folder is new, empty, or a report of the same models, images and labels."""
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"--out {out} is a file; choose a folder")
    if not out.is_dir() or not any(path.name[0] != "." for path in out.iterdir()):
        return
    if not (out / REPORT).is_file():
        raise FileExistsError(f"--out {out} has other files and is no report; choose another folder")
    before = read_json(out / REPORT)
    differs = [what for what, value in prints.items() if before.get("fingerprint", {}).get(what) != value]
    if differs:
        names = ", ".join(model["source"] for model in before.get("models", ()))
        raise FileExistsError(
            f"--out {out} is a report of {names}, with other {' and '.join(differs)}; "
            "choose another folder, or remove it"
        )


def result_of(section: Section, study: Study, out: Path, deadline: float, minutes: float) -> dict[str, Any]:
    """Return the result of a section: an earlier one that is done, a new one, or why it is left out."""
    earlier = earlier_result(section, study, out)
    if earlier is not None:
        return earlier
    facts = {
        "name": section.name,
        "title": section.title,
        "explains": section.explains,
        "fingerprint": study.fingerprint,
    }
    expected, left = section.seconds(study) + DRAWING, max(deadline - time.monotonic(), 0)
    if section.needs_labels and study.images.labels is None:
        return {
            **facts,
            "status": LEFT_OUT,
            "reason": "it needs labels: a folder of images for each class, and --labels",
        }
    if expected > left:
        return {
            **facts,
            "status": LEFT_OUT,
            "reason": f"no time: it takes about {duration(expected)}, and of --minutes {minutes:g} there were "
            f"{duration(left)} left; run the command again to add it",
        }
    target = out / section.name
    with temporary_folder(out, ".section-") as folder:
        found = Findings(folder)
        before = time.monotonic()
        try:
            section.run(study, found)
        except LeftOut as error:
            return {**facts, "status": LEFT_OUT, "reason": str(error)}
        except Exception as error:  # the other sections are still worth having
            return {**facts, "status": FAILED, "reason": f"{type(error).__name__}: {error}"}
        found.save({**facts, "status": DONE, "seconds": round(time.monotonic() - before, 1)})
        shutil.rmtree(target, ignore_errors=True)
        folder.rename(target)
    return read_json(target / RESULT)


def earlier_result(section: Section, study: Study, out: Path) -> dict[str, Any] | None:
    """Return the result of a section that an earlier run finished; None where there is none, or a part is missing."""
    folder = out / section.name
    try:
        result = read_json(folder / RESULT)
    except (OSError, ValueError):
        return None
    complete = result.get("fingerprint") == study.fingerprint and result.get("status") == DONE
    files = [picture["file"] for picture in result.get("pictures", ())]
    return result if complete and all((folder / file).is_file() for file in files) else None


def duration(seconds: float) -> str:
    """Return a time in words, such as 12 s or 3 min."""
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"
