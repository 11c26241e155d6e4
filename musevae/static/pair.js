// Any two clips of a map that carries its decoder: the colour of one under the rhythm of the other, and the way from colour to colour.

class Pair {
  constructor(map) {
    Object.assign(this, { map, ends: [-1, -1], held: null });
    const small = (words, title, onclick) => h("button", { type: "button", class: "mv-switch", title, onclick }, words);
    this.keep = ["A", "B"].map((letter, q) => small(`as ${letter}`, "", () => this.set(q)));
    this.words = h("small", { role: "status" });
    this.share = h("input", { type: "range", class: "mv-slider", min: 0, max: 100, step: 1, value: 0,
      "aria-label": "rhythm of A: from the colour of A to that of B, per cent" });
    this.share.addEventListener("input", () => this.along());
    this.share.addEventListener("change", () => { this.release(); this.whole(this.mixture()); });
    this.turn = small("A ⇄ B", "exchange the two: the rhythm of the one, the colour of the other", () => {
      this.ends.reverse();
      this.say();
      this.whole(this.mixture());
    });
    this.both = h("div", { class: "mv-both", hidden: true }, this.turn, h("label", {}, h("small", {}, "rhythm of A, colour from A to B"), this.share));
    this.box = h("div", { class: "mv-pair", role: "group", "aria-label": "two clips" }, h("div", { class: "mv-switches" }, ...this.keep), this.words, this.both);
    this.offer();
  }

  /** The clip that is chosen, or shown before any is; −1 where a place without a clip is. */
  get clip() { const { selected, place, example } = this.map; return selected >= 0 || place ? selected : example; }

  /** Which buttons are of use. */
  offer() {
    this.keep.forEach((button, q) => {
      button.disabled = this.clip < 0;
      button.title = this.clip < 0 ? "choose a clip first: press a dot" : `the clip shown is ${"AB"[q]} (key ${"ab"[q]} on the map)`;
    });
  }

  /** The clip shown becomes A (0) or B (1); once both are there, A's rhythm in B's colour is made and played. */
  set(q) {
    if (this.clip < 0) return;
    this.ends[q] = this.clip;
    this.share.value = 100;
    this.say();
    this.map.paint(false);
    if (!this.both.hidden) this.whole(this.mixture());
  }

  /** Who is A, who is B, and how far the slider is. */
  say() {
    const { ends, map: { clips: { names } } } = this;
    this.fill();
    this.words.textContent = ends.map((i, p) => i >= 0 && `${"AB"[p]}: ${clipName(names[i])}`).filter(Boolean).join(", ");
    this.both.hidden = ends.some((i) => i < 0) || ends[0] === ends[1];
  }

  fill() { this.share.style.setProperty("--mv-at", `${this.share.value}%`); }

  /** A mixture with what it is called. */
  named(mixed) {
    const { decoder, clips } = this.map, { rhythm, to, share } = mixed, name = (i) => clipName(clips.names[i]);
    const colour = share && share < 1 ? `${Math.round(100 * share)} % of the way to the colour of ${name(to)}` : `in the colour of ${name(share ? to : mixed.from)}`;
    return { ...decoder.mixture(mixed), words: `rhythm of ${name(rhythm)}, ${colour}` };
  }

  mixture() {
    const [from, to] = this.ends;
    return this.named({ rhythm: from, from, to, share: this.share.value / 100 });
  }

  /** While the slider moves: the picture, and a grain. */
  along() {
    const { map } = this;
    if (!this.held) map.take(this.held = {});
    const { held } = this, found = this.mixture();
    this.fill();
    map.moveTo(map.axes.map((j) => found.z[j]));
    map.pass(found.z, held.second, () => this.held === held, found);
  }

  release() {
    this.held = null;
    this.map.grains.stop();
  }

  whole(found) { this.map.playPlace(this.map.axes.map((j) => found.z[j]), true, found); }
}
