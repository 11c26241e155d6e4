"`import musevae`: a docstring, the public names on demand, and nothing heavy before one of them is used."
import importlib
import subprocess
import sys

import pytest

import musevae


def test_the_package_says_what_it_is_and_imports_nothing_heavy():
    code = "import sys, musevae; print(len(musevae.__doc__), sorted({'torch', 'numpy', 'pandas', 'librosa'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(out.split()[0]) > 200 and out.split()[1] == "[]"


@pytest.mark.parametrize("name", sorted(musevae._NAMES))
def test_a_public_name_is_its_module_s(name):
    module = importlib.import_module(musevae._NAMES[name])
    assert getattr(musevae, name) is getattr(module, name)
    assert name in dir(musevae) and name in musevae.__all__


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing"):
        musevae.nothing  # noqa: B018
    with pytest.raises(ImportError):
        from musevae import nothing  # noqa: F401


def test_a_moved_name_is_found_and_its_new_address_told():
    get = musevae.moved("musevae.old", {"home": "musevae.store"})
    with pytest.warns(DeprecationWarning, match="musevae.old.home has moved: from musevae.store import home"):
        assert get("home") is musevae.store.home
    with pytest.raises(AttributeError, match="musevae.old"):
        get("other")


def test_the_library_itself_knows_the_new_addresses():
    code = ("import importlib, warnings; warnings.filterwarnings('error', message='musevae.*has moved'); import musevae; "
            "[importlib.import_module(f'musevae.{name}') for name in sorted(musevae._modules())]")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_type_checkers_find_the_marker():
    from importlib.resources import files

    assert (files("musevae") / "py.typed").is_file()


def test_old_addresses_of_training_answer_and_only_those_that_moved_say_so():
    import warnings

    from musevae import presets, runs, training

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert training.train is runs.train and training.load_run is runs.load_run  # for good
    assert {"train", "load_run"} <= set(training.__all__)
    for name, home in dict(preset=presets, PRESETS=presets, RECIPE=runs).items():
        with pytest.warns(DeprecationWarning, match=f"musevae.training.{name} has moved: from {home.__name__} import {name}$"):
            assert getattr(training, name) is getattr(home, name)
