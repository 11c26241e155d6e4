// What every musevae widget shares: elements, bytes, one voice at a time, spectrograms with a playhead.
// Python puts this text before each widget's own file, so that a widget is one module without imports.

/** An element: h("button", {class: "x", onclick: f}, "text", child). Properties with a dash, `class` and `role` are attributes. */
function h(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === null || value === undefined) continue;
    if (key.includes("-") || key === "class" || key === "role" || key === "for") node.setAttribute(key, value);
    else node[key] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/** Bytes of a binary trait (a DataView, or what else a front end makes of it). */
function bytes(view) {
  if (!view) return new Uint8Array(0);
  if (view instanceof Uint8Array) return view;
  if (view.buffer) return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
  return new Uint8Array(view);
}

/** The parts of a packed trait: many byte strings end to end, and where each one ends; null for an empty one. */
function parts(view, ends) {
  const all = bytes(view);
  return ends.map((end, i) => (end > (i ? ends[i - 1] : 0) ? all.subarray(i ? ends[i - 1] : 0, end) : null));
}

/** Float32 numbers of a binary trait. */
const floats = (view) => new Float32Array(bytes(view).slice().buffer);

const clamp = (v, lo, hi) => Math.min(hi, Math.max(lo, v));
const seconds = (t) => `${t.toFixed(1)} s`;
const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;

/** One sound at a time on the page: shared by every widget of every kind, whichever loaded first. */
const stage = (globalThis.musevaeStage ??= {
  context: null,
  owner: null,
  async open() {
    this.context ??= new AudioContext();
    if (this.context.state !== "running") {
      const refused = new Promise((_, no) => setTimeout(() => no(new Error("the browser did not start the sound")), 3000));
      await Promise.race([this.context.resume(), refused]);
    }
    return this.context;
  },
  claim(voice) {
    if (this.owner && this.owner !== voice) this.owner.stop();
    this.owner = voice;
  },
});

const LEAD = 0.02; // s ahead that a change is planned: what sounds until then may be with the loudspeaker already
const FADE = 0.01; // s in which a sound comes or goes

/** How loud a sound is: from where it is to elsewhere in a line, whatever was planned before, so that nothing jumps. */
class Fade {
  constructor(context) {
    Object.assign(this, { node: context.createGain(), from: 0, to: 0, begin: 0, end: 0 });
    this.node.gain.setValueAtTime(0, 0);
  }

  at(t) { return t < this.end ? this.from + (this.to - this.from) * clamp((t - this.begin) / (this.end - this.begin), 0, 1) : this.to; }

  go(to, begin, seconds = FADE) {
    const { gain } = this.node, from = this.at(begin);
    gain.cancelScheduledValues(begin); // the rest of the line that it is on
    gain.linearRampToValueAtTime(from, begin);
    gain.linearRampToValueAtTime(to, begin + seconds);
    Object.assign(this, { from, to, begin, end: begin + seconds });
  }
}

/** A voice plays one or several tracks at one position, one of them audible: a player, an A/B switch, a morph. */
class Voice {
  constructor({ loop = false, onframe = () => {}, onstate = () => {} } = {}) {
    Object.assign(this, { loop, onframe, onstate, tracks: [], active: 0, playing: false, duration: 0, at: 0, turn: 0 });
  }

  /** Give it other tracks (arrays of bytes); they are decoded when first played. */
  load(tracks) {
    if (this.playing) this.stop();
    Object.assign(this, { tracks, decoded: null, active: clamp(this.active, 0, tracks.length - 1), at: 0 });
    return this;
  }

  get position() {
    if (!this.playing) return this.at;
    const t = this.at + Math.max(0, stage.context.currentTime - this.begun);
    return this.loop ? t % this.duration : Math.min(t, this.duration);
  }

