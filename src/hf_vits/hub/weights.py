"""A check that saved weights hold every tensor that a model needs."""

from collections.abc import Iterable

MOST_NAMED = 10


def check_complete(source: str, model_class: type, missing: Iterable[str]) -> None:
    """Raise ValueError if tensors are missing: transformers' from_pretrained leaves these random with a warning.

    Args:
        source: folder or repository that the weights come from.
        model_class: the class that they were loaded into.
        missing: names of the tensors that were not found, as in transformers' loading info.
    """
    names = sorted(missing)
    if names:
        more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
        raise ValueError(
            f"the weights of {source} lack {len(names)} tensors of a {model_class.__name__}: "
            f"{', '.join(names[:MOST_NAMED])}{more}; save the whole model, or correct `architectures` in config.json"
        )
