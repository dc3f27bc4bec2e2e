"""Run `hf-vits` as `python -m hf_vits.cli`."""

import sys

from . import main

sys.exit(main())