  async play(from = this.at) {
    const turn = ++this.turn;
    stage.claim(this);
    const context = await stage.open();
    this.decoded ??= Promise.all(this.tracks.map((mp3) => context.decodeAudioData(mp3.slice().buffer)));
    const buffers = await this.decoded;
    if (turn !== this.turn) return false;
    this.silence();
    this.duration = Math.min(...buffers.map((b) => b.duration));
    this.at = from < this.duration - 0.05 ? Math.max(0, from) : 0;
    this.begun = context.currentTime + LEAD;
    this.lines = buffers.map((buffer, i) => {
      const source = context.createBufferSource(), fade = new Fade(context);
      Object.assign(source, { buffer, loop: this.loop, loopStart: 0, loopEnd: this.duration });
      fade.go(i === this.active ? 1 : 0, this.begun);
      source.connect(fade.node).connect(context.destination);
      source.start(this.begun, this.at);
      return { source, fade };
    });
    this.playing = true;
    this.lines[0].source.onended = () => { if (this.playing && turn === this.turn) this.stop(0); };
    this.onstate(true);
    const tick = () => {
      if (!this.playing || turn !== this.turn) return;
      this.onframe(this.position);
      requestAnimationFrame(tick);
    };
    tick();
    for (let i = 0; context.currentTime <= this.begun && i < 200; i++) await new Promise((ok) => setTimeout(ok, 10));
    if (context.currentTime <= this.begun) throw new Error("the sound device does not run");
    return turn === this.turn;
  }

  /** Switch the audible track without a gap. */
  choose(i) {
    this.active = i;
    if (!this.playing) return;
    const begin = stage.context.currentTime + LEAD;
    this.lines.forEach(({ fade }, k) => fade.go(k === i ? 1 : 0, begin));
  }

  seek(t) {
    this.at = Math.max(0, t);
    if (this.playing) return this.play(this.at);
    this.onframe(this.at);
  }

  silence() {
    const begin = (stage.context?.currentTime ?? 0) + LEAD;
    for (const { source, fade } of this.lines ?? []) {
      source.onended = null;
      fade.go(0, begin);
      source.stop(begin + 2 * FADE);
    }
    this.lines = [];
  }

  /** Stop; stay where it is, or go to `t`. */
  stop(t = this.position) {
    this.turn++;
    this.at = t;
    const was = this.playing;
    this.silence();
    this.playing = false;
    if (was) this.onstate(false);
    this.onframe(this.at);
  }
}

/** Tell `el` (and tests) what was played, or why nothing was. */
async function sound(el, name, promise) {
  try {
    if (await promise) { el.dataset.played = name; delete el.dataset.error; el.querySelector(".mv-alert")?.remove(); }
  } catch (error) {
    el.dataset.error = String(error.message ?? error);
    el.querySelector(".mv-alert")?.remove();
    el.append(h("div", { class: "mv-alert", role: "alert" }, `No sound: ${el.dataset.error}.`));
  }
}

/** Call `draw` when the page turns light or dark, or `el` changes its size; returns a function that ends it. */
function watch(el, redraw) {
  const draw = () => { el.mvColours = null; redraw(); };
  const theme = new MutationObserver(draw), size = new ResizeObserver(draw);
  const attributes = { attributes: true, attributeFilter: ["class", "data-theme", "data-mode", "data-jp-theme-light"] };
  theme.observe(document.documentElement, attributes);
  theme.observe(document.body, attributes);
  size.observe(el);
  const dark = matchMedia("(prefers-color-scheme: dark)");
  dark.addEventListener("change", draw);
  return () => { theme.disconnect(); size.disconnect(); dark.removeEventListener("change", draw); };
}

/** A canvas as sharp as the screen: returns its context, scaled so that one unit is one CSS pixel. */
function sharp(canvas, width, height) {
  const ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(height * ratio);
  }
  const c = canvas.getContext("2d");
  c.setTransform(ratio, 0, 0, ratio, 0, 0);
  c.clearRect(0, 0, width, height);
  return c;
}

