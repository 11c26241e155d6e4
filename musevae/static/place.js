// Who answers for a place of the map where no clip is: the seam between the map and whatever can decode.
//
// A provider is an object with one function, `place(z, request)`. It returns null if it cannot answer for that place, or a
// promise of an answer; a promise that fails hands the question on to the next provider.
//   z        all coordinates of the place, an array of k numbers
//   request  {axes: [across, up], the plane that is drawn; signal: an AbortSignal, aborted once something else is chosen;
//            model: the map's, with `get` and `set`; early(answer): shows an answer that a better one will follow;
//            dragged: the place is seen already, so nothing less than it is to be shown; found: its code, where it is known: {code, carried, words}}
//   answer   {z: where it really is, sound: bytes of a file that browsers decode, or null; picture: an address for <img>, or "";
//            from: whose it is ("grid", "kernel", "page", …); carried: the name of the clip that is carried to the place, if one is}
// A script of the page that can decode registers itself, and is asked first: `musevaePlaces.push({ place(z, request) { … } })`.

const registered = (globalThis.musevaePlaces ??= []);
const PATIENCE = 4000; // ms until a kernel counts as gone, for a page may be open longer than its notebook; or a worker as refused

/** The stored grid: the nearest cell of its plane. `cells` are {axes, x, y, sounds, images, carried}, row by row; `url(q)` of image q. */
export function storedGrid(cells, url) {
  return {
    place(z, { axes }) {
      if (!isPlaneOf(cells, axes)) return null;
      const q = cellAt(cells, axes.map((j) => z[j]));
      if (!cells.sounds[q] && !cells.images[q]) return null;
      const there = z.map(() => 0);
      axes.forEach((j, i) => { there[j] = cellCentre(cells, q)[i]; });
      return Promise.resolve({ z: there, sound: cells.sounds[q] ?? null, picture: url(q), from: "grid",
        ...(cells.carried ? { carried: cells.carried[q] } : {}) });
    },
  };
}

/** Whether a grid lies in the plane of these axes. */
export const isPlaneOf = ({ axes }, wanted) => Boolean(axes) && axes[0] === wanted[0] && axes[1] === wanted[1];

/** Number of the cell nearest to [x, y]. */
export function cellAt({ x, y }, place) {
  const near = (values, v) => values.reduce((best, w, q) => (Math.abs(w - v) < Math.abs(values[best] - v) ? q : best), 0);
  return near(y, place[1]) * x.length + near(x, place[0]);
}

/** [x, y] in the middle of cell q. */
export const cellCentre = ({ x, y }, q) => [x[q % x.length], y[Math.floor(q / x.length)]];

/** [x, y] of the cell one step (dx, dy) from the one nearest to `place`, within the grid. */
export function cellStep(cells, place, [dx, dy]) {
  const q = cellAt(cells, place), wide = cells.x.length;
  return [cells.x[clamp((q % wide) + dx, 0, wide - 1)], cells.y[clamp(Math.floor(q / wide) + dy, 0, cells.y.length - 1)]];
}

/**
 * The kernel: Python decodes that very place, if it was given a decoder. It answers through `model`, for whoever asked last;
 * what comes after the patience ran out goes to `late(answer)`. `end()` when the map goes.
 */
export function kernel(model, late, patience = PATIENCE) {
  let waiting = null, timer = 0, url = "";
  const heard = () => {
    if (url) URL.revokeObjectURL(url);
    url = picture(bytes(model.get("answer_image")).slice());
    const [i, j, x, y] = model.get("place"), z = Array.from({ length: model.get("components") }, () => 0);
    [z[i], z[j]] = [x, y];
    const answer = { z, sound: bytes(model.get("answer_sound")).slice(), picture: url, from: "kernel",
      ...(model.get("answer_carried") ? { carried: model.get("answer_carried") } : {}) };
    clearTimeout(timer);
    if (waiting) waiting(answer); else late(answer);
    waiting = null;
  };
  model.on("change:answer", heard);
  return {
    place(z, { axes: [i, j] }) {
      if (model.static || !model.get("asks")) return null;
      clearTimeout(timer);
      return new Promise((resolve, reject) => {
        waiting = resolve;
        timer = setTimeout(() => { waiting = null; reject(new Error("no kernel after all")); }, patience);
        model.set("place", [i, j, z[i], z[j]]);
        model.save_changes();
      });
    },
    end() { clearTimeout(timer); model.off("change:answer", heard); if (url) URL.revokeObjectURL(url); },
  };
}

/**
 * The decoder that the map carries, if it does: it answers for every place of every plane, in a worker (computer.js) that begins with the first question.
 * Until its first sound is there, what `stored` has is shown and heard; later a place is silent for the while that its own sound takes. `say(words)` how it
 * goes; once it fails it says why, and is silent.
 */
