"Genres whose true places are known: what distances and probes must find."

import numpy as np


def planted(rng, *, centers, units=6, windows=4, spread=1.0, wobble=0.5):
    """Genres at `centers (g, d)`; clips around each with `spread`, windows around each clip with `wobble`."""
    g, d = centers.shape
    means = centers[:, None] + spread * rng.standard_normal((g, units, d))
    z = means[:, :, None] + wobble * rng.standard_normal((g, units, windows, d))
    genre = np.repeat([f"g{i}" for i in range(g)], units * windows)
    unit = np.repeat([f"u{i}" for i in range(g * units)], windows)
    return z.reshape(-1, d), genre, unit
