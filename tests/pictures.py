"""Take the pictures of README and user guide from a running demo (`make up`).

    python -m tests.pictures --url http://127.0.0.1:8000 --user admin --password-file .maxxit/admin-password

Logs in, opens each page at 1440 and 390 pixels and writes the upper part of each to
docs/img/NAME.png and docs/img/NAME-phone.png.
"""

import argparse
import base64
import os
import sys
from pathlib import Path

from tests.browser import Browser, Page, find_program

PAGES = {
    "dashboard": "/",
    "start": "/start",
    "agents": "/agents",
    "activity": "/activity",
    "accounts": "/accounts",
    "performance": "/performance?period=all",
    "wallet": "/wallet",
}
"""Name of the picture -> page. `trade` is the newest trade of the dashboard."""
WIDE, PHONE, HEIGHT, MOST = 1440, 390, 900, 1320
"""Pixels: widths, height of the window, and the most of a page that is shown."""


def log_in(tab: Page, url: str, user: str, password: str) -> None:
    """Log in by the form. Raises SystemExit where name or password are wrong."""
    tab.open(f"{url}/login")
    tab.type("#id_username", user)
    tab.type("#id_password", password)
    tab.following(lambda: tab.press("Enter"))
    if tab.path == "/login":
        raise SystemExit(f"{url}: name or password is wrong, or a second factor is asked for")


def take(tab: Page, url: str, folder: Path) -> list[Path]:
    """Write the picture of each page at both widths; return the files."""
    tab.open(f"{url}/")
    trade = tab.evaluate("document.querySelector('a[href^=\"/trades/\"]')?.getAttribute('href') || ''")
    files = []
    for name, path in (PAGES | ({"trade": trade} if trade else {})).items():
        tab.open(f"{url}{path}")
        for width, end in ((WIDE, ""), (PHONE, "-phone")):
            tab.size(width, HEIGHT)
            file = folder / f"{name}{end}.png"
            height = min(MOST, int(tab.evaluate("document.documentElement.scrollHeight")))
            clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
            shot = tab.call("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)
            file.write_bytes(base64.b64decode(shot["data"]))
            files.append(file)
    return files


def main() -> int:
    """Take the pictures; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--user", default="admin")
    parser.add_argument("--password-file", type=Path, help="else MAXXIT_ADMIN_PASSWORD is read")
    parser.add_argument("--folder", type=Path, default=Path("docs/img"))
    options = parser.parse_args()
    if options.password_file:
        password = options.password_file.read_text().strip()
    else:
        password = os.environ.get("MAXXIT_ADMIN_PASSWORD", "")
    browser = Browser(find_program())
    try:
        tab = Page(browser)
        log_in(tab, options.url.rstrip("/"), options.user, password)
        for file in take(tab, options.url.rstrip("/"), options.folder):
            print(file)
    finally:
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
