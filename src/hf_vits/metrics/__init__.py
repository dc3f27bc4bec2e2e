"""`evaluate` modules that live in the package: `top_k_accuracy`, `confusion_matrix`, `clustering` and others."""

import uuid
from importlib import resources

import evaluate


def load_metric(name: str) -> evaluate.EvaluationModule:
    """Load the module `name` of this package, without a network; several processes may use it at once.

    Example: `load_metric("top_k_accuracy").compute(predictions=rankings, references=labels, k=(1, 5))`.
    """
    with resources.as_file(resources.files(__name__) / f"{name}.py") as script:
        return evaluate.load(str(script), keep_in_memory=True, experiment_id=uuid.uuid4().hex)
