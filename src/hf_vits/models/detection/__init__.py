"""Detectors over any backbone: RetinaNet, Mask R-CNN and Cascade R-CNN (arXiv 1708.02002, 1703.06870, 1712.00726)."""

from hf_vits.architecture import DETECTION, architecture

BOXES = {"AutoModelForObjectDetection": "ForObjectDetection"}
# The second is the class by which the pipeline loads its models.
MASKS = dict.fromkeys(("AutoModelForInstanceSegmentation", "AutoModelForImageSegmentation"), "ForInstanceSegmentation")

ARCHITECTURES = [
    architecture(__name__, "RetinaNet", BOXES, DETECTION, name="retina_net"),
    architecture(__name__, "MaskRcnn", BOXES | MASKS, DETECTION, name="mask_rcnn"),
]
