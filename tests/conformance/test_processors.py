"""transformers' mixin of image processors, on each convention of ours."""

import unittest

from hf_vits.processing.image import VitsImageProcessor

from . import mixins
from .table import IMAGE_PROCESSORS


class ImageProcessingTester(mixins.image_processing.ImageProcessingTester):
    def _get_image_processing_classes(self) -> dict[str, type]:
        return {"torchvision": VitsImageProcessor}


class ImageProcessorTests(mixins.image_processing.ImageProcessingTestMixin):
    """Attributes:
    fields: of the processor, set in each class that is made of an entry of the table.
    """

    fields: dict
    test_cast_dtype = True

    def image_processor_tester_class(self, parent):
        return ImageProcessingTester(parent, **self.fields)


for _name, _fields in IMAGE_PROCESSORS.items():
    _class = f"Test{_name}ImageProcessor"
    globals()[_class] = type(
        _class, (ImageProcessorTests, unittest.TestCase), {"fields": _fields, "__module__": __name__}
    )
