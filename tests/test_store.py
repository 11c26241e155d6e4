"Files are whole or not there, faults name their path, folders are kept to one process."
import errno
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from musevae.store import InUseError, StoreError, building, folder, home, key_of, locked, write_text, writing

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def full():
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class LibraryError(Exception):
    "What a library might raise for a full disk."


@pytest.mark.parametrize("fault", [full(), LibraryError("disk"), KeyboardInterrupt(), ValueError("elsewhere")])
@pytest.mark.parametrize("there", [False, True])
def test_a_fault_leaves_the_old_file_and_no_draft(tmp_path, fault, there):
    path = tmp_path / "x.txt"
    if there:
        path.write_text("old")
    disk = isinstance(fault, (OSError, LibraryError))
    with pytest.raises(StoreError if disk else type(fault)) as caught:
        with writing(path, also=(LibraryError,)) as draft:
            draft.write_text("half")
            raise fault
    assert not disk or str(caught.value).startswith(f"{path}: cannot be written: ")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"] * there


def test_a_fault_of_another_file_stays_what_it_is(tmp_path):
    with pytest.raises(FileNotFoundError):
        with writing(tmp_path / "out") as draft:
            draft.write_text((tmp_path.parent / "no such song").read_text())


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_the_umask_rules_whatever_the_library_does(tmp_path, umask):
    before = os.umask(umask)
    try:
        with writing(tmp_path / "model") as draft:
            draft.write_bytes(b"weights")
            draft.chmod(0o600 if umask != 0o077 else 0o644)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("name", ["[a]*?.txt", "-x", "a\nb", "ü", "x" * 250, "'\"<b>"])
def test_any_name_can_be_written(tmp_path, name):
    write_text(tmp_path / name, "text")
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_drafts_left_by_the_killed_go_after_a_day(tmp_path):
    path = tmp_path / "[x].txt"
    old, new, foreign = (tmp_path / f".{n}.part" for n in ("[x].txt.0123abcd", "[x].txt.4567abcd", "x.txt.0123abcd"))
    for draft in (old, new, foreign):
        draft.touch()
    for draft in (old, foreign):
        os.utime(draft, (0, 0))
    write_text(path, "text")
    assert sorted(p for p in tmp_path.iterdir()) == sorted([path, new, foreign])


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    with pytest.raises(StoreError, match="cache: cannot be written: No space left on device"):
        with building(tmp_path / "cache") as draft:
            (draft / "x").write_text("half")
            raise full()
    assert not list(tmp_path.iterdir())
    with building(tmp_path / "cache") as mine, building(tmp_path / "cache") as other:
        (mine / "x").write_text("mine")
        (other / "x").write_text("the faster one")
    assert [p.name for p in tmp_path.iterdir()] == ["cache"] and (tmp_path / "cache" / "x").read_text() == "the faster one"


def test_a_file_in_the_way_is_named(tmp_path):
    (tmp_path / "x").touch()
    for path in (tmp_path / "x", tmp_path / "x" / "y"):
        with pytest.raises(StoreError, match=f"^{path}: "):
            folder(path)
    with pytest.raises(StoreError, match="^/dev/null/x: "):
        write_text("/dev/null/x", "")


def test_a_lock_keeps_out_this_process_and_others_until_its_holder_dies(tmp_path):
    other = [sys.executable, "-c", f"from musevae.store import locked\nimport time\nwith locked({str(tmp_path)!r}):\n"
             " print('in', flush=True)\n time.sleep(60)"]
    with locked(tmp_path):
        with pytest.raises(InUseError, match=f"^{tmp_path}: "), locked(tmp_path):
            pass
        assert "InUseError" in subprocess.run(other, capture_output=True, text=True).stderr
    holder = subprocess.Popen(other, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "in\n"
    with pytest.raises(InUseError), locked(tmp_path):
        pass
    holder.kill()
    holder.wait()
    with locked(tmp_path):
        pass


@given(VALUES, VALUES)
def test_equal_content_equal_key(a, b):
    import json

    text = [json.dumps(v, sort_keys=True) for v in (a, b)]
    assert (key_of(a) == key_of(b)) == (text[0] == text[1])
    assert key_of(a, b) != key_of(a)


def test_keys_do_not_move():
    "Caches on users' disks are named by it: this is a regression test of a format."
    assert key_of("mel", 128, dict(hop=512, scale=None)) == GOLDEN


def test_home_is_moved_by_the_environment(monkeypatch):
    monkeypatch.setenv("MUSEVAE_HOME", "~/somewhere")
    assert home() == Path.home() / "somewhere"
    monkeypatch.setenv("MUSEVAE_HOME", "")
    assert home() == Path.home() / ".cache" / "musevae"


GOLDEN = "b6717308cfb735e5"
