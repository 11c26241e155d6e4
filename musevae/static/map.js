// The latent map: a point is a clip; hover to see it, click to hear it, click nowhere to hear the decoder.
// `musevae.widgets.LatentMap`. Here: what is chosen, and what the pointer, the keys and the kernel do with it. What stands
// where, and how it is painted: `plane.js`. Who answers for a place without a clip: `place.js`.

const BLANK = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==";
const REACH = 14, FINGER = 26; // px around a point that belong to it
const NOBODY = "decoded, no clip here";
const SWITCHES = { // key: words, what it does
  ellipses: ["ellipses", "half of each genre’s clips lie inside its ellipse, if they are Gaussian"],
  paths: ["paths", "join the windows of the chosen clip in time"],
  hover: ["hover plays", "play what the pointer passes"],
  mosaic: ["decoder’s view", "what the decoder makes of each part of the plane"],
};

/** What is on the map and never changes, read from the model. */
const clipsOf = (model) => ({
  n: model.get("names").length, k: model.get("components"), data: floats(model.get("points")), names: model.get("names"),
  genres: model.get("genres"), genre: model.get("genre_of"), tracks: model.get("track_of"), arrows: model.get("arrows"),
  markers: model.get("markers"), palette: model.get("colours"),
  sounds: parts(model.get("sounds"), model.get("sounds_end")), soundOf: model.get("sound_of"),
  images: parts(model.get("images"), model.get("images_end")), imageOf: model.get("image_of"),
});

/** The stored grid of decoded places, read from the model; without axes if there is none. */
const gridOf = (model) => ({
  ...model.get("grid"),
  sounds: parts(model.get("grid_sounds"), model.get("grid_sounds_end")),
  images: parts(model.get("grid_images"), model.get("grid_images_end")),
});

/** A clip's name without its window; of use where no two windows are of one clip. */
const clipName = (name) => name.split(" · ")[0];

/** What an answer is called. */
const nameOf = ({ words, carried }) => words ?? (carried ? `${carried}, carried here` : NOBODY);

/** Addresses of pictures, made when first shown: `url(key, png)`. */
function addresses() {
  const made = new Map();
  const url = (key, png) => {
    if (!made.has(key)) made.set(key, picture(png));
    return made.get(key);
  };
  url.free = () => made.forEach((u) => u && URL.revokeObjectURL(u));
  return url;
}

class MapView {
  constructor(model, el) {
    Object.assign(this, { model, el, clips: clipsOf(model), cells: gridOf(model), url: addresses() });
    Object.assign(this, { axes: [...model.get("axes")], shown: new Set(this.clips.genres.keys()), lit: -1, zoom: 1, pan: [0, 0] });
    el.mvMap = this; // for whoever wants to ask, tests among them
    Object.assign(this, { hover: -1, selected: model.get("selected"), place: null, answer: null, asked: null, quiet: false, pulse: 0, drag: null });
    this.flags = { ellipses: true, paths: false, hover: false, mosaic: false };
    Object.assign(this, { frame: 0, stale: true, tiles: new Map(), base: document.createElement("canvas") });
    this.brief = new Set(this.clips.names.map(clipName)).size === this.clips.n ? clipName : (name) => name;
    this.isShown = (i) => this.shown.has(this.clips.genre[i]);
    this.kernel = kernel(model, (answer) => { if (this.selected < 0) this.present(answer); });
    this.grid = storedGrid(this.cells, (q) => this.tileAddress(q));
    this.state = h("div", { class: "mv-note", role: "status" });
    this.decoder = carriedDecoder(model, this.grid, (words) => { this.state.textContent = words; });
    this.grains = this.decoder && new Grains();
    this.pair = this.decoder?.carries ? new Pair(this) : null;
    this.voice = new Voice({ onframe: (t) => this.onFrame(t), onstate: (on) => this.onState(on) });
    this.build();
    this.listen();
    this.dress();
    this.paintNow();
    if (this.selected >= 0) this.choose(this.selected, false);
  }

