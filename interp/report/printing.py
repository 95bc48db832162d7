"""How does a report become a PDF?

A browser prints the page: the page's own rules for print say where it may break.

    write_pdf(Path("report.pdf"), page)
"""

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from interp.errors import UsageError
from interp.report.page import Page, write_report
from interp.runs import write_atomically

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
LIMIT_S = 120


def write_pdf(path: Path, page: Page) -> Path:
    """Write the page as PDF, all or nothing.

    Raises:
        UsageError: this machine has no Chromium or Chrome, or it cannot print the page.
    """
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise UsageError(
            "a PDF is printed by Chromium or Chrome, and this machine has neither: install one, or "
            "open the HTML report in a browser and print it there"
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write_report(folder / "report.html", page)
        target = folder / "report.pdf"
        command = [
            browser,
            "--headless",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-sync",
            "--no-first-run",
            "--no-pdf-header-footer",
            f"--user-data-dir={folder / 'profile'}",
            f"--print-to-pdf={target}",
        ]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.append("--no-sandbox")  # Chromium's sandbox refuses to run for root
        try:
            done = subprocess.run(
                [*command, source.as_uri()], capture_output=True, text=True, timeout=LIMIT_S
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UsageError(f"{browser} could not print the report: {error}") from error
        if not target.exists():
            said = (done.stderr.strip() or "it says nothing").splitlines()[-1]
            raise UsageError(f"{browser} could not print the report: {said}")
        return write_atomically(path, target.read_bytes())