/** The theme's colours (--mv-text and so on) as the style sheet settles them, for canvases; `watch` forgets them. */
function colours(el) {
  if (!el.isConnected) return () => "rgb(128 128 128)"; // JupyterLab draws first, then shows: `watch` calls again
  if (!el.mvColours) {
    const probe = el.appendChild(h("i", { hidden: true }));
    const found = ["text", "muted", "paper", "grid", "accent"].map((name) => {
      probe.style.color = `var(--mv-${name})`;
      return [name, getComputedStyle(probe).color];
    });
    probe.remove();
    el.mvColours = Object.fromEntries(found);
  }
  return (name) => el.mvColours[name];
}

const picture = (png) => (png && png.length ? URL.createObjectURL(new Blob([png], { type: "image/png" })) : "");

/**
 * Words on a canvas, none upon another: `put(words, x, y)` draws them where room is left and says whether it did.
 * What stands where is kept as `canvas.mvLabels`: [words, left, top, right, bottom].
 */
function labels(c, canvas, width, height) {
  const taken = (canvas.mvLabels = []);
  return (words, x, y, { paper = null, gap = 3 } = {}) => {
    const m = c.measureText(words);
    const box = [x - m.actualBoundingBoxLeft, y - m.actualBoundingBoxAscent, x + m.actualBoundingBoxRight, y + m.actualBoundingBoxDescent];
    const [left, top, right, bottom] = box;
    if (left < 0 || top < 0 || right > width || bottom > height) return false;
    if (taken.some(([, l, t, r, b]) => left < r + gap && l < right + gap && top < b + gap && t < bottom + gap)) return false;
    if (paper) {
      c.lineWidth = 4; c.strokeStyle = paper; c.lineJoin = "round";
      c.strokeText(words, x, y);
    }
    c.fillText(words, x, y);
    taken.push([words, ...box]);
    return true;
  };
}

/** Of ticks [[text, place in px]], most important first, those that keep `room` px from one another. */
const apart = (ticks, room) => ticks.reduce((kept, tick) =>
  (kept.every(([, at]) => Math.abs(at - tick[1]) >= room) ? [...kept, tick] : kept), []);

/** Positions of round frequencies on the mel axis (Slaney's), 0 at the bottom, 1 at the top. */
function melTicks(top, wanted = [1000, 5000, 200, 2000, 500, 10000]) {
  const mel = (f) => (f < 1000 ? (3 * f) / 200 : 15 + Math.log(f / 1000) / (Math.log(6.4) / 27));
  return wanted.filter((f) => f < top).map((f) => [f >= 1000 ? `${f / 1000}k` : `${f}`, mel(f) / mel(top)]);
}

/**
 * A spectrogram one can play: picture, axes in Hz and s, a playhead, a slider's keyboard.
 * `toggle` and `seek` are the owner's; `show(t)` moves the playhead; `paint(png)` changes the picture.
 */
