"""Packages come from two folders: `src/`, and `conversion/`, which is imported as `hf_vits.conversion`."""

from setuptools import find_packages, setup

conversion = ["hf_vits.conversion", *(f"hf_vits.conversion.{name}" for name in find_packages("conversion"))]
setup(packages=[*find_packages("src"), *conversion])
