"""Training by recipes: `train("recipes/<name>.yaml")`.

On several processes or machines: `accelerate launch -m hf_vits.training recipes/<name>.yaml`.
"""

from .run import train

__all__ = ["train"]
