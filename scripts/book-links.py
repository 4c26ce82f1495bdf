"""Follows every link of a built book; ends with 1 where one leads nowhere."""

import html.parser
import pathlib
import sys
import urllib.parse

book = pathlib.Path(sys.argv[1]).resolve()


class Page(html.parser.HTMLParser):
    def __init__(self, path):
        super().__init__()
        self.ids, self.links = set(), []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        for name, value in attributes:
            if name == "id" and value:
                self.ids.add(value)
            elif name in ("href", "src") and value and tag in ("a", "img"):
                self.links.append(value)


# The page to print holds all others, with their links as they stand there.
pages = {path: Page(path) for path in book.rglob("*.html") if path.name not in ("print.html", "toc.html", "404.html")}
seen, broken = 0, []
for path, page in pages.items():
    for link in page.links:
        target = urllib.parse.urlsplit(link)
        if target.scheme or target.netloc:
            continue
        seen += 1
        file = (path.parent / urllib.parse.unquote(target.path)).resolve() if target.path else path
        anchor = urllib.parse.unquote(target.fragment)
        if not file.is_file():
            broken.append(f"{path.relative_to(book)}: {link}: there is no such page")
        elif anchor and file in pages and anchor not in pages[file].ids:
            broken.append(f"{path.relative_to(book)}: {link}: there is no such heading")
if len(pages) < 20 or seen < 200:
    broken.append(f"only {len(pages)} pages with {seen} links")
if broken:
    sys.exit("\n".join(broken))
