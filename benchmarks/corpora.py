"The two corpora that a measurement is made on, a folder of music and the made one, each divided by clip with several seeds."
from pathlib import Path

from musevae.corpus import load_corpus, split_clips
from musevae.synth import made_corpus
from musevae.windows import mel_windows


def divided(data, seeds):
    "Division by division: the corpus's name (of `data` its folder's, or made), the seed, and the windows with their splits."
    for name, corpus in ((Path(data).name, load_corpus(data, on_fault="ignore")), ("made", made_corpus())):
        for seed in seeds:
            yield name, seed, mel_windows(split_clips(corpus, seed=seed), progress=False)
