"""Sources of recordings: one module each, named as data.source names it.

`load` returns recordings with class labels, `load_texts` recordings with the texts spoken in them; a source has one of
the two or both.
"""