  // --- the parts of the page -----------------------------------------------------------------------------------------

  build() {
    const { model, clips } = this, title = model.get("title");
    this.canvas = h("canvas", { class: "mv-canvas", tabIndex: 0, role: "application", "aria-roledescription": "latent map",
      "aria-label": `${title || "latent map"}: ${clips.n} clips of ${clips.genres.length} genres. ` +
        "Arrow keys go from clip to clip, Enter plays." });
    this.tip = h("div", { class: "mv-tip", hidden: true });
    this.live = h("div", { class: "mv-unseen", role: "status", "aria-live": "polite" });
    this.note = h("div", { class: "mv-note" });
    this.axesNote = h("details", { class: "mv-axes-note" }, h("summary", {}, "what the axes are"), this.note);
    this.el.append(h("div", { class: `mv-card mv-map${this.decoder ? " mv-decodes" : ""}` },
      h("div", { class: "mv-bar mv-tools" }, title ? h("span", { class: "mv-title" }, title) : null,
        h("span", { class: "mv-axes-choice" }, this.axisChoice(0, "horizontal axis"), this.axisChoice(1, "vertical axis")),
        h("span", { class: "mv-switches" }, ...this.switches())),
      h("div", { class: "mv-body" }, h("div", { class: "mv-plot" }, this.canvas, this.zoomButtons(), this.tip), this.sidePanel()),
      this.axesNote, this.decoder ? this.state : null, this.legend(), this.live));
    this.invite();
    this.annotate();
  }

  plainName(j) { return this.model.get("axis_names")[j] ?? `component ${j + 1}`; }

  axisName(j) {
    const explained = this.model.get("explained"), ends = this.axisEnds(j);
    return (ends ? ends.join(" ← → ") : this.plainName(j)) + (explained.length > j ? ` · ${(100 * explained[j]).toFixed(1)} %` : "");
  }

  /** Words for the low and the high end of an axis; null where it has none. */
  axisEnds(j) {
    const ends = this.model.get("axis_ends")?.[j];
    return ends?.[0] ? ends : null;
  }

  /** Where the words on the two axes come from. */
  annotate() {
    const notes = this.model.get("notes") ?? [], drawn = this.axes.map((j, q) => notes[j] && `${"→↑"[q]} ${this.axisName(j)}: ${notes[j]}.`);
    this.note.replaceChildren(...drawn.filter(Boolean).map((words) => h("span", {}, words)));
    this.axesNote.hidden = !drawn.some(Boolean);
  }

  axisChoice(which, words) {
    const box = h("select", { class: "mv-select", "aria-label": words },
      ...Array.from({ length: this.clips.k }, (_, j) => h("option", { value: j, textContent: this.axisName(j) })));
    box.value = this.axes[which];
    box.onchange = () => {
      this.axes[which] = +box.value;
      this.place = null;
      this.tell({ axes: [...this.axes] });
      this.annotate();
      this.reset();
    };
    return h("label", { class: "mv-axis" }, which ? "↑" : "→", box);
  }

  switches() {
    const { clips, cells } = this;
    const useful = { ellipses: true, paths: clips.tracks.length > 0, hover: clips.sounds.length > 0, mosaic: cells.images.some(Boolean) };
    return Object.entries(SWITCHES).filter(([key]) => useful[key]).map(([key, [words, title]]) => {
      const button = h("button", { type: "button", class: "mv-switch", title, "aria-pressed": String(this.flags[key]) }, words);
      button.onclick = () => {
        this.flags[key] = !this.flags[key];
        button.setAttribute("aria-pressed", String(this.flags[key]));
        if (key === "hover") stage.open().catch(() => {}); // a press may start sound, passing over a point may not
        this.paint();
      };
      return button;
    });
  }

