"""Where the tests find what lies beside the package."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
RECIPES = ROOT / "recipes"
CARDS = ROOT / "model_cards"
PARITY_CASES = ROOT / "tests" / "parity_cases"
