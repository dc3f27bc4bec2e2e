"""Packages come from two folders: `src/`, and `conversion/`, which is imported as `hf_vits.conversion`.

A wheel contains the recipes and the model cards too, which lie beside the sources in a checkout.
"""

import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

# {folder of the checkout: (folder of the package, patterns)}
SHIPPED = {
    "recipes": ("recipes", ("*.yaml", "*.json")),
    "model_cards": ("cards", ("*.md",)),
    "claims": ("claims", ("*.yaml",)),
}


class BuildWithRecipes(build_py):
    """Copies the recipes, cards and claims into a wheel; an editable install finds those of the checkout."""

    def run(self):
        super().run()
        if self.editable_mode:
            return
        for folder, (target, patterns) in SHIPPED.items():
            destination = Path(self.build_lib, "hf_vits", target)
            destination.mkdir(parents=True, exist_ok=True)
            for pattern in patterns:
                for path in Path(folder).glob(pattern):
                    shutil.copyfile(path, destination / path.name)


conversion = ["hf_vits.conversion", *(f"hf_vits.conversion.{name}" for name in find_packages("conversion"))]
setup(packages=[*find_packages("src"), *conversion], cmdclass={"build_py": BuildWithRecipes})
