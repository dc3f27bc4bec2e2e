"""The 16 categories of the cue conflict images, as classes of ImageNet-1k.

Geirhos et al., arXiv 1811.12231; bethgelab/model-vs-human (helper/human_categories.py).
"""

# Classes and ranges of classes, both ends included.
_MEMBERS = {
    "airplane": "404",
    "bear": "294-297",
    "bicycle": "444 671",
    "bird": "8 10-16 18-20 22-24 80-83 87-96 98-100 127-133 135-145",
    "boat": "472 554 625 814 914",
    "bottle": "440 720 737 898-899 901 907",
    "car": "436 511 817",
    "cat": "281-286",
    "chair": "423 559 765 857",
    "clock": "409 530 892",
    "dog": "152-191 193-203 205-226 228-241 243-250 252-257 259 261-263 265-268",
    "elephant": "385-386",
    "keyboard": "508 878",
    "knife": "499",
    "oven": "766",
    "truck": "555 569 656 675 717 734 864 867",
}


def numbers(ranges: str) -> list[int]:
    """Return the numbers of a text such as "3 7-9", which is [3, 7, 8, 9]."""
    found = []
    for part in ranges.split():
        first, _, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


# {category: its classes}, in alphabetical order.
SHAPE_CATEGORIES = {name: numbers(ranges) for name, ranges in _MEMBERS.items()}
