// A decoder under the hand: knobs along the main axes of the global code, any clip's rhythm in any clip's colour. The picture follows
// while a knob moves, a grain of the sound with it, the whole window when it is let go. `musevae.widgets.live.Live`
//
// Who computes, and where: computer.js.

const HOWS = [["mean", "mean", "what the decoder says: the mean picture"],
  ["grain", "with grain", "the model’s own noise drawn and added"],
  ["linear", "linear part", "without the filter: the closed form alone"]];
const SIGMAS = 3.5; // either side of a knob, as the histograms

const { checksum } = musevaeEngine();

/** Codes and axes of the widget's clips: what a state means. `musevae.widgets.live.Live.code` does the same. */
class Codes {
  constructor(model) {
    const manifest = model.get("manifest"), { halves } = musevaeEngine(), axes = model.get("axes");
    Object.assign(this, { d: manifest.latent_dim, units: manifest.units, names: model.get("names"), genres: model.get("genres"), axes });
    this.codes = halves(bytes(model.get("codes")));
    if (this.codes.length !== this.names.length * this.d) {
      throw new Error(`codes: expected ${this.names.length} of ${this.d} numbers, got ${this.codes.length} in all; was the page cut?`);
    }
  }

  of(i) { return this.codes.slice(i * this.d, (i + 1) * this.d); }

  /** Where a global code stands along axis j, in σ of the clips. */
  along(g, j) {
    const { direction, middle, sigma } = this.axes[j];
    return (direction.reduce((sum, v, q) => sum + v * g[q], 0) - middle) / sigma;
  }

  /** The code of a state: the rhythm of one clip, a colour between two, knobs moved along the axes. */
  code({ rhythm, colour, towards, share, moves }) {
    const z = this.of(rhythm), a = this.of(colour), b = this.of(towards);
    for (let q = 0; q < this.units; q++) z[q] = a[q] + share * (b[q] - a[q]);
    this.axes.forEach(({ direction, sigma }, j) => { if (moves[j]) direction.forEach((v, q) => { z[q] += moves[j] * sigma * v; }); });
    return z;
  }
}

/** A state as text for an address, and back; null for an address that means nothing here. */
const spell = ({ rhythm, colour, towards, share, how, moves }, fingerprint) =>
  `#z=${[rhythm, colour, towards, Math.round(100 * share)].join(",")};${moves.map((v) => v.toFixed(2)).join(",")};${how}&model=${fingerprint}`;

function read(address, codes, fingerprint) {
  const found = /^#z=(\d+),(\d+),(\d+),(\d+);([-\d.,]*);(\w+)&model=(\w+)$/.exec(address);
  if (!found) return address.startsWith("#z=") ? { fault: `address: expected #z=rhythm,colour,towards,percent;knobs;how&model=…, got ${address}` } : null;
  const [rhythm, colour, towards, percent] = found.slice(1, 5).map(Number), moves = found[5].split(",").map(Number), how = found[6];
  if (found[7] !== fingerprint) return { fault: `address: expected one of this model, ${fingerprint}, got one of another, ${found[7]}` };
  const n = codes.names.length, known = HOWS.some(([name]) => name === how);
  if (Math.max(rhythm, colour, towards) >= n || percent > 100 || moves.length !== codes.axes.length || !moves.every(Number.isFinite) || !known) {
    return { fault: `address: expected clips below ${n}, at most 100 %, ${codes.axes.length} knobs and a known way, got ${address}` };
  }
  return { rhythm, colour, towards, share: percent / 100, how, moves };
}

