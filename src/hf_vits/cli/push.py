"""Push the folder of a saved model to the Hub: weights, configuration, processor, card and modelling code.

The repository is created if it does not exist. Files that it has already are not uploaded again, and a push that
fails leaves it unchanged. The token comes from --token, the environment variable HF_TOKEN or `hf auth login`.

With --space, a Space of the same name is pushed too: the page of `hf-vits demo` for this model. It holds README.md,
app.py and requirements.txt, and loads the model from its repository.

  hf-vits push runs/demo_digits user/cct-digits
  hf-vits push cct-cifar10 user/cct-cifar10 --private --revision experiment
  hf-vits push runs/photos user/cct-photos --space
"""

import argparse
from typing import Any


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL_DIR", help="folder of a saved model")
    parser.add_argument("repo", metavar="REPO", help="user/name, or name alone for the user of the token")
    parser.add_argument("--private", action="store_true", help="if the repository is new, make it private")
    parser.add_argument("--revision", metavar="BRANCH", help="existing branch to push to (default: main)")
    parser.add_argument("--space", action="store_true", help="also push a Space that shows the model")
    parser.add_argument("--token", help="access token with write permission")
    parser.add_argument("--message", help="commit message")


def run(args: argparse.Namespace) -> dict[str, Any]:
    from pathlib import Path

    from hf_vits.hub import push_space, push_to_hub
    from hf_vits.hub.space import space_extras

    from .models import load_model, load_processor

    if not Path(args.model).is_dir():
        raise FileNotFoundError(f"there is no folder {args.model}")
    if args.space and args.revision:
        raise ValueError("--space shows the branch main: leave out --revision, or push the Space with another call")
    card = Path(args.model, "README.md")
    model = load_model(args.model)
    if args.space:
        space_extras(model)  # refuses models that the page does not show, before anything is pushed
    commit = push_to_hub(
        model,
        args.repo,
        load_processor(args.model),
        card=card if card.is_file() else None,
        private=args.private or None,
        token=args.token,
        commit_message=args.message,
        revision=args.revision,
    )
    result = {"repository": commit.repo_url.repo_id, "commit": commit.oid, "url": commit.commit_url}
    if args.space:
        space = push_space(model, commit.repo_url.repo_id, private=args.private or None, token=args.token)
        result["space"] = space.repo_url.url
    return result


def show(result: dict[str, Any]) -> None:
    from .tables import print_facts

    print_facts(result.items())