function spectrogram({ png, label, duration, top, axes = true, toggle, seek, keys = () => false }) {
  let url = picture(png), length = duration, dragging = false;
  const image = h("img", { src: url, alt: `spectrogram of ${label}`, draggable: false });
  const head = h("div", { class: "mv-playhead" });
  const face = h("div", {
    class: "mv-spec", role: "slider", tabIndex: 0, "aria-label": `${label}: position`,
    "aria-valuemin": 0, "aria-valuemax": duration.toFixed(2), "aria-valuenow": 0, "aria-valuetext": seconds(0),
  }, image, head);
  const frame = h("div", { class: axes ? "mv-axes" : "mv-bare" }, face);
  const hz = h("div", { class: "mv-hz", "aria-hidden": "true" }), s = h("div", { class: "mv-s", "aria-hidden": "true" });
  function ticks() { // as many as the width and the height have room for
    const wide = s.clientWidth, tall = face.clientHeight;
    if (!wide || !tall) return;
    const kept = apart([["Hz", tall], ...melTicks(top).map(([text, y]) => [text, y * tall])], 14);
    hz.replaceChildren(...kept.map(([text, y]) => h("i", { style: `bottom:${(100 * y) / tall}%` }, text)));
    const most = Math.min(6, Math.floor(wide / 40)), step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 30].find((d) => duration / d <= most) ?? 60;
    const times = Array.from({ length: Math.floor(duration / step + 1e-6) + 1 }, (_, k) => +(k * step).toFixed(2));
    s.replaceChildren(...times.map((t, k) => h("i", {
      style: `left:${(100 * t) / duration}%`, class: k && k === times.length - 1 ? "mv-last" : "",
    }, k === times.length - 1 ? `${t} s` : `${t}`)));
  }
  const sized = new ResizeObserver(ticks);
  if (axes) {
    frame.append(hz, s);
    sized.observe(face);
  }
  const at = (event) => {
    const box = face.getBoundingClientRect();
    return clamp((event.clientX - box.left) / box.width, 0, 1) * length;
  };
  face.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    dragging = true;
    face.setPointerCapture?.(event.pointerId);
    seek(at(event), true);
  });
  face.addEventListener("pointermove", (event) => { if (dragging) seek(at(event), false); });
  for (const end of ["pointerup", "pointercancel"]) face.addEventListener(end, () => { dragging = false; });
  face.addEventListener("keydown", (event) => {
    const now = +face.getAttribute("aria-valuenow");
    const go = { ArrowLeft: now - 0.25, ArrowDown: now - 0.25, ArrowRight: now + 0.25, ArrowUp: now + 0.25,
      PageDown: now - 1, PageUp: now + 1, Home: 0, End: length - 0.1 }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (keys(event)) { /* the owner's own keys come first */ }
    else if (event.key === " " || event.key === "Enter") toggle();
    else if (go !== undefined) seek(clamp(go, 0, length), false);
    else return;
    event.preventDefault();
  });
  return {
    frame, face, image,
    show(t) {
      head.style.left = `${clamp((100 * t) / length, 0, 100)}%`;
      face.classList.toggle("mv-begun", t > 0);
      face.setAttribute("aria-valuenow", t.toFixed(2));
      face.setAttribute("aria-valuetext", seconds(t));
    },
    paint(other) { const old = url; image.src = url = picture(other); if (old) URL.revokeObjectURL(old); },
    free() { sized.disconnect(); if (url) URL.revokeObjectURL(url); },
  };
}

const PLAY = '<svg viewBox="0 0 16 16" aria-hidden="true"><path class="mv-tri" d="M4.5 2.5v11l9-5.5z"/>' +
  '<path class="mv-bars" d="M4 2.5h3v11H4zM9 2.5h3v11H9z"/></svg>';

/** A round button: play | pause. */
function playButton(label, onclick) {
  const button = h("button", { class: "mv-play", type: "button", "aria-label": `play ${label}`, "aria-pressed": "false", onclick });
  button.innerHTML = PLAY;
  button.show = (on) => {
    button.setAttribute("aria-pressed", String(on));
    button.setAttribute("aria-label", `${on ? "pause" : "play"} ${label}`);
  };
  return button;
}

/** "1.5 / 5.0 s" in a player's corner; a narrow one shows the first half. */
function clock(node, t, duration) {
  node.firstChild ?? node.append(h("span"), h("span", { class: "mv-total" }, ` / ${seconds(duration)}`));
  node.firstChild.textContent = t.toFixed(1);
}

/** Run a widget's `draw(model, el)`; mark the element ready, or say what failed. */
const widget = (draw) => ({
  render({ model, el }) {
    el.classList.add("mv");
    try {
      const end = draw(model, el);
      el.dataset.ready = "1";
      return end;
    } catch (error) {
      el.dataset.error = String(error.message ?? error);
      throw error;
    }
  },
});
