"""The page of a report: one HTML file with its pictures inside, which loads nothing."""

import base64
import io
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image

MOST_ROWS = 60  # of a table; the CSV has all
COLOURS = 256  # of the pictures inside the page, which halves its size

STYLE = """
:root { --ink: #1f2933; --quiet: #66727f; --line: #e4e8ec; --accent: #2463a6; --back: #fafbfc; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: var(--back); font: 15px/1.55 system-ui, sans-serif; }
.all { display: grid; grid-template-columns: 13.5rem minmax(0, 1fr); max-width: 86rem; margin: 0 auto; }
nav { position: sticky; top: 0; align-self: start; height: 100vh; overflow: auto; padding: 2rem 1rem 2rem 1.5rem; }
nav b { display: block; margin-bottom: .8rem; }
nav a { display: block; padding: .22rem .6rem; margin-left: -.6rem; border-radius: .35rem; color: var(--ink);
  text-decoration: none; }
nav a:hover { background: #eef2f6; }
nav a.here { background: #e6eef7; color: var(--accent); }
nav a.out { color: var(--quiet); }
main { padding: 2rem 1.5rem 5rem; min-width: 0; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 0 0 .2rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .5rem; }
p { margin: .3rem 0 .8rem; max-width: 48rem; }
.quiet, figcaption { color: var(--quiet); }
section { background: white; border: 1px solid var(--line); border-radius: .6rem; padding: 1.4rem 1.6rem;
  margin-top: 1.4rem; scroll-margin-top: 1rem; }
.side { display: grid; gap: 1.2rem; grid-template-columns: repeat(var(--models), minmax(0, 1fr)); align-items: start; }
figure { margin: 0; }
figure[hidden] { display: none; }
figure b { display: block; margin-bottom: .3rem; overflow-wrap: anywhere; }
figure img { max-width: 100%; height: auto; display: block; cursor: zoom-in; border-radius: .2rem; }
figcaption { font-size: .87rem; margin-top: .35rem; max-width: 44rem; }
.choices { display: flex; flex-wrap: wrap; gap: .35rem; margin: .2rem 0 .9rem; }
button { font: inherit; font-size: .87rem; padding: .16rem .65rem; border: 1px solid var(--line); border-radius: 1rem;
  background: white; color: var(--ink); cursor: pointer; }
button:hover { border-color: var(--accent); }
button[aria-pressed=true] { background: var(--accent); border-color: var(--accent); color: white; }
details { margin-top: 1rem; }
summary { cursor: pointer; color: var(--accent); }
.wide { overflow-x: auto; max-height: 26rem; }
table { border-collapse: collapse; font-size: .87rem; margin-top: .5rem; }
th, td { text-align: left; padding: .25rem .9rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { position: sticky; top: 0; background: white; font-weight: 600; }
td.number { font-variant-numeric: tabular-nums; text-align: right; }
dialog { border: 0; padding: .6rem; max-width: 96vw; max-height: 96vh; border-radius: .5rem; }
dialog img { max-width: 92vw; max-height: 90vh; display: block; cursor: zoom-out; }
dialog::backdrop { background: rgb(20 28 38 / .65); }
@media (max-width: 60rem) {
  .all { display: block; }
  nav { position: static; height: auto; padding: 1rem 1.5rem 0; }
  nav a { display: inline-block; margin: 0 .3rem 0 0; }
  .side { grid-template-columns: minmax(0, 1fr); }
}
"""

SCRIPT = """
for (const group of document.querySelectorAll(".group")) {
  const buttons = [...group.querySelectorAll(".choices button")];
  const show = chosen => {
    for (const button of buttons) button.setAttribute("aria-pressed", button === chosen);
    for (const figure of group.querySelectorAll("figure")) {
      figure.hidden = figure.dataset.choice !== chosen.dataset.choice;
    }
  };
  for (const button of buttons) button.addEventListener("click", () => show(button));
  if (buttons.length) show(buttons[0]);
}
const dialog = document.querySelector("dialog");
for (const image of document.querySelectorAll("figure img")) {
  image.addEventListener("click", () => {
    dialog.firstElementChild.src = image.src;
    dialog.firstElementChild.alt = image.alt;
    dialog.showModal();
  });
}
dialog.addEventListener("click", () => dialog.close());
const links = new Map([...document.querySelectorAll("nav a")].map(link => [link.hash.slice(1), link]));
const watcher = new IntersectionObserver(entries => {
  for (const entry of entries) links.get(entry.target.id).classList.toggle("here", entry.isIntersecting);
}, { rootMargin: "-20% 0px -70% 0px" });
for (const section of document.querySelectorAll("section")) watcher.observe(section);
"""


def page(report: dict[str, Any], folder: Path) -> str:
    """Return the page of a report, as report.json has it, whose pictures lie in the folders of its sections."""
    names = [model["name"] for model in report["models"]]
    done = [result for result in report["sections"] if result["status"] == "done"]
    others = [result for result in report["sections"] if result["status"] != "done"]
    links = [f'<a href="#{escape(result["name"])}">{escape(result["title"])}</a>' for result in done]
    if others:
        links.append('<a class="out" href="#left-out">Left out</a>')
    title = " and ".join(names)
    body = [section(result, folder / result["name"], len(names)) for result in done]
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}: what it has learned</title>",
            f'<link rel="icon" href="data:,">\n<style>{STYLE}</style>\n</head>\n<body>\n<div class="all">',
            f"<nav><b>Report</b>{''.join(links)}</nav>\n<main>",
            f'<h1>{escape(title)}</h1>\n<p class="quiet">{escape(images_in_words(report["images"]))}</p>',
            *body,
            left_out(others) if others else "",
            '</main>\n</div>\n<dialog><img src="data:," alt=""></dialog>',
            f"<script>{SCRIPT}</script>\n</body>\n</html>\n",
        ]
    )


