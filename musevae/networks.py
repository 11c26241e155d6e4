"""The old address of `musevae.vae.networks`, for one release. Written by hand: no notebook exports it."""
from . import moved

_NAMES = "NETWORKS PaperEncoder PaperDecoder TimeBlock TimeEncoder TimeDecoder ImageEncoder ImageDecoder".split()

__getattr__ = moved(__name__, dict.fromkeys(_NAMES, "musevae.vae.networks"))
