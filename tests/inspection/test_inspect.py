"""Reports of `hf-vits inspect`: what is in them, what is left out and why, a second run, and the page."""

import base64
import csv
import io
import json

import numpy as np
import pytest
import torch
from PIL import Image

from hf_vits.analysis.attention import attention_distance
from hf_vits.analysis.taps import record
from hf_vits.cli.models import load_image_model
from hf_vits.inspection import sections
from hf_vits.inspection.report import PAGE, REPORT, RESULT
from hf_vits.inspection.sections import SECTIONS
from hf_vits.inspection.study import find_images, make_subject, short_names, spread
from tests.support.commands import error_of, result_of

from .pages import CLASSES, Page, save_models, save_photos, save_report


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    return save_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return save_photos(tmp_path_factory.mktemp("data") / "photos")


@pytest.fixture(scope="module")
def report(saved, photos, tmp_path_factory):
    """The folder of a report of two models on labelled images."""
    return save_report([saved["cct"], saved["vit"]], photos, tmp_path_factory.mktemp("out") / "r", "--labels")


def result(report, section: str) -> dict:
    return json.loads((report / section / RESULT).read_text())


def rows(report, section: str, table: str) -> list[list]:
    return next(each["rows"] for each in result(report, section)["tables"] if each["name"] == table)


def statuses(report) -> dict[str, str]:
    return {each["name"]: each["status"] for each in json.loads((report / REPORT).read_text())["sections"]}


def subject_of(source, photos):
    return make_subject("m", str(source), *load_image_model(str(source)), find_images(photos, True, 99))


def test_every_section_is_done_with_pictures_and_the_same_table_as_csv(report):
    assert statuses(report) == dict.fromkeys([section.name for section in SECTIONS], "done")
    for section in SECTIONS:
        found = result(report, section.name)
        for picture in found["pictures"]:
            pixels = np.asarray(Image.open(report / section.name / picture["file"]))
            assert pixels.std() > 5, picture
        written = [list(csv.reader(path.open())) for path in sorted((report / section.name).glob("*.csv"))]
        heads = [[str(name) for name in table["columns"]] for table in found["tables"]]
        assert sorted(table[0] for table in written) == sorted(heads)
        assert sum(len(table) - 1 for table in written) == sum(len(table["rows"]) for table in found["tables"])


def test_predictions_are_those_of_the_models(report, saved, photos):
    subject = subject_of(saved["vit"], photos)
    with torch.no_grad():
        probabilities = subject.model(subject.pixel_values).logits.softmax(-1)
    own = [row for row in rows(report, "predictions", "Most probable classes") if row[0] == "vit"]
    assert [row[2] for row in own] == [CLASSES[index] for index in probabilities.argmax(-1)]
    torch.testing.assert_close(torch.tensor([row[3] for row in own]), probabilities.amax(-1), atol=1e-5, rtol=1e-5)
    truth = [row[1].split("/")[0] for row in own]
    accuracy = dict(rows(report, "predictions", "Accuracy"))["vit"]
    assert accuracy == pytest.approx(
        np.mean([row[2] == label for row, label in zip(own, truth, strict=True)]), abs=1e-5
    )


def test_distances_are_those_of_the_attention_over_all_images(report, saved, photos):
    subject = subject_of(saved["vit"], photos)
    expected = attention_distance(record(subject.model, subject.pixel_values, "attentions")).mean(dim=0)
    written = [row[3] for row in rows(report, "heads", "Attention distance") if row[0] == "vit"]
    torch.testing.assert_close(torch.tensor(written), expected.flatten(), atol=1e-5, rtol=1e-4)


def test_layers_are_like_themselves_and_compared_between_models(report):
    table = rows(report, "similarity", "CKA")
    own = [value for first, second, row, column, value in table if first == second and row == column]
    np.testing.assert_allclose(own, 1, rtol=1e-5)
    assert sum(1 for first, second, *_ in table if (first, second) == ("cct", "vit")) == 2 * 2


def test_without_loss_of_information_the_class_stays(report):
    for name, kind, level, accuracy, same in rows(report, "occlusion", "Loss of information"):
        assert 0 <= accuracy <= 1
        if level == {"removed": 0, "shuffled": 1}[kind]:
            assert same == 1, name


def test_the_page_is_well_formed_and_loads_nothing(report):
    page = Page((report / PAGE).read_text())
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert ids == [section.name for section in SECTIONS]
    assert [link["href"] for link in page.all("a")] == [f"#{name}" for name in ids]
    sources = [image["src"] for image in page.all("img")][:-1]  # the last is the enlarged picture
    assert len(sources) == sum(len(result(report, name)["pictures"]) for name in ids)
    for source in sources:
        kind, data = source.split(",", 1)
        assert kind == "data:image/png;base64"
        Image.open(io.BytesIO(base64.b64decode(data))).verify()
    assert {link["href"] for link in page.all("link")} == {"data:,"}
    assert all("src" not in script for script in page.all("script"))
    choices = [button["data-choice"] for button in page.all("button")]
    assert choices[-2:] == ["last block", "middle block"]
    assert choices[:2] == ["block 1", "block 2"]
    assert set(choices) <= {figure["data-choice"] for figure in page.all("figure")}


