"""Makes sure that the browser tests have a Chromium, and says what it does.

One that is there is taken; otherwise Debian's package is installed where this runs as root on Debian, and
Playwright's own download anywhere else.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

PACKAGES = ["chromium", "fonts-noto-cjk", "fonts-noto-color-emoji"]


def find_chromium() -> str | None:
    """The path of a Chromium on this machine, the system's before Playwright's."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def main() -> int:
    """Installs Chromium if there is none; returns the exit status."""
    if path := find_chromium():
        print(f"Browser tests use {path}")
        return 0
    if os.name == "posix" and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"Installing Debian's packages for the browser tests: {' '.join(PACKAGES)}", flush=True)
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        return subprocess.run(
            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES], env=quiet, check=False
        ).returncode
    print("Downloading Playwright's Chromium for the browser tests", flush=True)
    return subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
