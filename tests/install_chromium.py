"""Makes sure that the browser tests have a Chromium, and says what it does.

The quickest is Debian's headless shell, the same browser without windows; it is installed where this runs as root on
Debian. Elsewhere one that is there is taken, or Playwright's own download.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

HEADLESS_SHELL = "chromium-headless-shell"
PACKAGES = [HEADLESS_SHELL, "fonts-noto-cjk", "fonts-noto-color-emoji"]


def find_chromium() -> str | None:
    """The path of a Chromium on this machine, the system's before Playwright's."""
    for name in (HEADLESS_SHELL, "chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).exists() else None


def can_install() -> bool:
    """Whether this runs as root on Debian."""
    try:
        return platform.freedesktop_os_release()["ID"] == "debian" and os.geteuid() == 0
    except OSError:
        return False


def install() -> int:
    """Installs Debian's packages; returns the exit status."""
    print(f"Installing Debian's packages for the browser tests: {' '.join(PACKAGES)}", flush=True)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], check=False)
    return subprocess.run(
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *PACKAGES], env=quiet, check=False
    ).returncode


def main() -> int:
    """Installs what is missing; returns the exit status."""
    if not shutil.which(HEADLESS_SHELL) and can_install():
        install()
    if path := find_chromium():
        print(f"Browser tests use {path}")
        return 0
    print("Downloading Playwright's Chromium for the browser tests", flush=True)
    return subprocess.run([sys.executable, "-m", "playwright", "install", "chromium"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
