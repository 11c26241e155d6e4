"""A Chromium for the tests of the built pages: found, or installed where nobody has to be asked.

    python3 tests/chromium.py look    before anything else, with any Python: find it, or have apt-get install it
    python tests/chromium.py          from the project's environment: the same, and Playwright's own download after it

Both end with exit code 0 if there is one; `look` also if Playwright may yet bring it. Else one line says what to do.
"""

import glob
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
APPS = tuple(f"/Applications/{name}.app/Contents/MacOS/{name}" for name in ("Chromium", "Google Chrome"))
ADVICE = "install one (Debian: apt install chromium), or set MUSEVAE_CHROMIUM to its path"


def runs(path):
    "Whether `path` is a browser that starts: Ubuntu's `chromium-browser` may be a script that recommends a snap."
    try:
        return subprocess.run([path, "--version"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def downloads():
    "Where Playwright puts the browsers that it downloads."
    home = Path.home()
    places = {"darwin": home / "Library/Caches/ms-playwright"}
    return Path(os.environ.get("PLAYWRIGHT_BROWSERS_PATH") or places.get(sys.platform, home / ".cache/ms-playwright"))


def find():
    "Path of a Chromium that starts, or None: `$MUSEVAE_CHROMIUM`, the system's own, or one of Playwright's downloads."
    chosen = os.environ.get("MUSEVAE_CHROMIUM")
    if chosen:
        return chosen if runs(chosen) else None
    own = [p for name in ("chrome", "Chromium") for p in glob.glob(f"{downloads()}/chromium-*/**/{name}", recursive=True)]
    candidates = [*filter(None, map(shutil.which, NAMES)), *APPS, *sorted(own, reverse=True)]
    return next(filter(runs, candidates), None)


def superuser():
    "The words before a command that needs root: none for root, `sudo -n` in continuous integration; None if we may not."
    if os.geteuid() == 0:
        return []
    return ["sudo", "-n"] if os.environ.get("CI") and shutil.which("sudo") else None


def say(words):
    print("chromium:", words, file=sys.stderr, flush=True)


def attempt(*command, seconds=600):
    "Run a command; whether it went well. What it says goes to standard error."
    say(" ".join(command))
    try:
        return subprocess.run(command, stdin=subprocess.DEVNULL, stdout=2, timeout=seconds).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def apt():
    "Install Debian's package, if we may."
    root = superuser()
    if root is not None and shutil.which("apt-get"):
        get = [*root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get"]
        attempt(*get, "update", "-qq")  # one dead source among several is no reason to give up
        attempt(*get, "install", "-y", "-qq", "--no-install-recommends", "chromium")


def download():
    "Playwright's own Chromium; with the libraries that it needs, where we may install them."
    may = superuser() is not None and shutil.which("apt-get")
    attempt(sys.executable, "-m", "playwright", "install", *(["--with-deps"] if may else []), "chromium")


def main(words):
    "Find or install; exit code."
    if os.environ.get("MUSEVAE_CHROMIUM") and not find():
        say(f"MUSEVAE_CHROMIUM: expected a browser that starts, got {os.environ['MUSEVAE_CHROMIUM']}")
        return 1
    for install in (apt, *([download] if find_spec("playwright") else [])):
        if not find():
            install()
    path = find()
    if path:
        print(path)
        return 0
    if words == ["look"]:
        say(f"none here yet; Playwright's own is tried when the environment stands. To be sure, {ADVICE}")
        return 0
    say(f"the tests of the pages need one and none could be had: {ADVICE}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
