"""Check claims of papers: train both sides of each with several seeds, and say whether the claim held.

Without --only all claims are checked, one after the other. Finished runs are kept in RESULTS, a JSON file for each
claim, and are not repeated; what was killed goes on when the command is run again. --minutes limits the time: no run
is started that would probably end later. The page of claims in the documentation is drawn from these files.

  hf-vits claims --list
  hf-vits claims --only compact_transformers_200_digits
  hf-vits claims --minutes 60
"""

import argparse
import math
from pathlib import Path
from typing import Any

from .numbers import above_zero


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--only", metavar="NAME", action="append", help="check only this claim; repeatable")
    parser.add_argument("--list", action="store_true", help="list the claims with their verdicts, and run nothing")
    parser.add_argument(
        "--minutes", type=above_zero, default=math.inf, metavar="N", help="time to use (default: as long as it takes)"
    )
    parser.add_argument(
        "--results", type=Path, default=Path("claims/results"), help="folder of the results (default: %(default)s)"
    )
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/claims"), help="folder of the training runs (default: %(default)s)"
    )


def run(args: argparse.Namespace) -> dict[str, Any]:
    from hf_vits.claims.definition import names
    from hf_vits.claims.run import run_claims, standings

    wanted = list(dict.fromkeys(args.only or names()))
    if not args.list:
        run_claims(wanted, args.results, args.runs, args.minutes)
    return {"claims": standings(wanted, args.results)}


def show(result: dict[str, Any]) -> None:
    from .tables import print_table

    rows = [(row["claim"], row["verdict"], row["runs"], row["of"], row["minutes"]) for row in result["claims"]]
    print_table(("claim", "verdict", "runs", "of", "minutes"), rows)
