// What a widget needs of a decoder in its page: who computes, and what a picture and a sound are to a browser. Of the live decoder and the map.
//
// `musevaeEngine` (decoder.js) computes: in a worker made of its text, or here in slices where a worker is refused.

/** Where it is computed, in words. */
const WHERE = { worker: "decoded here, in a worker of this page", page: "decoded here, on the page itself: no worker was to be had" };

/** The colour map magma at 256 steps, from 17 of them: the one of `spectrogram_png`. */
const MAGMA = (() => {
  const stops = ["000004", "0a0822", "1d1147", "36106b", "51127c", "6a1c81", "832681", "9c2e7f", "b73779", "d0416f", "e75263", "f56b5c", "fc8961",
    "fea772", "fec488", "fde2a3", "fcfdbf"].map((c) => [0, 2, 4].map((at) => parseInt(c.slice(at, at + 2), 16)));
  return Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * 16, k = Math.min(15, Math.floor(at));
    return stops[k].map((v, q) => Math.round(v + (stops[k + 1][q] - v) * (at - k)));
  });
})();

/** Paint a picture (bands × frames) on a canvas, or the first `shown` frames of it: a pixel a number, low bands at the bottom. */
function paintPicture(canvas, x, bands, frames, shown = frames) {
  canvas.width = shown; canvas.height = bands;
  const c = canvas.getContext("2d"), image = c.createImageData(shown, bands);
  for (let f = 0; f < bands; f++) for (let t = 0; t < shown; t++) {
    const [r, g, b] = MAGMA[Math.round(255 * clamp(x[f * frames + t], 0, 1))], at = 4 * ((bands - 1 - f) * shown + t);
    image.data[at] = r; image.data[at + 1] = g; image.data[at + 2] = b; image.data[at + 3] = 255;
  }
  c.putImageData(image, 0, 0);
}

/** A sound as a WAV file of 16 bits. */
function wav(y, rate) {
  const view = new DataView(new ArrayBuffer(44 + 2 * y.length)), text = (at, words) => [...words].forEach((w, i) => view.setUint8(at + i, w.charCodeAt(0)));
  text(0, "RIFF"); text(8, "WAVEfmt "); text(36, "data");
  [[4, 36 + 2 * y.length], [16, 16], [24, rate], [28, 2 * rate], [40, 2 * y.length]].forEach(([at, v]) => view.setUint32(at, v, true));
  [[20, 1], [22, 1], [32, 2], [34, 16]].forEach(([at, v]) => view.setUint16(at, v, true));
  y.forEach((v, i) => view.setInt16(44 + 2 * i, Math.round(32767 * clamp(v, -1, 1)), true));
  return new Uint8Array(view.buffer);
}

/**
 * Who computes. `run(kind, job)` is a promise of {x} or {y, ms}, or of null where something newer was asked; of each kind one job is at work and
 * one waits, the newest. `where()` says "worker" or "page". A decoder of another model than `of`, whose codes it would be given, is refused.
 */
function computer(manifest, weights, { patience = 3000, of = manifest.fingerprint } = {}) {
  const busy = {}, waiting = {}, open = new Map();
  let id = 0, post = null, where = "", worker = null, ended = false;
  const heard = (answer) => {
    if (answer.kind === "ready") return;
    const [done, fail] = open.get(answer.id) ?? [];
    open.delete(answer.id);
    busy[answer.kind] = false;
    if (answer.error) fail?.(new Error(answer.error)); else done?.(answer.y === null ? null : answer);
    const next = waiting[answer.kind];
    delete waiting[answer.kind];
    if (next) send(...next);
  };
  const send = (kind, job, done, fail) => {
    busy[kind] = true;
    open.set(++id, [done, fail]);
    post({ ...job, id, kind });
  };
  const onPage = () => {
    worker?.terminate();
    worker = null;
    const desk = new (musevaeEngine().Desk)(manifest, weights, heard);
    where = "page";
    return (job) => { setTimeout(() => { if (!ended) desk.ask(job); }); };
  };
  const ready = new Promise((settled, refused) => {
    const fall = () => { try { post ??= onPage(); settled(); } catch (error) { refused(error); } };
    if (manifest.fingerprint !== of) return refused(new Error(`decoder: expected that of model ${of}, whose clips these are, got that of ${manifest.fingerprint}`));
    try {
      const text = `${musevaeEngine}\nlet desk;\nonmessage = ({ data }) => {\n  if (data.kind !== "begin") return desk.ask(data);\n`
        + "  try { desk = new (musevaeEngine().Desk)(data.manifest, data.weights, (answer) => postMessage(answer)); postMessage({ kind: \"ready\" }); }\n"
        + "  catch (error) { postMessage({ kind: \"ready\", error: String(error.message ?? error) }); }\n};";
      const url = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
      worker = new Worker(url);
      const timer = setTimeout(fall, patience);
      worker.onerror = (event) => { event.preventDefault?.(); clearTimeout(timer); fall(); };
      worker.onmessage = ({ data }) => {
        if (data.kind !== "ready" || post) return heard(data);
        clearTimeout(timer);
        URL.revokeObjectURL(url);
        if (data.error) return refused(new Error(data.error));
        where = "worker";
        post = (job) => worker.postMessage(job);
        settled();
      };
      worker.postMessage({ kind: "begin", manifest, weights });
    } catch {
      fall();
    }
  });
  return {
    ready, where: () => where,
    run: (kind, job) => ready.then(() => new Promise((done, fail) => {
      waiting[kind]?.[2](null);
      delete waiting[kind];
      if (busy[kind]) waiting[kind] = [kind, job, done, fail]; else send(kind, job, done, fail);
    })),
    end() { ended = true; worker?.terminate(); },
  };
}

const RISE = 0.03; // s in which a grain takes over from the one before

/** Short sounds that follow one another without a click, each looped until the next one. */
class Grains {
  play(y, rate) {
    const { context } = stage;
    if (context?.state !== "running") return;
    stage.claim(this);
    const begin = context.currentTime + LEAD, buffer = context.createBuffer(1, y.length, rate), source = context.createBufferSource(), fade = new Fade(context);
    buffer.copyToChannel(y, 0);
    Object.assign(source, { buffer, loop: true });
    source.connect(fade.node).connect(context.destination);
    this.stop(RISE);
    fade.go(1, begin, RISE);
    source.start(begin);
    this.line = { source, fade };
  }

  stop(seconds = FADE) {
    if (!this.line) return;
    const { source, fade } = this.line, begin = stage.context.currentTime + LEAD;
    fade.go(0, begin, seconds);
    source.stop(begin + 2 * seconds);
    this.line = null;
  }
}