def test_names_are_escaped_on_the_page(saved, tmp_path):
    photos = tmp_path / "<i>photos"
    photos.mkdir()
    Image.new("RGB", (40, 40), "teal").save(photos / "<img src=x>.png")
    model = tmp_path / "<script>alert(1)"
    model.symlink_to(saved["vit"])
    out = save_report([model], photos, tmp_path / "out", "--minutes", "0.05")
    text = (out / PAGE).read_text()
    Page(text)
    assert "<script>alert" not in text.replace("<script>\nfor", "")
    assert "<img src=x>" not in text
    assert "<i>" not in text


def test_a_second_run_does_only_what_is_missing(report, saved, photos, monkeypatch):
    (report / "heads" / result(report, "heads")["pictures"][0]["file"]).unlink()  # half of a section
    (report / "similarity" / RESULT).write_text("{")
    ran = []
    spied = [
        sections.Section(
            each.name,
            each.title,
            each.explains,
            lambda study, found, each=each: (ran.append(each.name), each.run(study, found)),
            each.seconds,
            each.needs_labels,
        )
        for each in SECTIONS
    ]
    monkeypatch.setattr("hf_vits.inspection.report.SECTIONS", spied)
    before = (report / "neurons" / RESULT).stat().st_mtime_ns
    save_report([saved["cct"], saved["vit"]], photos, report, "--labels")
    assert ran == ["heads", "similarity"]
    assert (report / "neurons" / RESULT).stat().st_mtime_ns == before
    assert set(statuses(report).values()) == {"done"}
    assert not list(report.glob(".section-*"))


def test_reports_of_others_are_kept(report, saved, photos, tmp_path):
    message = error_of("inspect", saved["vit"], "--images", photos, "--labels", "--out", report)
    assert "is a report of" in message
    assert "other models" in message
    message = error_of("inspect", saved["cct"], saved["vit"], "--images", photos, "--out", report)
    assert "other labels" in message
    (tmp_path / "thesis.tex").write_text("x")
    assert "is no report" in error_of("inspect", saved["vit"], "--images", photos, "--out", tmp_path)
    assert "is a file" in error_of("inspect", saved["vit"], "--images", photos, "--out", tmp_path / "thesis.tex")


def test_files_that_are_no_images_are_counted_and_named(report, photos):
    assert dict(rows(report, "models", "Files left out"))["cat/notes.txt"] == "no image file"
    assert "broken.jpg" in dict(rows(report, "models", "Files left out"))["dog/broken.jpg"]
    assert "2 other files left out" in Page((report / PAGE).read_text()).text
    loose = find_images(photos, False, 5)
    assert (len(loose.paths), loose.found, loose.labels) == (5, 6, None)


def test_folders_without_images_are_refused(saved, tmp_path):
    model = saved["vit"]
    assert "is no folder" in error_of("inspect", model, "--images", tmp_path / "none", "--out", tmp_path / "out")
    (tmp_path / "a.txt").write_text("x")
    message = error_of("inspect", model, "--images", tmp_path, "--out", tmp_path / "out")
    assert "no image files" in message
    assert "a.txt" in message
    message = error_of("inspect", model, "--images", tmp_path, "--labels", "--out", tmp_path / "out")
    assert "a folder of images for each class" in message


def test_one_image_without_labels_and_a_network_without_attention(saved, tmp_path):
    Image.new("RGB", (40, 40), "teal").save(tmp_path / "photo.png")
    found = result_of("inspect", saved["resnet"], "--images", tmp_path, "--out", tmp_path / "out")
    why = {row["name"]: row["reason"] for row in found["sections"] if row["status"] != "done"}
    assert {"heads", "attention", "probes", "similarity"} <= why.keys()
    assert "no attentions" in why["heads"]
    assert "needs labels" in why["probes"]
    page = Page((tmp_path / "out" / PAGE).read_text())
    assert "no attentions" in page.text
    notes = result(tmp_path / "out", "descriptors")["notes"]
    assert notes == ["Correspondences need two images."]


def test_sections_without_time_are_left_out_and_added_later(saved, photos, tmp_path, monkeypatch):
    some = [section for section in SECTIONS if section.name in ("models", "predictions", "similarity", "probes")]
    monkeypatch.setattr("hf_vits.inspection.report.SECTIONS", some)
    out = save_report([saved["vit"]], photos, tmp_path / "out", "--minutes", "0.0001")
    assert set(statuses(out).values()) == {"left out"}
    assert "no time" in Page((out / PAGE).read_text()).text
    out = save_report([saved["vit"]], photos, out)
    assert [name for name, status in statuses(out).items() if status != "done"] == ["probes"]


def test_a_section_that_fails_is_named_and_the_others_are_kept(saved, photos, tmp_path, monkeypatch):
    def broken(study, found):
        raise KeyError("oops")

    first = SECTIONS[1]
    spoiled = sections.Section(first.name, first.title, first.explains, broken, first.seconds)
    monkeypatch.setattr("hf_vits.inspection.report.SECTIONS", (SECTIONS[0], spoiled))
    message = error_of("inspect", saved["vit"], "--images", photos, "--out", tmp_path / "out", code=1)
    assert "KeyError: 'oops'" in message
    assert statuses(tmp_path / "out") == {"models": "done", "predictions": "failed"}


def test_names_for_titles_differ():
    assert short_names(["user/dino", "other/mae"]) == ["dino", "mae"]
    assert short_names(["user/dino", "other/dino"]) == ["user/dino", "other/dino"]
    assert short_names(["user/dino", "user/dino"]) == ["user/dino (1)", "user/dino (2)"]
    assert spread(10, 4) == [0, 3, 6, 9]
    assert spread(3, 4) == [0, 1, 2]
