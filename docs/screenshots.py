"""What does a report look like? Two pictures of one, as the guide shows them.

make demo && python -m docs.screenshots
"""

import io
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from experiments.support.cli import launch
from interp.errors import UsageError
from interp.runs import write_atomically

VIEWS: dict[str, tuple[str, dict[str, Any]]] = {
    "report_line": ("L203", {"viewport": {"width": 1400, "height": 820}}),
    "report_map": (
        "the-map-of-the-model",
        {"viewport": {"width": 390, "height": 820}, "color_scheme": "dark"},
    ),
}


@dataclass(frozen=True)
class Config:
    """Pictures of a report."""

    page: Path = Path("runs/report.html")
    """The report."""
    out: Path = Path("docs/figures")
    """Where they are written."""


def main(config: Config) -> None:
    if not config.page.exists():
        raise UsageError(f"there is no {config.page}: make demo first")
    browser_path = shutil.which("chromium")
    if browser_path is None:
        raise UsageError("no chromium is installed: install Debian's package of that name")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=browser_path)
        for name, (place, settings) in VIEWS.items():
            page = browser.new_page(device_scale_factor=1.5, **settings)
            page.goto(f"{config.page.resolve().as_uri()}#{place}")
            page.wait_for_timeout(500)
            colours = Image.open(io.BytesIO(page.screenshot())).convert("RGB").quantize(128)
            content = io.BytesIO()
            colours.save(content, format="png", optimize=True)
            print(write_atomically(config.out / f"{name}.png", content.getvalue()))
        browser.close()


if __name__ == "__main__":
    launch(main, Config)
