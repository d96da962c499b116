"""A real Chromium for the tests of the pages: one session a module, offline, from disk."""

from __future__ import annotations

import base64
import json
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-extensions",
    "--mute-audio",
)
WHERE = "apt-get install chromium chromium-driver"


class Chromium:
    """What the tests ask of the browser; `driver` is Selenium's."""

    def __init__(self, driver: Any, downloads: Path) -> None:
        self.driver, self.downloads = driver, downloads
        self.width = 0

    def cdp(self, command: str, **facts: Any) -> Any:
        return self.driver.execute_cdp_cmd(command, facts)

    def resize(self, width: int, height: int = 900) -> None:
        if width != self.width:
            self.cdp(
                "Emulation.setDeviceMetricsOverride",
                width=width,
                height=height,
                deviceScaleFactor=1,
                mobile=width < 500,
            )
            self.width = width

    def media(self, kind: str = "", *, dark: bool = False) -> None:
        """`print`, or the screen; in light or dark mode."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.cdp("Emulation.setEmulatedMedia", media=kind, features=[scheme])

    def scripts(self, on: bool) -> None:
        self.cdp("Emulation.setScriptExecutionDisabled", value=not on)

    def open(self, page: Path, fragment: str = "", width: int = 1440) -> None:
        """Anew, whatever is open: an address that differs in its fragment only would not be loaded."""
        self.resize(width)
        self.driver.get("about:blank")
        self.driver.get(page.as_uri() + (f"#{fragment}" if fragment else ""))

    def js(self, code: str, *arguments: Any) -> Any:
        """What `return …` in `code` gives."""
        return self.driver.execute_script(code, *arguments)

    def wait(self, code: str, seconds: float = 60.0) -> Any:
        """The first true value that `code` returns; other tests may keep every core busy."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, seconds, 0.05).until(lambda driver: driver.execute_script(code), code)

    def find(self, selector: str) -> Any:
        return self.driver.find_element("css selector", selector)

    def complaints(self) -> list[str]:
        """What the console said since the last question."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Addresses that were asked for since the last question; not Chromium's own, for which the page of a new window
        asks late on a busy machine, and a page from a file cannot."""
        out = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                out.append(message["params"]["request"]["url"])
        return [address for address in out if not address.startswith("chrome://")]

    def pdf(self) -> bytes:
        """The page on A4."""
        printed = self.cdp("Page.printToPDF", paperWidth=8.27, paperHeight=11.69, printBackground=False)
        return base64.b64decode(printed["data"])


@contextmanager
def chromium() -> Iterator[Chromium]:
    """A session; skipped, and said so loudly, where there is no browser."""
    binary, server = shutil.which("chromium"), shutil.which("chromedriver")
    if binary is None or server is None:
        absent = "chromium" if binary is None else "chromedriver"
        pytest.skip(f"NOT TESTED IN A BROWSER: {absent} is not on this machine ({WHERE})")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    # Not a fixture's folder: the profile holds sockets, and is of no use afterwards.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        downloads = Path(profile) / "downloads"
        downloads.mkdir()
        options = webdriver.ChromeOptions()
        options.binary_location = binary
        for flag in (*FLAGS, f"--user-data-dir={profile}/profile"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        driver = webdriver.Chrome(options=options, service=Service(server))
        try:
            yield Chromium(driver, downloads)
        finally:
            driver.quit()
