"""Draw the pictures of the documentation again, with the commands of `docs/pictures/pictures.yaml`.

    python docs/draw_pictures.py [PICTURE ...]

Runs the commands that draw the PICTUREs (by default all), in a shell, from the repository's root; then writes their
pictures to docs/pictures/, at most 900 pixels wide and cut at the height `crop`. A training run that is finished in
`runs/pictures` is not repeated. The recipes need the Debian package dataset-fashion-mnist.
"""

import argparse
import subprocess
from pathlib import Path

import yaml
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"
WIDTH = 900


def shrink(source: Path, target: Path, crop: int | None = None) -> None:
    """Write the upper `crop` rows of a picture (by default all), at most `WIDTH` wide and in 256 colours."""
    image = Image.open(source).convert("RGB")
    image = image.crop((0, 0, image.width, crop or image.height))
    image.thumbnail((WIDTH, 10 * WIDTH), Image.Resampling.LANCZOS)
    image.quantize(256).save(target, optimize=True)


def main() -> None:
    runs = yaml.safe_load((PICTURES / "pictures.yaml").read_text(encoding="utf-8"))
    names = [name for run in runs for name in run["pictures"]]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pictures", nargs="*", metavar="PICTURE", help=f"of {', '.join(names)}")
    wanted = parser.parse_args().pictures or names
    if unknown := set(wanted) - set(names):
        parser.error(f"unknown pictures {', '.join(unknown)}; there are {', '.join(names)}")
    (ROOT / "runs" / "pictures").mkdir(parents=True, exist_ok=True)
    for run in runs:
        pictures = {name: picture for name, picture in run["pictures"].items() if name in wanted}
        if pictures:
            print(run["command"], flush=True)
            subprocess.run(run["command"], shell=True, check=True, cwd=ROOT)
        for name, picture in pictures.items():
            shrink(sorted(ROOT.glob(picture["from"]))[-1], PICTURES / name, picture.get("crop"))


if __name__ == "__main__":
    main()
