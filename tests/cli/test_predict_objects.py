"""`hf-vits predict` of detectors: objects as JSON, in COCO's format and drawn, and options that are refused."""

import json
import math

import pytest
import torch
from PIL import Image
from pycocotools.coco import COCO

from hf_vits import MaskRcnnForInstanceSegmentation, RetinaNetForObjectDetection, VitsDetectionProcessor
from hf_vits.cli.predict import show
from hf_vits.data.synthetic.scenes import ObjectScenes
from hf_vits.processing.detection import read_mask
from hf_vits.processing.opening import open_image

from ..models.detection.forms import DENSE, REGIONS
from ..support.hub import tiny_model
from .test_cli import command, error_of, result_of


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder, scenes = tmp_path_factory.mktemp("photos"), ObjectScenes(3, 64)
    for index in range(3):
        scenes[index].resize((64, 48 + 8 * index)).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def detectors(tmp_path_factory):
    """Folders of a tiny RetinaNet and a tiny Mask R-CNN, whose new heads find objects everywhere."""
    folders = {}
    classes = {"retina_net": RetinaNetForObjectDetection, "mask_rcnn": MaskRcnnForInstanceSegmentation}
    for (name, model_class), form in zip(classes.items(), (DENSE, REGIONS), strict=True):
        torch.manual_seed(0)
        config = model_class.config_class(num_labels=3, **form | {"max_detections": 4})
        folders[name] = tmp_path_factory.mktemp(name)
        model_class(config).save_pretrained(folders[name])
        VitsDetectionProcessor(size={"shortest_edge": 32, "longest_edge": 64}).save_pretrained(folders[name])
    return folders


@pytest.mark.parametrize("name", ["retina_net", "mask_rcnn"])
def test_objects_are_printed_drawn_and_written_as_coco(detectors, photos, tmp_path, name):
    figure, file = tmp_path / "new" / "objects.png", tmp_path / "new" / "objects.json"
    arguments = ["predict", detectors[name], photos, "--threshold", "0", "--batch-size", "16"]
    rows = result_of(*arguments, "--figure", figure, "--coco", file)["predictions"]
    assert Image.open(figure).width > 300
    assert [len(row["objects"]) for row in rows] == [4] * 3
    truth = COCO()
    truth.dataset = json.loads(file.read_text())
    truth.createIndex()
    found = truth.loadRes(truth.dataset["annotations"])
    for index, row in enumerate(rows):
        image = open_image(row["file"])
        entries = found.loadAnns(found.getAnnIds(imgIds=[index]))
        assert truth.imgs[index]["file_name"] == row["file"]
        assert [entry["score"] for entry in entries] == [item["score"] for item in row["objects"]]
        for entry, item in zip(entries, row["objects"], strict=True):
            x0, y0, x1, y1 = item["box"]
            assert 0 <= x0 < x1 <= image.width
            assert 0 <= y0 < y1 <= image.height
            assert entry["bbox"] == [x0, y0, x1 - x0, y1 - y0]
            assert truth.cats[entry["category_id"]]["name"] == item["label"]
            assert ("segmentation" in item) == (name == "mask_rcnn")
            if name == "mask_rcnn":
                mask = read_mask(entry["segmentation"], (image.height, image.width))
                assert mask.sum() == mask[int(y0) : math.ceil(y1), int(x0) : math.ceil(x1)].sum()


def test_what_is_found_does_not_depend_on_the_batch(detectors, photos):
    def predictions(size: str):
        options = ["--threshold", "0", "--batch-size", size]
        return result_of("predict", detectors["retina_net"], photos, *options)["predictions"]

    for one, other in zip(predictions("8"), predictions("32"), strict=True):
        assert [item["label"] for item in one["objects"]] == [item["label"] for item in other["objects"]]
        scores = [[item["score"] for item in row["objects"]] for row in (one, other)]
        assert scores[0] == pytest.approx(scores[1], abs=1e-4)


def test_a_table_says_where_nothing_is_found(detectors, photos, capsys):
    code, out, _ = command("predict", detectors["retina_net"], photos / "0.png", "--threshold", "0.999")
    assert code == 0
    assert "nothing" in out
    show({"predictions": [{"file": "a.png", "objects": [{"label": "cat", "score": 0.5}]}]})
    assert "cat 50.0%" in capsys.readouterr().out


def test_options_of_detectors_are_refused_for_others(detectors, photos, tmp_path):
    tiny_model("cct").save_pretrained(tmp_path)
    message = error_of("predict", tmp_path, photos, "--threshold", "0.2")
    assert "--coco and --threshold are for detectors" in message
    assert "must be 0 or more" in error_of("predict", detectors["retina_net"], photos, "--threshold", "1")
    assert "--known is for images" in error_of("predict", detectors["retina_net"], photos, "--known", "a=yes")
