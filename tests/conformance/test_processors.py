"""transformers' mixins of image and of video processors, on each convention of ours."""

import unittest

from hf_vits.processing.image import VitsImageProcessor
from hf_vits.processing.video import VitsVideoProcessor

from . import mixins
from .table import IMAGE_PROCESSORS, VIDEO_PROCESSORS


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


class VideoProcessingTester:
    """Answers what the mixin asks; it changes `num_frames` and `num_channels`."""

    batch_size = 3

    def __init__(self):
        self.num_frames, self.num_channels = 4, 3

    def prepare_video_inputs(self, equal_resolution: bool = False, return_tensors: str = "pil") -> list:
        return mixins.video_processing.prepare_video_inputs(
            self.batch_size, self.num_frames, self.num_channels, 24, 50, equal_resolution, return_tensors
        )

    def expected_output_video_shape(self, videos: list) -> list[int]:
        return [self.num_frames, self.num_channels, 18, 18]


class VideoProcessorTests(mixins.video_processing.VideoProcessingTestMixin):
    """Attributes:
    fields: of the processor, set in each class that is made of an entry of the table.
    """

    fields: dict
    test_cast_dtype = True
    fast_video_processing_class = VitsVideoProcessor
    input_name = "pixel_values"

    def setUp(self):
        super().setUp()
        self.video_processor_tester = VideoProcessingTester()

    @property
    def video_processor_dict(self) -> dict:
        size = {"shortest_edge": 20}
        return {"num_frames": 4, "size": size, "crop_size": {"height": 18, "width": 18}} | self.fields


for _name, _fields in VIDEO_PROCESSORS.items():
    _class = f"Test{_name}VideoProcessor"
    globals()[_class] = type(
        _class, (VideoProcessorTests, unittest.TestCase), {"fields": _fields, "__module__": __name__}
    )