export function carriedDecoder(model, stored, say) {
  const carried = model.get("decoder");
  if (!carried?.manifest) return null;
  const { manifest, ways, frames, names } = carried, { spec, latent_dim: d, fingerprint } = manifest, canvas = document.createElement("canvas");
  const points = floats(model.get("points")), k = model.get("components"), carries = names.length > 0;
  let at = null, codes = null, failed = false, warm = false, version = 0;
  const begin = () => {
    codes = musevaeEngine().halves(bytes(model.get("decoder_codes")));
    const expected = d * Math.max(1, names.length);
    if (codes.length !== expected) throw new Error(`codes: expected ${expected} numbers, got ${codes.length}; was the page cut?`);
    at = computer(manifest, bytes(model.get("decoder_weights")).slice(), { patience: PATIENCE, of: model.get("codes_of") });
  };
  /** The code at a place, and whose it is that is carried there (−1: nobody's). `musevae.coordinates.MapAxes.places` */
  const code = (z, axes) => {
    if (!codes) begin();
    const way = (i) => axes.map((j) => z[j] - (carries ? points[i * k + j] : 0)), far = (i) => Math.hypot(...way(i));
    const nearest = names.reduce((best, _, i) => (far(i) < far(best) ? i : best), 0), made = codes.slice(nearest * d, (nearest + 1) * d);
    way(nearest).forEach((step, q) => ways[axes[q]].forEach((v, u) => { made[u] += step * v; }));
    return { code: made, carried: carries ? nearest : -1 };
  };
  /** The rhythm of clip i in a colour between those of two clips, and where that stands: axes of a global code are linear in it. */
  const mixture = ({ rhythm, from, to, share }) => {
    if (!codes) begin();
    const mixed = codes.slice(rhythm * d, (rhythm + 1) * d), between = (a, b) => a + share * (b - a);
    for (let u = 0; u < manifest.units; u++) mixed[u] = between(codes[from * d + u], codes[to * d + u]);
    return { code: mixed, carried: rhythm, z: Array.from({ length: k }, (_, j) => between(points[from * k + j], points[to * k + j])) };
  };
  /** The picture of a place, and the job whose sound may follow; null if a newer place was asked. */
  const draw = async (z, axes, known, frame = 0) => {
    const found = known ?? code(z, axes), job = { version: ++version, z: found.code, how: "mean", seed: 0, at: frame, frames };
    const drawn = await at.run("picture", job);
    if (!drawn) return null;
    paintPicture(canvas, drawn.x, spec.n_mels, spec.frames, frames);
    const mine = { z, sound: null, picture: canvas.toDataURL(), from: "page", ...(carries ? { carried: names[found.carried] } : {}), words: found.words };
    return { job, drawn, mine };
  };
  const fail = (error) => {
    failed = true;
    say(`nothing is decoded here, stored answers only: ${error.message}`);
  };
  const answer = async (z, { axes, early, found }) => {
    try {
      const seen = await draw(z, axes, found);
      if (!seen) return null;
      const { job, drawn, mine } = seen;
      if (job.version === version) early(mine);
      const heard = await at.run("window", job);
      warm ||= Boolean(heard);
      if (heard) say(`model ${fingerprint} · ${WHERE[at.where()]} · picture ${Math.round(drawn.ms)} ms · sound ${Math.round(heard.ms)} ms`);
      return heard && { ...mine, sound: wav(heard.y, spec.sample_rate) };
    } catch (error) {
      fail(error);
      throw error;
    }
  };
  /** A place that is passed: its picture to `early`, then a short sound from around `second` to `grain(y, rate)`. The newest place only: nothing queues. */
  const pass = async (z, { axes, second, early, grain, found }) => {
    try {
      const seen = await draw(z, axes, found, Math.min(frames - 1, Math.round((second * spec.sample_rate) / spec.hop)));
      if (!seen) return;
      early(seen.mine);
      const heard = await at.run("grain", seen.job);
      if (heard) grain(heard.y, spec.sample_rate);
    } catch (error) {
      fail(error);
    }
  };
  say(`model ${fingerprint}, whose decoder this page carries`);
  return {
    carries, code, mixture, pass, able: () => !failed, run: (kind, job) => at.run(kind, job),
    place(z, request) {
      if (failed) return null;
      if (!request.dragged && !warm) stored.place(z, request)?.then(request.early);
      return answer(z, request);
    },
    end() { at?.end(); },
  };
}

/** Those who may answer, in order: what the page registered, the decoder that it carries, the kernel, the stored grid. The one place where it is chosen. */
export const providers = (...own) => [...registered, ...own.filter(Boolean)];

/** The first answer for `z`: a promise of it, or of null if all have failed; null if nobody has one for that place. */
export function ask([first, ...others], z, request) {
  if (!first) return null;
  const answer = first.place(z, request);
  return answer ? answer.catch(() => ask(others, z, request)) : ask(others, z, request);
}