class LiveView {
  constructor(model, el) {
    const manifest = model.get("manifest"), { spec } = manifest;
    el.mvLive = this; // for whoever wants to ask, tests among them
    Object.assign(this, { model, el, manifest, spec, codes: new Codes(model), version: 0, dragging: false, wanted: false, x: null, y: null, grains: new Grains() });
    Object.assign(this, { rate: spec.sample_rate, duration: spec.samples / spec.sample_rate, times: {}, address: !document.querySelector(".mv-live") });
    const start = model.get("start"), other = (start + (this.codes.names.length >> 1)) % this.codes.names.length; // some other clip to go towards
    this.state = { rhythm: start, colour: start, towards: other, share: 0, how: "mean", moves: this.codes.axes.map(() => 0) };
    const asked = this.address ? read(location.hash, this.codes, manifest.fingerprint) : null;
    if (asked && !asked.fault) this.state = asked;
    this.computer = computer(manifest, bytes(model.get("weights")).slice(), { of: model.get("codes_of") });
    this.voice = new Voice({ loop: true, onframe: (t) => { this.view.show(t); clock(this.time, t, this.duration); },
      onstate: (on) => { this.button.show(on); if (!on && !this.dragging) this.wanted = false; } });
    this.build();
    this.showStored();
    if (asked?.fault) this.say(asked.fault);
    this.computer.ready.then(() => { el.dataset.where = this.computer.where(); this.tell(); this.follow(true); },
      (error) => this.say(this.fault = `nothing is decoded here${this.stored ? ", the stored sound only" : ""}: ${error.message}`));
    this.unwatch = watch(el, () => this.drawHistograms());
  }

  // --- the parts of the page -----------------------------------------------------------------------------------------

  build() {
    const { model, codes } = this, title = model.get("title");
    const toggle = () => (this.voice.playing ? this.voice.stop() : this.play());
    this.button = playButton(title || "what the decoder makes", toggle);
    this.time = h("span", { class: "mv-time" });
    this.canvas = h("canvas", { "aria-hidden": "true" });
    this.view = spectrogram({ png: null, label: title || "what the decoder makes", duration: this.duration, top: this.rate / 2, toggle,
      seek: (t, press) => (this.voice.playing || press ? this.play(t) : this.voice.seek(t)) });
    this.view.image.replaceWith(this.canvas);
    const pick = (name, words) => {
      const box = h("select", { class: "mv-pick" }, ...codes.names.map((clip, i) => h("option", { value: i }, `${codes.genres[i]} · ${clip}`)));
      box.onchange = () => { this.state[name] = +box.value; if (name !== "rhythm") this.state.moves.fill(0); this.show(); this.follow(true); };
      this[`${name}Box`] = box;
      return h("label", {}, h("small", {}, words), box);
    };
    const share = this.slider("share", { min: 0, max: 100, step: 1, label: "share of the other colour, per cent" });
    this.shareBox = share;
    this.knobs = codes.axes.map(({ low, high, name, note }, j) => {
      const words = low ? `${low} ↔ ${high}` : name, slider = this.slider(j, { min: -SIGMAS, max: SIGMAS, step: 0.01, label: `${words}, standard deviations` });
      const value = h("output", {}), hist = h("canvas", { class: "mv-hist", "aria-hidden": "true" });
      return { slider, value, hist, box: h("label", { class: "mv-turn", title: note }, h("span", {}, words, value), hist, slider) };
    });
    const hows = HOWS.map(([how, words, title]) => {
      const button = h("button", { type: "button", class: "mv-switch", title, onclick: () => { this.state.how = how; this.show(); this.follow(true); } }, words);
      button.how = how;
      return button;
    });
    this.hows = hows;
    const small = (words, title, onclick) => h("button", { type: "button", class: "mv-switch", title, onclick }, words);
    this.words = h("div", { class: "mv-state", role: "status" });
    this.python = h("code", { class: "mv-code" });
    this.el.append(h("div", { class: "mv-card mv-live", role: "group", "aria-label": title || "a decoder under the hand" },
      h("div", { class: "mv-bar" }, this.button, title ? h("span", { class: "mv-title" }, title) : null, this.time), this.view.frame,
      h("div", { class: "mv-from" }, pick("rhythm", "rhythm of"), pick("colour", "colour of"), pick("towards", "on the way to the colour of"),
        h("label", {}, h("small", {}, "how far"), share)),
      h("div", { class: "mv-turns" }, ...this.knobs.map(({ box }) => box)),
      h("div", { class: "mv-switches", role: "group", "aria-label": "what is decoded" }, ...hows),
      h("div", { class: "mv-switches" },
        small("swap", "exchange the clips of rhythm and colour", () => {
          const { rhythm, colour } = this.state;
          Object.assign(this.state, { rhythm: colour, colour: rhythm });
          this.state.moves.fill(0);
          this.show(); this.follow(true);
        }),
        small("knobs back", "as the clips are", () => { this.state.moves.fill(0); this.state.share = 0; this.show(); this.follow(true); }),
        small("WAV", "save the sound", () => this.save())),
      h("div", {}, this.python), this.words));
    clock(this.time, 0, this.duration);
    this.show();
  }

