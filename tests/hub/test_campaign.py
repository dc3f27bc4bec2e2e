"""Part of the campaign of faults against a second Hub; `make hub-campaign` runs all of it."""

import subprocess
import sys

CASES = 20  # of each operation
OPERATIONS = 5


def test_faults_at_requests_of_pushes_and_pulls():
    command = [sys.executable, "-m", "tests.hub.campaign", f"--cases={CASES}"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert result.stdout.splitlines()[-1:] == [f"cases={OPERATIONS * CASES} bad=0"], result.stdout + result.stderr