  zoomButtons() {
    const buttons = [["−", "zoom out", () => this.rescale(1 / 1.5)], ["+", "zoom in", () => this.rescale(1.5)], ["⟲", "whole map", () => this.reset()]];
    return h("span", { class: "mv-zoom" }, ...buttons.map(([sign, words, onclick]) =>
      h("button", { type: "button", class: "mv-switch mv-square", "aria-label": words, title: words, onclick }, sign)));
  }

  legend() {
    const { clips, shown } = this;
    this.entries = clips.genres.map((name, g) => {
      const icon = h("canvas", { width: 32, height: 32, class: "mv-icon", "aria-hidden": "true" });
      const button = h("button", { type: "button", class: "mv-genre", "aria-pressed": "true",
        title: "click: hide or show; double click: only this one" },
      icon, name, h("small", {}, String(clips.genre.filter((v) => v === g).length)));
      button.icon = icon;
      button.onclick = () => { if (shown.has(g)) shown.delete(g); else shown.add(g); this.onLegend(); };
      button.ondblclick = () => {
        const only = shown.size === 1 && shown.has(g);
        shown.clear();
        for (const q of clips.genres.keys()) if (only || q === g) shown.add(q);
        this.onLegend();
      };
      for (const [type, value] of [["pointerenter", g], ["pointerleave", -1], ["focus", g], ["blur", -1]]) {
        button.addEventListener(type, () => { this.lit = value; this.paint(); });
      }
      return button;
    });
    return h("div", { class: "mv-legend", role: "group", "aria-label": "genres: press to hide or show" }, ...this.entries);
  }

  onLegend() {
    this.entries.forEach((b, g) => b.setAttribute("aria-pressed", String(this.shown.has(g))));
    if (this.hover >= 0 && !this.isShown(this.hover)) this.hover = -1;
    this.paint();
  }

  sidePanel() {
    Object.assign(this, { sideImage: h("img", { alt: "", class: "mv-shot" }), sideHead: h("div", { class: "mv-playhead" }),
      sideName: h("b", {}), sideGenre: h("span", { class: "mv-kind" }), sideNear: h("div", { class: "mv-near" }) });
    this.button = playButton("the chosen clip", () => (this.voice.playing ? this.hush() : this.again()));
    this.shot = h("div", { class: "mv-shotbox mv-empty" }, this.sideImage, this.sideHead);
    this.side = h("div", { class: "mv-side" }, this.shot,
      h("div", { class: "mv-bar" }, this.button, h("div", { class: "mv-what" }, this.sideName, this.sideGenre)), this.pair?.box ?? "", this.sideNear);
    return this.side;
  }

  /** Until a clip is chosen: the one nearest to the middle that has a picture, and what one may do. */
  invite() {
    const { clips, axes } = this, fromMiddle = (i) => Math.hypot(...onAxes(clips, i, axes));
    const stored = this.cells.sounds.length > 0, speaks = stored || this.decoder;
    this.example = clips.imageOf.reduce((best, image, i) => (image >= 0 && fromMiddle(i) < fromMiddle(best) ? i : best), 0);
    this.sideName.textContent = clips.names[this.example];
    this.sideGenre.textContent = clips.genres[clips.genre[this.example]];
    this.sideNear.append(
      h("span", {}, `Click a point to ${clips.sounds.length ? "hear" : "see"} it` +
        (!speaks ? "." : this.cells.carried || this.decoder?.carries ? ", an empty place to hear the nearest one carried there."
          : ", an empty place to hear what the decoder makes of it.")),
      this.decoder ? h("span", {}, "Drag from an empty place: picture and sound follow.") : "",
      h("span", { class: "mv-keys" }, "Arrow keys walk from clip to clip, Enter plays, Escape stops" +
        (stored ? "; with Shift, arrows walk where no clip is." : ".")));
    this.show(this.imageAddress(this.example));
  }

  imageAddress(i) {
    const q = this.clips.imageOf[i];
    return q >= 0 && this.clips.images[q] ? this.url(`i${q}`, this.clips.images[q]) : "";
  }

  tileAddress(q) { return this.cells.images[q] ? this.url(`g${q}`, this.cells.images[q]) : ""; }

