"""Variational autoencoders for musical spectrograms: a playable book, and the library it is written in.

One chapter is one module; data flows from `corpus` over `mel` and `windows` to `vae`, `training`, `latent`, `reconstruction`
and `vocoder`. The names that most programs need are offered here too, and imported when they are first used:

    import musevae
    run = musevae.train("MUSIC", "runs/first")
    z = musevae.encode_corpus(run.vae, run.windows("test")).mean
"""
TYPE_CHECKING = False  # as type checkers read it; `typing` and `collections` would cost more than all the rest of this file
if TYPE_CHECKING:
    from collections.abc import Callable, Collection

__version__ = "0.1.0"

# This file is written by hand (nbdev keeps only the version in it): every other module is exported from its chapter.
_HOMES = {
    "musevae.corpus": ("load_corpus", "split_clips", "read_audio"),
    "musevae.mel": ("MelSpec",),
    "musevae.vae": ("ConvVAE", "VAEConfig"),
    "musevae.presets": ("preset",),
    "musevae.runs": ("train", "load_run"),
    "musevae.latent": ("encode_corpus", "LatentPCA", "probe", "genre_distances"),
    "musevae.vocoder": ("get_inverter",),
    "musevae.widgets": ("Player", "LatentMap", "Compare", "Morph"),
}
_NAMES = {name: module for module, names in _HOMES.items() for name in names}
__all__ = ["__version__", *_NAMES]


def __getattr__(name: str) -> object:
    "A public name or a module, imported when it is first asked for (PEP 562)."
    from importlib import import_module

    if name in _NAMES:
        value = getattr(import_module(_NAMES[name]), name)
        globals()[name] = value
        return value
    if name in _modules():
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return sorted({*globals(), *__all__, *_modules()})


def _modules():
    "Names of the modules and packages in this folder."
    from pkgutil import iter_modules

    return {found.name for found in iter_modules(__path__) if not found.name.startswith("_")}


def moved(module: str, homes: dict[str, str], silent: "Collection[str]" = ()) -> "Callable[[str], object]":
    """A `__getattr__` for a module whose names have moved: importing by the old address works for one release.

    Args:
        module: the old address, for messages.
        homes: name -> module it is in now; a `DeprecationWarning` states it.
        silent: names that are served for good, without a word.
    """
    def __getattr__(name: str) -> object:
        import warnings
        from importlib import import_module

        if name not in homes:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        if name not in silent:
            warnings.warn(f"{module}.{name} has moved: from {homes[name]} import {name}", DeprecationWarning, stacklevel=2)
        return getattr(import_module(homes[name]), name)

    return __getattr__


def renamed_attributes(owner: type, **names: str) -> None:
    """Old names of attributes and methods answer for one release; a `DeprecationWarning` states the new one.

    Args:
        owner: the class that has them.
        **names: old name = new name.
    """
    def answering(old: str, new: str) -> property:
        def get(self: object) -> object:
            import warnings

            warnings.warn(f"{owner.__name__}.{old} is {owner.__name__}.{new} now", DeprecationWarning, stacklevel=2)
            return getattr(self, new)

        return property(get, doc=f"Deprecated: `{new}`.")

    for old, new in names.items():
        setattr(owner, old, answering(old, new))


def renamed_arguments(owner: type, method: str = "__init__", **names: str) -> None:
    """Old names of a method's arguments answer for one release; a `DeprecationWarning` states the new one.

    Args:
        owner: the class that has the method.
        method: its name.
        **names: old name = new name.
    """
    from functools import wraps

    found = vars(owner)[method]
    function: Callable[..., object] = found.__func__ if isinstance(found, classmethod) else found

    @wraps(function)
    def answering(*args: object, **given: object) -> object:
        import warnings

        for old in names.keys() & given.keys():
            warnings.warn(f"{owner.__name__}: the argument {old} is {names[old]} now", DeprecationWarning, stacklevel=2)
            given[names[old]] = given.pop(old)
        return function(*args, **given)

    setattr(owner, method, classmethod(answering) if isinstance(found, classmethod) else answering)
