"""Campaigns of odd input: whatever comes in either works or is refused with a clear error. `harness` explains them."""