  // --- painting ------------------------------------------------------------------------------------------------------

  /** Paint soon: all, or only what moves with the pointer and the sound. */
  paint(all = true) {
    this.stale ||= all;
    if (!this.frame) this.frame = requestAnimationFrame(() => { this.frame = 0; this.paintNow(); });
  }

  layout() {
    const key = this.axes.join();
    if (this.bounded !== key) Object.assign(this, { bounded: key, bounds: bounds(this.clips, this.axes) });
    this.view = viewOf(this.bounds, this.canvas.clientWidth, this.canvas.clientHeight, this);
  }

  paintNow() {
    if (!this.canvas.clientWidth) return;
    this.layout();
    const { view, base, canvas } = this, scene = this.scene();
    if (this.stale || base.width !== canvas.width) {
      const c = sharp(base, view.width, view.height);
      paintPlane(c, scene, labels(c, canvas, view.width, view.height));
    }
    this.stale = false;
    const c = sharp(canvas, view.width, view.height);
    c.save();
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.drawImage(base, 0, 0);
    c.restore();
    const { hover, selected, place, pulse } = this, ends = this.pair?.ends ?? [];
    paintFocus(c, scene, { hover, selected, place, ends, pulse, sounding: this.voice.playing, calm: still() });
  }

  scene() {
    const { clips, axes, view, fills, edges, isShown, shown, flags } = this, lit = shown.has(this.lit) ? this.lit : -1;
    return { clips, axes, view, fills, edges, isShown, shown, lit, flags, axisNames: axes.map((j) => this.axisName(j)), axisEnds: axes.map((j) => this.axisEnds(j)),
      grid: this.onGrid() ? this.cells : null, tile: (q) => this.tile(q), colour: colours(this.el) };
  }

  onGrid() { return isPlaneOf(this.cells, this.axes); }

  /** The picture of a cell of the grid, once it is loaded; null before. */
  tile(q) {
    if (!this.cells.images[q]) return null;
    if (!this.tiles.has(q)) {
      const image = new Image();
      image.onload = () => this.paint();
      image.src = this.tileAddress(q);
      this.tiles.set(q, image);
    }
    const image = this.tiles.get(q);
    return image.complete && image.naturalWidth ? image : null;
  }

  /** Colours as the page has them now. */
  dress() {
    const colour = colours(this.el), { palette, markers } = this.clips;
    Object.assign(this, shades(palette, colour("text"), colour("paper")));
    this.entries.forEach(({ icon }, g) => paintIcon(icon.getContext("2d"), markers[g], this.fills[g], this.edges[g]));
  }

  // --- playing -------------------------------------------------------------------------------------------------------

  tell(values) {
    for (const [key, value] of Object.entries(values)) this.model.set(key, value);
    this.model.save_changes();
  }

  onFrame(t) {
    this.sideHead.style.left = `${clamp((100 * t) / (this.voice.duration || 1), 0, 100)}%`;
    this.pulse = t;
    if (this.voice.playing && !still()) this.paint(false);
  }

  onState(on) {
    this.button.show(on);
    this.side.classList.toggle("mv-on", on);
    this.tell({ playing: on });
    this.paint(false);
  }

  /** Be silent, also when the sound that is being made is there. */
  hush() { this.quiet = true; this.voice.stop(0); }

  again() {
    this.quiet = false;
    if (this.selected >= 0) return this.play(this.selected);
    if (!this.place) return this.play(this.example);
    return this.answer ? this.present(this.answer) : this.playPlace(this.place);
  }

  play(i) {
    this.choose(i);
    const mp3 = this.clips.sounds[this.clips.soundOf[i] ?? -1];
    if (mp3) this.hear(this.clips.names[i], mp3);
  }

  hear(name, mp3, from = 0) {
    this.voice.load([mp3]);
    return sound(this.el, name, this.voice.play(from));
  }