  /** A slider that is dragged: the picture follows, a grain sounds; let go, the whole window. */
  slider(which, { min, max, step, label }) {
    const box = h("input", { type: "range", class: "mv-slider", min, max, step, "aria-label": label });
    box.addEventListener("pointerdown", () => { this.dragging = true; this.wanted = this.voice.playing; stage.open().catch(() => {}); });
    box.addEventListener("input", () => {
      if (which === "share") { this.state.share = +box.value / 100; this.state.moves.fill(0); }
      else this.state.moves[which] = +(+box.value - this.rest(which)).toFixed(2);
      this.show(box);
      this.follow(false);
    });
    const released = () => setTimeout(() => { if (this.dragging) { this.dragging = false; this.grains.stop(); this.follow(true); } });
    for (const end of ["pointerup", "pointercancel"]) box.addEventListener(end, released); // pressed and not moved: no change comes
    box.addEventListener("change", () => {
      const dragged = this.dragging;
      this.dragging = false;
      this.show();
      this.follow(true, dragged);
    });
    return box;
  }

  /** Where knob j stands before it is turned: its clips' own place. */
  rest(j) { return this.codes.along(this.codes.code({ ...this.state, moves: this.codes.axes.map(() => 0) }), j); }

  /** All values as the state has them; `held` is the slider that is in hand. */
  show(held = null) {
    const { state } = this;
    for (const name of ["rhythm", "colour", "towards"]) this[`${name}Box`].value = state[name];
    if (held !== this.shareBox) this.shareBox.value = Math.round(100 * state.share);
    this.shareBox.style.setProperty("--mv-at", `${100 * state.share}%`);
    this.knobs.forEach(({ slider, value }, j) => {
      const at = this.rest(j) + state.moves[j];
      if (slider !== held) slider.value = at;
      slider.style.setProperty("--mv-at", `${(100 * clamp(at + SIGMAS, 0, 2 * SIGMAS)) / 2 / SIGMAS}%`);
      slider.setAttribute("aria-valuetext", `${at.toFixed(1)} σ`);
      value.textContent = `${at < 0 ? "−" : "+"}${Math.abs(at).toFixed(1)} σ`;
    });
    this.hows.forEach((button) => button.setAttribute("aria-pressed", String(button.how === state.how)));
    const address = spell(state, this.manifest.fingerprint);
    this.python.textContent = `z = live(load_run(RUN)).code("${address}")`;
    this.el.dataset.state = address;
    if (this.address && !this.dragging && this.settled) {
      try { history.replaceState(null, "", address); } catch { /* some browsers refuse it for files: the line below still has it */ }
    }
    this.settled = true;
    this.drawHistograms();
  }

  drawHistograms() {
    this.knobs.forEach(({ hist }, j) => {
      const width = hist.clientWidth, height = hist.clientHeight;
      if (!width) return;
      const c = sharp(hist, width, height), { counts } = this.codes.axes[j], most = Math.max(...counts), wide = (width - 18) / counts.length;
      c.fillStyle = colours(this.el)("muted");
      c.globalAlpha = 0.35;
      counts.forEach((n, i) => c.fillRect(9 + i * wide, height - ((height - 2) * n) / most, Math.max(1, wide - 1), ((height - 2) * n) / most));
    });
  }

  say(words) {
    this.el.dataset.error = words;
    this.el.querySelector(".mv-alert")?.remove();
    this.el.append(h("div", { class: "mv-alert", role: "alert" }, words));
  }

