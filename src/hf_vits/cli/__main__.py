"""`python -m hf_vits.cli` is `hf-vits`."""

import sys

from . import main

sys.exit(main())