  choose(i, tell = true) {
    this.asked?.abort();
    Object.assign(this, { selected: i, place: null, answer: null });
    const { names, genres, genre } = this.clips;
    this.show(this.imageAddress(i));
    this.sideName.textContent = names[i];
    this.sideGenre.textContent = genres[genre[i]];
    this.sideNear.replaceChildren(h("span", {}, "nearest"), ...neighbours(this.clips, i).map((j) => this.chip(j)));
    this.live.textContent = `${names[i]}, ${genres[genre[i]]}`;
    this.el.dataset.selected = names[i];
    this.pair?.offer();
    if (tell) this.tell({ selected: i });
    this.paint(false);
  }

  chip(j) {
    const { names, genres, genre, palette } = this.clips;
    return h("button", { type: "button", class: "mv-chip", title: `${names[j]}, ${genres[genre[j]]}`, onclick: () => this.play(j) },
      h("i", { style: `background:${palette[genre[j]]}` }), this.brief(names[j]));
  }

  show(src) {
    this.sideImage.src = src || BLANK;
    this.sideImage.alt = src ? "spectrogram of what is chosen" : "";
    this.shot.classList.toggle("mv-empty", !src);
  }

  /** All coordinates of a place of the plane. */
  coordinates(place) {
    const z = Array.from({ length: this.clips.k }, () => 0);
    this.axes.forEach((j, q) => { z[j] = place[q]; });
    return z;
  }

  /** Ask for what the decoder makes of a place [x, y], and play it. */
  playPlace([x, y], dragged = false, found = null) {
    const z = this.coordinates([x, y]), request = new AbortController();
    const early = (made) => { if (made && !request.signal.aborted) this.present(made); };
    const answer = ask(providers(this.decoder, this.kernel, this.grid), z, { axes: [...this.axes], signal: request.signal, model: this.model, early, dragged, found });
    if (!answer) {
      this.live.textContent = "no clip here";
      return;
    }
    this.asked?.abort();
    Object.assign(this, { asked: request, answer: null, quiet: false, selected: -1, hover: -1 });
    this.pair?.offer();
    this.tip.hidden = true;
    this.sideName.textContent = NOBODY;
    this.sideNear.replaceChildren();
    this.el.dataset.selected = "decoded";
    this.voice.stop();
    this.moveTo([x, y]);
    this.tell({ selected: -1 });
    answer.then((made) => { if (made?.from !== "grid" || this.answer?.from !== "grid") early(made); }); // the grid's may have come early
  }

  /** Put the mark of a decoded place, and say where it is. */
  moveTo(place) {
    this.place = place;
    const where = (v, ends, name) => (ends ? `${Math.abs(v).toFixed(1)} towards ${ends[v < 0 ? 0 : 1]}` : `${name}: ${v.toFixed(2)}`);
    this.sideGenre.textContent = this.axes.map((j, q) => where(place[q], this.axisEnds(j), this.plainName(j))).join(", ");
    this.live.textContent = `${this.sideName.textContent}: ${this.sideGenre.textContent}`;
    this.paint();
  }

  /** Show and play an answer, where it really is; one that follows another goes on where that sounds. */
  present(answer) {
    const from = this.answer?.sound ? this.voice.position : 0;
    this.answer = { ...answer, sound: answer.sound ?? this.answer?.sound ?? null };
    this.sideName.textContent = nameOf(answer);
    this.moveTo(this.axes.map((j) => answer.z[j]));
    if (!this.model.get("asks")) this.tell({ place: [...this.axes, ...this.place] }); // who asks has told the kernel
    this.show(answer.picture);
    if (answer.sound?.length && !this.quiet) this.hear("decoded", answer.sound, from);
  }

  // --- pointer and keys ----------------------------------------------------------------------------------------------

  /** What a finger's movement across the whole map is left to: up and down to the page, sideways to whoever can decode. */
  get sideways() { return this.decoder ? "pan-y" : ""; }

