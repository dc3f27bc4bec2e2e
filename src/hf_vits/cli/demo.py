"""Show a model in a page in the browser, to be tried on your own images, clips or recordings.

Drop an input to see its classes with their scores. For images and clips the page also draws the attention of each head
and its rollout, for images the regions that resemble a clicked place, there and in a second image; click parts of an
image away and the scores change. What does not fit the model is not there, and a sentence says why.

The page is served on 127.0.0.1 alone until Ctrl-C ends it. Nothing is loaded from or sent to anywhere else. It needs
Gradio, the extra `demo`. `hf-vits push --space` shares the page on the Hub.

  hf-vits demo runs/demo_digits
  hf-vits demo user/vit-photos --port 8000 --open
"""

import argparse
import sys
from typing import Any

# Arguments of Gradio's `launch`: on this machine alone, by Python alone, without links to elsewhere.
LOCAL = {"server_name": "127.0.0.1", "share": False, "ssr_mode": False, "footer_links": [], "quiet": True}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="folder or Hub repository")
    parser.add_argument("--port", type=port, help="default: the first free one from 7860")
    parser.add_argument("--open", action="store_true", help="open the page in the browser")


def port(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"must be from 1 to 65535, got {value}")
    return value


def run(args: argparse.Namespace) -> dict[str, Any]:
    from hf_vits.app import build_demo
    from hf_vits.hub.privacy import public_name

    from .models import load_model, load_processor, on_accelerator

    model, processor = load_model(args.model), load_processor(args.model)
    if processor is None:
        raise FileNotFoundError(f"{args.model} has no processor, so it is not known how inputs are prepared")
    page = build_demo(on_accelerator(model), processor, public_name(args.model))
    _, address, _ = page.launch(**LOCAL, server_port=args.port, inbrowser=args.open, prevent_thread_lock=True)
    print(f"{address} shows {args.model}; Ctrl-C ends it", file=sys.stderr, flush=True)
    page.block_thread()
    return {"model": args.model, "address": address}


def show(result: dict[str, Any]) -> None:
    from .tables import print_facts

    print_facts(result.items())
