"""Cards of the architectures, sizes of their published variants, and `generate`, which keeps the cards up to date."""
