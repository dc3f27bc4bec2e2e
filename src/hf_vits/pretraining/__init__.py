# Importing this module registers the configurations of this package, which themselves import from it: import it first.
import transformers.models.auto.configuration_auto  # noqa: F401
