"""`evaluate` modules of the package: `top_k_accuracy`, `calibration_error`, `corruption_error` and others, by name."""

import uuid
from importlib import resources
from typing import Any


def load_metric(name: str) -> Any:
    """Load the `EvaluationModule` `name` of this package, without a network; several processes may use it at once.

    Example: `load_metric("top_k_accuracy").compute(predictions=rankings, references=labels, k=(1, 5))`.
    """
    import evaluate  # here, since it imports all pipelines of transformers, which the start of a run does not need

    with resources.as_file(resources.files(__name__) / f"{name}.py") as script:
        return evaluate.load(str(script), keep_in_memory=True, experiment_id=uuid.uuid4().hex)
