"""Check a built site as a reader without network meets it: `python tools/check_site.py _build/html`.

Every internal link and anchor resolves; no script, style, font, image or frame comes from elsewhere; every
image in the content has an alternative text that is not a file name. Lists each problem and exits with 1 when
there is any. Standard library only.
"""

import re
import sys
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a page loads by itself, as opposed to what a reader may click on.
LOADED = {
    "script": ("src",),
    "img": ("src", "srcset"),
    "iframe": ("src",),
    "embed": ("src",),
    "object": ("data",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
    "audio": ("src",),
    "track": ("src",),
    "image": ("href", "xlink:href"),
    "use": ("href", "xlink:href"),
}
LOADED_RELS = {"stylesheet", "preload", "prefetch", "modulepreload", "preconnect", "dns-prefetch"}
LOADED_RELS |= {"icon", "manifest", "apple-touch-icon"}
FILE_NAME = re.compile(r"(?:.*[/\\])?[^/\\\s]+\.(?:png|jpe?g|gif|svg|webp|pdf|bmp|ipynb)", re.IGNORECASE)
CSS_URL = re.compile(r"""url\(\s*(["']?)(?P<url>[^"')]+)\1\s*\)|@import\s+(["'])(?P<imported>[^"']+)\3""")
SCRIPT_LOADS = re.compile(
    r"""(?:import\s*\(?|\bfrom|\.src\s*=|importScripts\()\s*["'](?P<url>(?:https?:)?//[^"']+)"""
)
CSS_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
VOID_CONTENT = {"script", "style"}


@dataclass
class Page:
    """What one page defines and refers to."""

    anchors: set[str] = field(default_factory=set)
    links: list[str] = field(default_factory=list)
    loads: list[str] = field(default_factory=list)
    images: list[tuple[str, str | None]] = field(default_factory=list)
    styles: list[str] = field(default_factory=list)
    scripts: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.page = Page()
        self._inside: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        page = self.page
        page.anchors |= {
            given[key] for key in ("id", "name") if given.get(key) and (key == "id" or tag == "a")
        }
        if tag in ("a", "area") and given.get("href") is not None:
            page.links.append(given["href"])
        if tag == "link" and given.get("href"):
            rels = set((given.get("rel") or "").lower().split())
            (page.loads if rels & LOADED_RELS else page.links).append(given["href"])
        for key in LOADED.get(tag, ()):
            if value := given.get(key):
                page.loads += [part.split()[0] for part in value.split(",")] if key == "srcset" else [value]
        if tag == "img" and given.get("role") != "presentation":
            page.images.append((given.get("src") or "", given.get("alt")))
        if given.get("style"):
            page.styles.append(given["style"])
        if tag == "meta" and (given.get("http-equiv") or "").lower() == "refresh":
            page.links += re.findall(r"url=['\"]?([^'\"]+)", given.get("content") or "", re.IGNORECASE)
        self._inside = tag if tag in VOID_CONTENT else None

    def handle_endtag(self, tag: str) -> None:
        self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside == "style":
            self.page.styles.append(data)
        elif self._inside == "script":
            self.page.scripts.append(data)


def read_page(html: str) -> Page:
    """The anchors, links, loaded files and images of one page."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return reader.page


def is_external(url: str) -> bool:
    """True for an address on another host; data:, mailto: and relative addresses are not."""
    parts = urlsplit(url.strip())
    return bool(parts.netloc) or parts.scheme in ("http", "https", "ftp")


def _css_urls(css: str) -> list[str]:
    return [match["url"] or match["imported"] for match in CSS_URL.finditer(CSS_COMMENT.sub("", css))]


def _resolve(root: Path, page: Path, url: str) -> tuple[Path, str]:
    """The file that an internal address names, and its fragment; `/x` counts from the site's root."""
    parts = urlsplit(url.strip())
    path = unquote(parts.path)
    if not path:
        target = page
    elif path.startswith("/"):
        target = root / path.lstrip("/")
    else:
        target = page.parent / path
    if path.endswith("/") or target.is_dir():
        target = target / "index.html"
    return target.resolve(), unquote(parts.fragment)


def site_pages(root: Path) -> list[Path]:
    """The pages of a site; the theme leaves templates of its own under `_static`, which nobody opens."""
    return [file for file in sorted(root.rglob("*.html")) if "_static" not in file.relative_to(root).parts]


def check_site(root: Path) -> list[str]:
    """Every problem of the site under `root`, one line each, page by page; empty when it is sound."""
    root = root.resolve()
    files = site_pages(root)
    if not files:
        return [f"{root}: no page here; build the book first"]
    pages = {file: read_page(file.read_text(encoding="utf-8")) for file in files}
    problems = []
    for file, page in pages.items():
        where = file.relative_to(root)
        problems += [f"{where}: {problem}" for problem in _page_problems(root, file, page, pages)]
    for css in sorted(root.rglob("*.css")):
        where = css.relative_to(root)
        problems += [f"{where}: {problem}" for problem in _css_problems(root, css)]
    return problems


def _page_problems(root: Path, file: Path, page: Page, pages: dict[Path, Page]) -> list[str]:
    problems = []
    loads = page.loads + [url for css in page.styles for url in _css_urls(css)]
    loads += [match["url"] for script in page.scripts for match in SCRIPT_LOADS.finditer(script)]
    for url in loads:
        if is_external(url):
            problems.append(f"loads {url} from elsewhere; keep a copy in the site")
        elif problem := _missing(root, file, url, pages):
            problems.append(problem)
    missing = [_missing(root, file, url, pages) for url in page.links if not is_external(url)]
    problems += [problem for problem in missing if problem]
    for src, alt in page.images:
        shown = src if len(src) <= 80 else src[:77] + "..."
        if not (alt or "").strip():
            problems.append(f"image {shown} has no alternative text; say what it shows")
        elif FILE_NAME.fullmatch(alt.strip()):
            problems.append(
                f"image {shown} has a file name as its alternative text ({alt}); say what it shows"
            )
    return list(dict.fromkeys(problems))


def _css_problems(root: Path, css: Path) -> list[str]:
    problems = []
    for url in _css_urls(css.read_text(encoding="utf-8")):
        if is_external(url):
            problems.append(f"loads {url} from elsewhere; keep a copy in the site")
        elif problem := _missing(root, css, url, {}):
            problems.append(problem)
    return list(dict.fromkeys(problems))


def _missing(root: Path, file: Path, url: str, pages: dict[Path, Page]) -> str | None:
    """What is wrong with one internal address, or None."""
    if urlsplit(url.strip()).scheme:  # data:, mailto:, javascript:
        return None
    target, fragment = _resolve(root, file, url)
    if not target.is_file():
        return f"broken link {url}: there is no such file"
    if not target.is_relative_to(root):
        return f"broken link {url}: it leaves the site"
    if fragment and fragment != "top" and target in pages and fragment not in pages[target].anchors:
        return f"broken link {url}: no anchor '{fragment}' in {target.relative_to(root)}"
    return None


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: python tools/check_site.py FOLDER", file=sys.stderr)
        return 2
    root = Path(arguments[0])
    problems = check_site(root)
    for problem in problems:
        print(problem, file=sys.stderr)
    print(
        f"{root}: {len(site_pages(root))} pages, {len(problems)} problem{'' if len(problems) == 1 else 's'}"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
