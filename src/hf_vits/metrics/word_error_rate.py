"""Word and character error rates as an `evaluate` module, loaded by its path since loading by name needs a network."""

from collections import Counter

import datasets
import evaluate
from rapidfuzz.distance import Levenshtein

_DESCRIPTION = (
    "Smallest number of words to replace, delete and insert to turn the true texts into the recognised ones, divided "
    "by the number of true words, over all texts together; and the same for characters."
)

_INPUTS = """
Args:
    predictions: recognised texts.
    references: true texts.
Returns:
    word_error_rate and character_error_rate, 0 or more; numbers of substituted, deleted and inserted words; words, the
    number of true words. Words are separated by white space.
"""


@evaluate.utils.file_utils.add_start_docstrings(_DESCRIPTION, _INPUTS)
class WordErrorRate(evaluate.Metric):
    def _info(self):
        features = {"predictions": datasets.Value("string"), "references": datasets.Value("string")}
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(features),
        )

    def _compute(self, predictions, references):
        edits, words, character_edits, characters = Counter(), 0, 0, 0
        for prediction, reference in zip(predictions, references, strict=True):
            true, recognised = reference.split(), prediction.split()
            edits.update(edit.tag for edit in Levenshtein.editops(true, recognised))
            words += len(true)
            character_edits += Levenshtein.distance(" ".join(true), " ".join(recognised))
            characters += len(" ".join(true))
        if not words:
            raise ValueError(f"the {len(references)} references have no words, so there is no error rate")
        return {
            "word_error_rate": edits.total() / words,
            "character_error_rate": character_edits / characters,
            "substitutions": edits["replace"],
            "deletions": edits["delete"],
            "insertions": edits["insert"],
            "words": words,
        }
