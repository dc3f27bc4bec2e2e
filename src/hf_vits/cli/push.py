"""Push the folder of a saved model to the Hub: weights, configuration, processor, card and modelling code.

The repository is created if it does not exist. Files that it has already are not uploaded again, and a push that
fails leaves it unchanged. The token comes from --token, the environment variable HF_TOKEN or `hf auth login`.

  hf-vits push runs/demo_digits user/cct-digits
  hf-vits push cct-cifar10 user/cct-cifar10 --private --revision experiment
"""

import argparse
from typing import Any


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL_DIR", help="folder of a saved model")
    parser.add_argument("repo", metavar="REPO", help="user/name, or name alone for the user of the token")
    parser.add_argument("--private", action="store_true", help="if the repository is new, make it private")
    parser.add_argument("--revision", metavar="BRANCH", help="existing branch to push to (default: main)")
    parser.add_argument("--token", help="access token with write permission")
    parser.add_argument("--message", help="commit message")


def run(args: argparse.Namespace) -> dict[str, Any]:
    from pathlib import Path

    from hf_vits.hub import push_to_hub

    from .models import load_model, load_processor

    if not Path(args.model).is_dir():
        raise FileNotFoundError(f"there is no folder {args.model}")
    card = Path(args.model, "README.md")
    commit = push_to_hub(
        load_model(args.model),
        args.repo,
        load_processor(args.model),
        card=card if card.is_file() else None,
        private=args.private or None,
        token=args.token,
        commit_message=args.message,
        revision=args.revision,
    )
    return {"repository": commit.repo_url.repo_id, "commit": commit.oid, "url": commit.commit_url}


def show(result: dict[str, Any]) -> None:
    from .tables import print_facts

    print_facts(result.items())
