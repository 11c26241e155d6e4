"""The old address of what `musevae.corpus.files`, `.audio` and `.verdict` hold, for one release. No notebook exports it."""
from . import moved

_FILES = """
GENRES AUDIO FAULTS HIDDEN CONTAINERS NOBODY CorpusError AudioError ChangedError printable Found check_layout find_files
label_files
""".split()
_AUDIO = "UNRECOGNISED LOWEST_RATE CONVERTIBLE read_audio read_tags".split()
_HOMES = dict.fromkeys(_FILES, "musevae.corpus.files") | dict.fromkeys(_AUDIO, "musevae.corpus.audio")

__getattr__ = moved(__name__, _HOMES | dict(examine="musevae.corpus.verdict"))
