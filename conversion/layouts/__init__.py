"""Layouts: how other libraries save the architectures of `systems`. One module per library.

Every module of this folder has a list `LAYOUTS` of `shared.layout.Layout`, each of which recognises its checkpoints by
their keys and renames them to keys that the system's module reads, or to ours.
"""
