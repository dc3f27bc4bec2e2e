"""What mkdocs calls while it builds the documentation: pages and parts of pages come from code and data."""

import shutil
import tempfile
from pathlib import Path

import render
from mkdocs.plugins import event_priority
from mkdocs.structure.files import File, Files

from hf_vits.claims.page import draw_all

_sources = Path(tempfile.mkdtemp(prefix="hf_vits-docs-"))


@event_priority(100)  # before mkdocstrings reads its options
def on_config(config):
    """Show mkdocstrings one package `hf_vits`, which the repository keeps in two folders; fill in the navigation."""
    package = _sources / "hf_vits"
    package.mkdir(exist_ok=True)
    for path in render.SOURCES["hf_vits"].iterdir():
        _link(package / path.name, path)
    _link(package / "conversion", render.SOURCES["hf_vits.conversion"])
    config.plugins["mkdocstrings"].config.handlers["python"]["paths"] = [str(_sources)]
    generated = {
        "API": [{title: f"api/{room}.md"} for room, (title, _) in render.ROOMS.items()],
        "CARDS": [{path.stem: f"cards/{path.name}"} for path in _cards()],
    }
    _fill_in(config.nav, generated)
    return config


def on_files(files: Files, config) -> Files:
    """Add the pages that are no files of `docs/`."""
    pages = {"api/index.md": render.api_index()}
    pages |= {f"api/{room}.md": render.api_page(room) for room in render.ROOMS}
    pages |= {f"cards/{path.name}": render.relinked(path.read_text(encoding="utf-8"), "../") for path in _cards()}
    for name in ("CONTRIBUTING.md", "CHANGELOG.md"):
        pages[name.lower()] = render.relinked((render.ROOT / name).read_text(encoding="utf-8"), "")
    for path, content in pages.items():
        files.append(File.generated(config, path, content=content))
    pictures = _sources / "claims"
    pictures.mkdir(parents=True, exist_ok=True)
    for path in draw_all(render.ROOT / "claims", pictures):
        files.append(File.generated(config, f"pictures/claims/{path.name}", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, **_) -> str:
    """Fill in what comes from code and data."""
    return render.insert(markdown)


def on_post_build(**_) -> None:
    """Remove the links to the sources."""
    shutil.rmtree(_sources)


def _cards() -> list[Path]:
    return sorted((render.ROOT / "model_cards").glob("*.md"))


def _link(link: Path, target: Path) -> None:
    if not link.exists():
        link.symlink_to(target)


def _fill_in(nav: list, generated: dict[str, list]) -> None:
    """Replace the values of the navigation that `generated` names, in place."""
    for entry in nav:
        for title, value in entry.items():
            if isinstance(value, list):
                _fill_in(value, generated)
            elif value in generated:
                entry[title] = generated[value]
