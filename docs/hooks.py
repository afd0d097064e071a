"""MkDocs hooks: notebooks become pages, and a built page that fetches anything from another server ends the build."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from notebook import FOLDER, read, to_markdown

#: Attributes by which a page fetches a file, by tag; an `a` fetches nothing until it is clicked.
FETCHES = {
    "link": ("href",),
    "script": ("src",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "object": ("data",),
    "embed": ("src",),
}


def on_files(files: Files, config: Any) -> Files:
    """Add a page for each notebook; the notebook itself stays, to be downloaded."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        page = to_markdown(read(path), path.name)
        files.append(File.generated(config, f"notebooks/{path.stem}.md", content=page))
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Links to a notebook, which read well in the repository, lead to its page."""
    return re.sub(r"\]\((notebooks/\w+)\.ipynb\)", r"](\1.md)", markdown)


def on_post_build(config: Any) -> None:
    """Look at every page and every style sheet that was written.

    Raises:
        PluginError: one of them would fetch something from elsewhere.
    """
    found = foreign_fetches(Path(config["site_dir"]))
    if found:
        raise PluginError("the site may fetch nothing from elsewhere:\n" + "\n".join(found))


def foreign_fetches(site: Path) -> list[str]:
    """What pages and style sheets of a built site would fetch from another server, a line each."""
    found = []
    for page in sorted(site.rglob("*.html")):
        looker = _Looker()
        looker.feed(page.read_text(encoding="utf-8"))
        found += [f"{page.relative_to(site)}: {line}" for line in looker.found]
    for sheet in sorted(site.rglob("*.css")):
        text = sheet.read_text(encoding="utf-8")
        marks = ("url(http", "url(//", 'url("http', "url('http", '@import"http', '@import "http')
        found += [f"{sheet.relative_to(site)}: {mark}" for mark in marks if mark in text]
    return found


class _Looker(HTMLParser):
    """Collects the tags that fetch from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Look at the attributes that fetch."""
        for name, value in attrs:
            if name in FETCHES.get(tag, ()) and (value or "").strip().lower().startswith(("http:", "https:", "//")):
                self.found.append(f"<{tag} {name}={value}>")
