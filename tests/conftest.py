"""What holds for every test: one torch thread, no Hub but the loopback one, caches that begin empty."""

import atexit
import logging
import os
import shutil
import tempfile

import pytest

# The environment is set before any library that reads it at import is imported.
HOME = tempfile.mkdtemp(prefix="hf-vits-tests-")
atexit.register(shutil.rmtree, HOME, ignore_errors=True)
os.environ |= {
    "HF_HOME": HOME,
    "HF_ENDPOINT": "http://127.0.0.1:1",  # a port where nothing listens
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_TOKEN": "",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
for name in ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_MODULES_CACHE", "HF_EVALUATE_CACHE"):
    os.environ.pop(name, None)  # they follow HF_HOME


def pytest_addoption(parser):
    parser.addoption(
        "--cases", action="append", default=None, metavar="DIR", help="folder of golden cases, repeatable"
    )


def pytest_configure(config):
    config.addinivalue_line("markers", "large: a golden case of more than 60M parameters")


# Deprecations that libraries log of their own calls: (logger, start of the message), with who calls.
FOREIGN_DEPRECATIONS = {
    # transformers' candidate generator, which asks the assistant of assisted generation for tokens
    ("transformers.generation.utils", "Passing `generation_config` together with generation-related arguments"),
}


class DeprecationsRaise(logging.Handler):
    """Raises where a library logs a deprecation, as transformers does with most of its own, in place of a warning."""

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        is_foreign = any(record.name == name and message.startswith(start) for name, start in FOREIGN_DEPRECATIONS)
        if "deprecat" in message.lower() and not is_foreign:
            raise AssertionError(f"{record.name} logs a deprecation: {message}")


for name in ("transformers", "huggingface_hub", "datasets", "accelerate"):
    logging.getLogger(name).addHandler(DeprecationsRaise(level=logging.WARNING))


@pytest.fixture(scope="module")
def mesh():
    """A mesh of this process alone, on which sharded parameters are divided and gathered as on any other."""
    from torch import distributed
    from torch.distributed.device_mesh import init_device_mesh

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    distributed.destroy_process_group()
