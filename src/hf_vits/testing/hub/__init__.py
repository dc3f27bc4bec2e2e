"""A Hugging Face Hub on 127.0.0.1: `LoopbackHub`, for tests, the demo and the documentation."""

from .loopback import LoopbackHub

__all__ = ["LoopbackHub"]