  tell() {
    const { times } = this, ms = Object.entries(times).map(([kind, t]) => `${kind} ${Math.round(t)} ms`);
    this.words.textContent = [`model ${this.manifest.fingerprint}`, WHERE[this.computer.where()], ...ms].filter(Boolean).join(" · ");
    this.el.dataset.ms = JSON.stringify(times);
  }

  /** Whether the state is the one that a sound and a picture are stored of: the first clip as it is. */
  isStart() {
    const { rhythm, colour, share, how, moves } = this.state, start = this.model.get("start");
    return rhythm === start && colour === start && !share && how === "mean" && moves.every((v) => !v);
  }

  /** The stored picture and sound, until the decoder has made its own. */
  showStored() {
    const file = bytes(this.model.get("sound")), image = this.model.get("image");
    this.stored = file.length ? file : null;
    if (!this.isStart()) return;
    if (this.stored) this.voice.load([this.stored]);
    const shown = new Image(), url = picture(bytes(image));
    shown.onload = () => {
      if (!this.painted) {
        Object.assign(this.canvas, { width: shown.naturalWidth, height: shown.naturalHeight });
        this.canvas.getContext("2d").drawImage(shown, 0, 0);
      }
      URL.revokeObjectURL(url);
    };
    if (url) shown.src = url;
  }

  // --- computing and sounding ----------------------------------------------------------------------------------------

  job() {
    return { version: this.version, z: this.codes.code(this.state), how: this.state.how, seed: 0, at: Math.round((this.voice.position * this.rate) / this.spec.hop) };
  }

  /** The picture of the state as it is now; then a grain while a knob is held, or the whole window. */
  async follow(whole, play = false) {
    this.version++;
    this.y = null;
    const job = this.job();
    this.wanted ||= this.voice.playing || play;
    try {
      const found = await this.computer.run("picture", job);
      if (!found || found.version < (this.painted ?? 0)) return;
      this.painted = found.version;
      paintPicture(this.canvas, found.x, this.spec.n_mels, this.spec.frames);
      this.times.picture = found.ms;
      this.el.dataset.painted = String(found.version);
      this.tell();
      if (this.dragging) return await this.grain(job);
      if (whole && job.version === this.version) await this.window(job);
    } catch (error) {
      this.say(this.fault ?? error.message);
    }
  }

  async grain(job) {
    const found = await this.computer.run("grain", job);
    if (!found || !this.dragging) return;
    this.times.grain = found.ms;
    this.el.dataset.grain = String(found.version);
    this.tell();
    this.grains.play(found.y, this.rate);
  }

  /** The whole window; played if somebody asked for it, be it while it was made. */
  async window(job) {
    const found = await this.computer.run("window", job);
    if (!found || found.version !== this.version) return;
    this.times.window = found.ms;
    this.y = found.y;
    this.el.dataset.window = String(found.version);
    this.tell();
    const at = this.voice.position, { wanted } = this;
    const file = wav(found.y, this.rate);
    this.el.dataset.sound = checksum(file);
    this.voice.load([file]);
    this.voice.at = at;
    if (wanted) await this.play(at);
  }

  /** Play the window, once it is there; until then the stored sound, if it is the one that is asked for. */
  async play(t = this.voice.at) {
    this.wanted = !this.y;
    if (!this.y) {
      this.voice.at = t;
      if (this.stored && this.isStart()) return sound(this.el, "stored", this.voice.play(t)).then(() => { if (this.fault) this.say(this.fault); });
      return stage.open().catch(() => {});
    }
    return sound(this.el, "decoded", this.voice.play(t));
  }

  save() {
    if (!this.y) return;
    const url = URL.createObjectURL(new Blob([wav(this.y, this.rate)], { type: "audio/wav" }));
    h("a", { href: url, download: `musevae-${this.manifest.fingerprint}.wav` }).click();
    setTimeout(() => URL.revokeObjectURL(url), 1000);
  }

  end() {
    this.unwatch();
    this.computer.end();
    this.voice.stop();
    this.grains.stop();
    this.view.free();
  }
}

function draw(model, el) {
  const view = new LiveView(model, el);
  return () => view.end();
}

export default widget(draw);
