"What `make test` needs beyond Python is looked for first, brought where nobody has to be asked, else named in one line."

import os
import subprocess
import sys
from pathlib import Path

import chromium
import pytest
from conftest import ROOT

BROWSER = "#!/bin/sh\necho Chromium 1.0\n"
STUB = "#!/bin/sh\necho this is a snap >&2; exit 1\n"


def script(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def bare(tmp_path, monkeypatch):
    "A machine with a shell and no browser: its folder of programs."
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "env", "cat", "chmod", "mkdir"):
        (programs / name).symlink_to(next(p for p in (f"/usr/bin/{name}", f"/bin/{name}") if os.path.exists(p)))
    monkeypatch.setenv("PATH", str(programs))
    monkeypatch.setenv("PLAYWRIGHT_BROWSERS_PATH", str(tmp_path / "downloads"))
    for name in ("CI", "MUSEVAE_CHROMIUM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(chromium, "APPS", ())
    monkeypatch.setattr(chromium, "find_spec", lambda name: None)  # the environment does not stand yet
    return programs


def apt_get(programs, brings=BROWSER):
    "An apt-get that notes what it was asked, and brings a program where it is asked to install one."
    made = f"cat > {programs}/$name <<'END'\n{brings}END\nchmod +x {programs}/$name"
    script(programs / "apt-get", f"#!/bin/sh\necho $* >> {programs}/asked\nfor name; do :; done\n"
                                 f"[ $1 = update ] && exit 100\n{made}\n")


def asked(programs):
    return (programs / "asked").read_text().splitlines() if (programs / "asked").exists() else []


def test_a_browser_that_is_there_is_taken_and_nothing_is_installed(bare, capsys):
    apt_get(bare)
    script(bare / "chromium-browser", BROWSER)
    assert chromium.main(["look"]) == 0 and capsys.readouterr().out.strip() == str(bare / "chromium-browser")
    assert asked(bare) == []


def test_root_has_it_installed(bare, monkeypatch, capsys):
    apt_get(bare)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert chromium.main(["look"]) == 0 and capsys.readouterr().out.strip() == str(bare / "chromium")
    assert [line.split()[0] for line in asked(bare)] == ["update", "install"] and asked(bare)[1].endswith(" chromium")


def test_others_are_not_asked_for_a_password_and_hear_what_to_do(bare, monkeypatch, capsys):
    apt_get(bare)
    script(bare / "sudo", f"#!/bin/sh\necho sudo $* >> {bare}/asked\nshift\nexec \"$@\"\n")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert chromium.main(["look"]) == 0  # Playwright may bring it
    hint = capsys.readouterr().err
    assert chromium.main([]) == 1
    line = capsys.readouterr().err
    for said in (hint, line):
        assert said.count("\n") == 1 and "apt install chromium" in said and "MUSEVAE_CHROMIUM" in said
    assert asked(bare) == []
    monkeypatch.setenv("CI", "true")  # a machine of nobody's: sudo is used, and may not ask
    assert chromium.main([]) == 0 and any(line.startswith("sudo -n") for line in asked(bare))


def test_a_script_that_only_recommends_a_snap_is_no_browser(bare, monkeypatch):
    apt_get(bare, brings=STUB)
    script(bare / "chromium-browser", STUB)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert chromium.find() is None and chromium.main([]) == 1


def test_the_browser_that_was_chosen_has_to_start(bare, monkeypatch, capsys):
    script(bare / "chromium", BROWSER)
    monkeypatch.setenv("MUSEVAE_CHROMIUM", "/nowhere/chrome")
    assert chromium.find() is None and chromium.main(["look"]) == 1
    assert capsys.readouterr().err == "chromium: MUSEVAE_CHROMIUM: expected a browser that starts, got /nowhere/chrome\n"
    monkeypatch.setenv("MUSEVAE_CHROMIUM", str(script(bare / "mine", BROWSER)))
    assert chromium.find() == str(bare / "mine")


def test_playwright_brings_its_own_once_the_environment_stands(bare, tmp_path):
    package = tmp_path / "site" / "playwright"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    where = tmp_path / "downloads" / "chromium-1" / "chrome-linux" / "chrome"
    (package / "__main__.py").write_text(
        f"import pathlib, sys\nassert sys.argv[1:] == ['install', 'chromium'], sys.argv\np = pathlib.Path({str(where)!r})\n"
        f"p.parent.mkdir(parents=True)\np.write_text({BROWSER!r})\np.chmod(0o755)\n")
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run([sys.executable, ROOT / "tests" / "chromium.py"], env=env, capture_output=True, text=True)
    assert (done.returncode, done.stdout.strip()) == (0, str(where)), done.stderr


def test_make_test_looks_before_it_does_anything_else(tmp_path):
    outside = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}  # these tests run inside make, too
    dry = subprocess.run(["make", "-n", "test", f"VENV={tmp_path}/none"], cwd=ROOT, env=outside, capture_output=True, text=True,
                         check=True)
    lines = dry.stdout.splitlines()
    assert lines[0].endswith("tests/chromium.py look")
    at = {word: next(i for i, line in enumerate(lines) if word in line) for word in ("-m venv", "bin/python tests/chromium.py",
                                                                                  "ruff check", "execute.py", "-m pytest")}
    assert list(at.values()) == sorted(at.values())
    assert "chromium" not in Path(ROOT / ".ci" / "run").read_text()  # one list of names, not two