def images_in_words(images: dict[str, Any]) -> str:
    """Return one line on the images of a report."""
    count, found = images["used"], images["found"]
    parts = [f"{count:,} image{'s' if count != 1 else ''} of {images['folder']}"]
    if found > count:
        parts.append(f"taken evenly from {found:,}")
    if images["classes"]:
        parts.append(f"{len(images['classes']):,} classes")
    if images["left_out"]:
        parts.append(f"{len(images['left_out']):,} other files left out")
    return ", ".join(parts)


def section(result: dict[str, Any], folder: Path, models: int) -> str:
    """Return the HTML of a section."""
    groups: dict[str, list[dict[str, str]]] = {}
    for picture in result["pictures"]:
        groups.setdefault(picture["group"], []).append(picture)
    notes = [*result["notes"], *(f"{name}: {why}." for name, why in result["left_out"].items())]
    return "\n".join(
        [
            f'<section id="{escape(result["name"])}">',
            f"<h2>{escape(result['title'])}</h2>\n<p>{escape(result['explains'])}</p>",
            *(f'<p class="quiet">{escape(note)}</p>' for note in notes),
            *(
                group(title, pictures, folder, models > 1, len(groups) > 1 or title != result["title"])
                for title, pictures in groups.items()
            ),
            *(table(content, open_=result["name"] == "models") for content in result["tables"]),
            "</section>",
        ]
    )


def group(title: str, pictures: Sequence[dict[str, str]], folder: Path, named: bool, titled: bool) -> str:
    """Return pictures under one title: models side by side, and a button for each choice."""
    choices = list(dict.fromkeys(picture["choice"] for picture in pictures))
    buttons = "".join(
        f'<button type="button" data-choice="{escape(choice)}" aria-pressed="false">{escape(choice)}</button>'
        for choice in choices
        if choice
    )
    columns = len({picture["model"] for picture in pictures})
    figures = "\n".join(figure(picture, folder, named) for picture in pictures)
    return "\n".join(
        [
            '<div class="group">',
            f"<h3>{escape(title)}</h3>" if titled else "",
            f'<div class="choices">{buttons}</div>' if buttons else "",
            f'<div class="side" style="--models: {columns}">\n{figures}\n</div>\n</div>',
        ]
    )


def figure(picture: dict[str, str], folder: Path, named: bool) -> str:
    """Return a picture with its caption."""
    name = f"<b>{escape(picture['model'])}</b>" if named and picture["model"] else ""
    words = [picture["group"], picture["model"], picture["choice"]]
    caption = f"<figcaption>{escape(picture['caption'])}</figcaption>" if picture["caption"] else ""
    source, width, height = embedded(folder / picture["file"])
    return (
        f'<figure data-choice="{escape(picture["choice"])}">{name}<img src="{source}" width="{width}" '
        f'height="{height}" alt="{escape(", ".join(word for word in words if word))}">{caption}</figure>'
    )


def embedded(path: Path) -> tuple[str, int, int]:
    """Return a picture as a data URI, and its width and height in pixels."""
    image = Image.open(path).convert("RGB")
    data = io.BytesIO()
    image.quantize(COLOURS).save(data, format="PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}", image.width, image.height


def table(content: dict[str, Any], open_: bool) -> str:
    """Return a table that opens by a click."""
    rows = content["rows"]
    head = "".join(f"<th>{escape(str(column))}</th>" for column in content["columns"])
    body = "\n".join(f"<tr>{''.join(map(cell, row))}</tr>" for row in rows[:MOST_ROWS])
    more = f'<p class="quiet">The first {MOST_ROWS} of {len(rows):,} rows; the CSV file has all.</p>'
    return (
        f"<details{' open' if open_ else ''}><summary>{escape(content['name'])}</summary>"
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n<tbody>{body}</tbody></table></div>'
        f"{more if len(rows) > MOST_ROWS else ''}</details>"
    )


def cell(value: Any) -> str:
    """Return a cell of a table; numbers are aligned right."""
    if isinstance(value, float):
        return f'<td class="number">{value:.4g}</td>'
    if isinstance(value, int):
        return f'<td class="number">{value:,}</td>'
    return f"<td>{escape('' if value is None else str(value))}</td>"


def left_out(results: Sequence[dict[str, Any]]) -> str:
    """Return the section that says what is left out, and why."""
    rows = "\n".join(
        f"<tr><td>{escape(result['title'])}</td><td>{escape(result['status'])}</td>"
        f"<td>{escape(result['reason'])}</td></tr>"
        for result in results
    )
    return (
        '<section id="left-out">\n<h2>Left out</h2>\n<table>'
        "<thead><tr><th>section</th><th></th><th>why</th></tr></thead>"
        f"\n<tbody>{rows}</tbody></table>\n</section>"
    )
