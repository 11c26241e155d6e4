"""The old address of `musevae.corpus.files`, for one release. Written by hand: no notebook exports it."""
from . import moved

_NAMES = """
GENRES AUDIO FAULTS HIDDEN CONTAINERS NOBODY UNRECOGNISED LOWEST_RATE CONVERTIBLE CorpusError AudioError ChangedError
printable Found check_layout find_files label_files read_audio read_tags examine
""".split()

__getattr__ = moved(__name__, dict.fromkeys(_NAMES, "musevae.corpus.files"))
