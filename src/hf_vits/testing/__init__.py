"""Helpers for tests, the demo and the documentation; the library itself does not need them."""
