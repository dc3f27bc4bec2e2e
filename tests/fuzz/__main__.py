"""Command line of the campaigns of odd input: python -m tests.fuzz --help."""

import argparse
import importlib
import sys

from tqdm import tqdm

from tests import conftest  # noqa: F401 - sets the environment, which the workers inherit

from . import harness


def arguments() -> argparse.Namespace:
    names = [campaign.rpartition(".")[2] for campaign in harness.campaigns()]
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Run campaigns of odd input.")
    parser.add_argument("campaign", nargs="*", choices=[[], *names], help=f"of {', '.join(names)}; all if none")
    parser.add_argument("--seed", type=int, nargs="+", default=[0], help="seeds, one after the other (default 0)")
    parser.add_argument("--count", type=int, help="cases of each seed (default: the campaign's LARGE)")
    parser.add_argument("--only", type=int, nargs="+", help="numbers of the cases to run, instead of all")
    parser.add_argument("--seconds", type=float, default=harness.SECONDS, help="CPU time of a case (default 10)")
    parser.add_argument("--workers", type=int, default=harness.WORKERS, help="processes (default 2)")
    parser.add_argument("--refusals", action="store_true", help="print what is refused as well, with its message")
    options = parser.parse_args()
    options.campaign = options.campaign or names
    return options


def main() -> int:
    """Run what the arguments ask for; return 1 if a case was bad."""
    options, is_bad = arguments(), False
    for name in options.campaign:
        campaign = f"{__package__}.{name}"
        count = options.count or importlib.import_module(campaign).LARGE
        for seed in options.seed:
            outcomes = []
            numbers = options.only or list(range(count))
            for outcome in harness.run(campaign, seed, numbers, options.seconds, workers=options.workers):
                outcomes.append(outcome)
                if outcome.result == "bad" or (options.refusals and outcome.result == "refused"):
                    tqdm.write(f"{outcome.result} {name} {seed}/{outcome.number}: {outcome.title}\n{outcome.detail}\n")
                    sys.stdout.flush()
            print(harness.summary(campaign, seed, outcomes), flush=True)
            is_bad |= any(outcome.result == "bad" for outcome in outcomes)
    return int(is_bad)


if __name__ == "__main__":
    sys.exit(main())