  listen() {
    this.canvas.style.touchAction = this.sideways;
    const { canvas, model } = this, on = (type, f, options) => canvas.addEventListener(type, f, options);
    on("pointermove", (event) => { if (this.view) this.onMove(event); });
    on("pointerleave", () => this.leave());
    on("pointerdown", (event) => { if (!event.button) this.drag = { from: this.spot(event), pan: [...this.pan], moved: false, id: event.pointerId }; });
    on("pointerup", (event) => this.onUp(event));
    on("pointercancel", () => { this.drag = null; this.grains?.stop(); });
    on("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      this.rescale(Math.exp(-event.deltaY / 300), this.spot(event));
    }, { passive: false });
    on("keydown", (event) => { if (!event.ctrlKey && !event.metaKey && !event.altKey && this.onKey(event)) event.preventDefault(); });
    on("blur", () => { this.tip.hidden = true; });
    this.follow = () => { const i = model.get("selected"); if (i !== this.selected && i >= 0) this.choose(i, false); };
    model.on("change:selected", this.follow);
    this.unwatch = watch(this.el, () => { this.dress(); this.paint(); });
  }

  end() {
    this.unwatch();
    cancelAnimationFrame(this.frame);
    this.asked?.abort();
    this.kernel.end();
    this.decoder?.end();
    this.grains?.stop();
    this.model.off("change:selected", this.follow);
    this.voice.stop();
    this.url.free();
  }

  spot(event) {
    const box = this.canvas.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  whereIs(i) { return at(this.view, this.clips, i, this.axes); }

  under(spot, reach) { return nearest(this.view, this.clips, this.axes, spot, reach, this.isShown); }

  leave() {
    this.hover = -1;
    this.tip.hidden = true;
    this.paint(false);
  }

  onMove(event) {
    const spot = this.spot(event);
    if (this.drag && this.dragged(spot)) return;
    if (event.pointerType === "touch") return;
    const i = this.under(spot, REACH);
    if (i !== this.hover) {
      this.hover = i;
      this.showTip(i, i >= 0 ? this.whereIs(i) : spot);
      if (i >= 0 && this.flags.hover && stage.context) this.play(i);
      this.paint(false);
    }
    this.canvas.style.cursor = i >= 0 ? "pointer" : this.drag?.moved ? "grabbing" : this.decoder || this.onGrid() ? "crosshair" : "default";
  }

  /** Move the plane with the pointer, or the place that is decoded; whether that is what the movement meant. */
  dragged(spot) {
    const { drag } = this, move = [0, 1].map((q) => spot[q] - drag.from[q]);
    if (Math.hypot(...move) > 5) drag.moved = true;
    if (!drag.moved) return false;
    if (this.zoom <= 1) return this.dragPlace(drag, spot);
    this.pan = [0, 1].map((q) => drag.pan[q] + move[q]);
    this.tip.hidden = true;
    this.paint();
    return true;
  }

  /** Drag a place over the plane, from an empty one on: its picture follows, and a grain of its sound from where one last listened. */
  dragPlace(drag, spot) {
    drag.holds ??= Boolean(this.decoder?.able()) && this.under(drag.from, REACH) < 0;
    if (!drag.holds) return false;
    if (drag.second === undefined) this.take(drag);
    const place = this.view.back(...spot);
    this.moveTo(place);
    this.pass(this.coordinates(place), drag.second, () => this.drag === drag);
    return true;
  }

  /** Show and sound what is passed, as long as it is held. */
  pass(z, second, held, found = null) {
    this.decoder.pass(z, { axes: [...this.axes], second, found,
      early: (answer) => { if (held()) this.showPassed(answer); }, grain: (y, rate) => { if (held()) this.grains.play(y, rate); } });
  }

  /** A drag begins: what sounded or was asked is over. */
  take(drag) {
    drag.second = this.voice.position;
    if (drag.id !== undefined) this.canvas.setPointerCapture(drag.id);
    stage.open().catch(() => {});
    this.asked?.abort();
    this.voice.stop();
    Object.assign(this, { answer: null, quiet: false, selected: -1, hover: -1 });
    this.tip.hidden = true;
    this.sideNear.replaceChildren();
    this.pair?.offer();
  }

  showPassed(answer) {
    this.sideName.textContent = nameOf(answer);
    this.show(answer.picture);
    this.el.dataset.passed = String(1 + Number(this.el.dataset.passed ?? 0));
  }

  onUp(event) {
    const was = this.drag, touch = event.pointerType === "touch";
    this.drag = null;
    this.grains?.stop();
    if (!was || (was.moved && this.zoom > 1) || !this.view) return;
    if (was.holds) { this.playPlace(this.view.back(...this.spot(event)), true); return; }
    const spot = this.spot(event), i = this.under(spot, touch ? FINGER : REACH);
    if (i < 0) this.playPlace(this.view.back(...spot));
    else {
      if (touch) { this.hover = -1; this.tip.hidden = true; }
      this.play(i);
    }
  }

  showTip(i, [px, py]) {
    const { tip, view, clips } = this;
    tip.hidden = i < 0;
    if (i < 0) return;
    const src = this.imageAddress(i);
    tip.replaceChildren(src ? h("img", { src, alt: `spectrogram of ${clips.names[i]}` }) : "", h("b", {}, clips.names[i]), h("span", {}, clips.genres[clips.genre[i]]));
    const w = tip.offsetWidth, tall = tip.offsetHeight;
    tip.style.left = `${clamp(px + 16 + w > view.width ? px - 16 - w : px + 16, 0, Math.max(0, view.width - w))}px`;
    tip.style.top = `${clamp(py - tall - 12 < 0 ? py + 18 : py - tall - 12, 0, Math.max(0, view.height - tall))}px`;
  }

  rescale(factor, spot = [this.view.width / 2, this.view.height / 2]) {
    Object.assign(this, rescaled(this, factor, spot, this.view.width, this.view.height));
    this.canvas.style.touchAction = this.zoom > 1 ? "none" : this.sideways;
    this.paint();
  }

  reset() {
    Object.assign(this, { zoom: 1, pan: [0, 0] });
    this.tip.hidden = true;
    this.canvas.style.touchAction = this.sideways;
    this.paint();
  }

  /** What a key does; whether it does anything. */
  onKey(event) {
    const { key } = event, move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[key];
    if (move && event.shiftKey && this.onGrid()) this.walkGrid(move);
    else if (move) this.walk(move);
    else if (key === "Enter" || key === " ") { if (this.voice.playing) this.hush(); else this.again(); }
    else if (key === "Escape") { this.hush(); this.leave(); }
    else if (this.pair && (key === "a" || key === "b")) this.pair.set(key === "a" ? 0 : 1);
    else if (key === "+" || key === "=") this.rescale(1.5);
    else if (key === "-") this.rescale(1 / 1.5);
    else if (key === "0") this.reset();
    else return false;
    return true;
  }

  /** To the next clip in a direction of the screen; to the one in the middle, where none is chosen. */
  walk(move) {
    const { selected } = this;
    this.layout();
    const { view } = this, none = selected < 0 || !this.isShown(selected);
    const i = none ? this.under([view.width / 2, view.height / 2], Infinity) : next(view, this.clips, this.axes, selected, move, this.isShown);
    if (i < 0) return;
    this.choose(i);
    this.showTip(i, this.whereIs(i));
    if (this.flags.hover) this.play(i);
  }

  /** To the next cell of the grid; to the one of the chosen clip, or of the middle, where no place is chosen. */
  walkGrid([dx, dy]) {
    const { view, place, selected } = this;
    const from = selected >= 0 ? onAxes(this.clips, selected, this.axes) : view.back(view.width / 2, view.height / 2);
    this.playPlace(cellStep(this.cells, place ?? from, place ? [dx, -dy] : [0, 0]));
  }
}

function draw(model, el) {
  const map = new MapView(model, el);
  return () => map.end();
}

export default widget(draw);
