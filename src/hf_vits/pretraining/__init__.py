# Importing it registers the configurations of this package, which import from it: it has to be there before them.
import transformers.models.auto.configuration_auto  # noqa: F401
