"""Looks at every page of the built site in a browser, and reports what a reader would stumble over.

    mkdocs build && python tools/check_browser.py site
    python tools/check_browser.py site --screenshots /tmp/shots --pages index.html guides

It opens each page from a server and, the start page and the search, from the folder as well: on a
desktop and on a phone, light and dark. It reports pages wider than the screen, code that scrolls
sideways on a desktop, errors in the console, requests to other hosts, pictures that are broken or
without a text, and words that the search does not find. It needs Playwright and a Chromium:

    pip install playwright && apt-get install chromium
"""

import argparse
import contextlib
import functools
import http.server
import pathlib
import shutil
import sys
import threading

from playwright.sync_api import Error, sync_playwright

SCREENS = {
    "desktop": {"width": 1280, "height": 900},
    "phone": {"width": 390, "height": 844},
}
SCHEMES = ("light", "dark")
# What a reader looks for, and the page that should be among the first to be found.
SEARCHES = {
    "nan": "guides/troubleshooting.html",
    "quantization": "guides/hardware.html",
    "TFLite": "serving.html",
    "license": "license.html",
    "early stopping": "guides/",
    "tensorflow serving": "serving.html",
    "keras tuner": "guides/learning_rate.html",
    "SNU": "reference/layers.html",
    "learning rate": "guides/learning_rate.html",
    "feedback alignment": "guides/feedback_alignment.html",
}
HITS = 3
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
# Run in the page; each returns a list of what is wrong.
WIDER = """() => {
    const root = document.documentElement, extra = root.scrollWidth - root.clientWidth;
    return extra > 0 ? [`page is ${extra} pixels wider than the screen`] : [];
}"""
SCROLLING = """() => [...document.querySelectorAll("pre > code")]
    .map(code => [code.scrollWidth - code.clientWidth, code.textContent.split("\\n")
        .reduce((a, b) => a.length > b.length ? a : b)])
    .filter(([extra]) => extra > 0)
    .map(([extra, line]) => `code is cut by ${extra} pixels: ${line.trim().slice(0, 60)}`)"""
PICTURES = """() => [...document.images].flatMap(image => [
    ...(image.complete && !image.naturalWidth && image.checkVisibility() ? ["is broken"] : []),
    ...(image.hasAttribute("alt") && image.alt.trim() ? [] : ["has no alt text"]),
].map(fault => `picture ${image.getAttribute("src").slice(0, 60)} ${fault}`))"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def served(site):
    """Serves a folder on this machine; gives the address."""
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


class Visitor:
    """A reader with one colour scheme, who notes what goes wrong.

    Args:
        browser: Playwright's browser.
        scheme: String, one of `SCHEMES`.
        address: String, the start of the address of all pages.
    """

    def __init__(self, browser, scheme, address):
        self.scheme = scheme
        self.address = address
        self.faults = []
        self.page = browser.new_page(viewport=SCREENS["desktop"], color_scheme=scheme)
        self.page.on("console", self._note_console)
        self.page.on("pageerror", lambda error: self.faults.append(f"error in a script: {error}"))
        self.page.on("request", self._note_request)
        self.page.on("requestfailed", self._note_failure)
        self.page.on("response", self._note_response)

    def _note_console(self, message):
        if message.type in ("error", "warning"):
            self.faults.append(f"console: {message.text}")

    def _note_request(self, request):
        if not request.url.startswith((self.address, "data:", "blob:", "about:")):
            self.faults.append(f"asks another host: {request.url}")

    def _note_failure(self, request):
        # What the next page interrupts is no fault.
        if request.failure != "net::ERR_ABORTED":
            self.faults.append(f"{request.url} did not load: {request.failure}")

    def _note_response(self, response):
        if response.status >= 400:
            self.faults.append(f"{response.url} answers {response.status}")

    def visit(self, path, screenshots=None):
        """Opens a page, looks at it on each screen, and returns a list of its faults."""
        self.faults = []
        self.page.set_viewport_size(SCREENS["desktop"])
        self.page.goto(self.address + path, wait_until="load")
        for screen, size in SCREENS.items():
            self.page.set_viewport_size(size)
            checks = (WIDER, PICTURES, SCROLLING) if screen == "desktop" else (WIDER,)
            for check in checks:
                self.faults += [f"{fault} ({screen})" for fault in self.page.evaluate(check)]
            if screenshots:
                name = path.replace("/", "-").removesuffix(".html")
                file = screenshots / f"{name}-{screen}-{self.scheme}.png"
                self.page.screenshot(path=file, full_page=True)
        return self.faults

    def search(self, words):
        """Types words into the search; returns the pages that are found, the first ones first."""
        field = self.page.locator("input.md-search__input")
        field.click()
        field.clear()
        field.press_sequentially(words)
        found = self.page.locator("a.md-search-result__link")
        with contextlib.suppress(Error):
            self.page.wait_for_timeout(1000)
            found.first.wait_for(timeout=4000, state="attached")
        links = [link.get_attribute("href").split("?")[0].split("#")[0] for link in found.all()]
        return list(dict.fromkeys(link.removeprefix(self.address) for link in links))


def check_searches(visitor, where):
    """Yields a line for each search that does not find its page."""
    visitor.page.set_viewport_size(SCREENS["desktop"])
    for words, wanted in SEARCHES.items():
        found = visitor.search(words)[:HITS]
        if not any(page.startswith(wanted) for page in found):
            shown = ", ".join(found) or "nothing"
            yield f"{where}: the search for '{words}' finds {shown}, not {wanted}"


def problems(site, paths, screenshots=None):
    """Yields a line for each fault."""
    with sync_playwright() as playwright, served(site) as address:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for scheme in SCHEMES:
            visitor = Visitor(browser, scheme, address)
            for path in paths:
                for fault in visitor.visit(path, screenshots):
                    yield f"{path}, {scheme}: {fault}"
        folder = site.resolve().as_uri() + "/"
        for where, start in (("served", address), ("from the folder", folder)):
            visitor = Visitor(browser, "light", start)
            for fault in visitor.visit("index.html"):
                yield f"index.html, {where}: {fault}"
            yield from check_searches(visitor, where)
        browser.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("site", type=pathlib.Path, help="folder of the built site")
    parser.add_argument(
        "--pages", nargs="+", help="start of the paths to look at; default: all but source/"
    )
    parser.add_argument("--screenshots", type=pathlib.Path, metavar="DIR")
    options = parser.parse_args()
    if not options.site.is_dir():
        parser.error(f"{options.site} is no folder")
    if not CHROMIUM:
        parser.error("there is no chromium on this machine")
    if options.screenshots:
        options.screenshots.mkdir(parents=True, exist_ok=True)
    paths = sorted(
        path.relative_to(options.site).as_posix() for path in options.site.rglob("*.html")
    )
    if options.pages:
        paths = [path for path in paths if path.startswith(tuple(options.pages))]
    else:
        paths = [path for path in paths if not path.startswith("source/")]
    count = 0
    for line in problems(options.site, paths, options.screenshots):
        print(line)
        count += 1
    print(f"{count} problems on {len(paths)} pages")
    sys.exit(bool(count))


if __name__ == "__main__":
    main()
