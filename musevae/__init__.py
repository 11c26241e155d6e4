"""Variational autoencoders for musical spectrograms.

Each module is a chapter of the book: `musevae.corpus`, `.synth`, `.mel`, `.vae`, `.elbo`, `.annealing`, `.training`,
`.latent`, `.reconstruction`, `.vocoder`, `.widgets`, and the command `musevae` (`.cli`). Import what you need from there:

    from musevae.corpus import load_corpus, split_clips
    from musevae.training import load_run, train
"""

__version__ = "0.1.0"
