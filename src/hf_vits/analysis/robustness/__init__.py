"""How much a classifier withstands: corruptions, occlusion, parts taken out, adversarial and unknown inputs.

`corruptions` and `occlusion` change images, `adversarial` moves them against a model, `interventions` takes parts out
of a model, `scores` measures all of it. The numbers' definitions are `evaluate` modules of `hf_vits.metrics`.
"""
