// The water level: β under a slider, units drown, rate and error run along their curve, the nearest stored sound plays.
// `musevae.widgets.level.Level`; the formulas are those of `musevae.collapse.level`.

/** What is asked of at every β: variances (largest first) in units of the noise, with their running sums. */
export function curve(variance, { noise, outside, bins, topDb }) {
  const logs = new Float64Array(variance.length + 1), rest = new Float64Array(variance.length + 1);
  variance.forEach((v, i) => { logs[i + 1] = logs[i] + Math.log(v); });
  for (let i = variance.length - 1; i >= 0; i--) rest[i] = rest[i + 1] + variance[i];
  return { variance, logs, rest, noise, outside, bins, topDb };
}

/** Units alive, nats and dB (of a draw) at a price. */
export function at(c, beta) {
  const level = beta * c.noise;
  let low = 0, high = c.variance.length; // the first that has drowned
  while (low < high) {
    const middle = (low + high) >> 1;
    if (c.variance[middle] > level) low = middle + 1; else high = middle;
  }
  const nats = (c.logs[low] - low * Math.log(level)) / 2;
  const db = c.topDb * Math.sqrt((low * level + c.rest[low] + c.outside) / c.bins);
  return { units: low, nats: Math.max(0, nats), db };
}

const digits = (v) => (v >= 100 ? Math.round(v).toLocaleString("en") : String(+v.toPrecision(2)));
const tick = (v) => (v >= 1000 ? `${v / 1000}k` : String(v));
const WATER = "rgb(46 134 193 / .38)";

function draw(model, el) {
  const duration = model.get("duration"), top = model.get("sample_rate") / 2, title = model.get("title");
  const images = parts(model.get("images"), model.get("images_end")), stops = model.get("betas");
  const [least, most] = model.get("span"), ratio = Math.log(most / least), STEPS = 300;
  const windowSeconds = model.get("seconds"), others = model.get("marks");
  const c = curve(Array.from(floats(model.get("variance"))), { noise: model.get("noise"), outside: model.get("outside"),
    bins: model.get("bins"), topDb: model.get("top_db") });
  const d = c.variance.length;
  const place = (beta) => Math.log(beta / least) / ratio, price = (u) => least * Math.exp(u * ratio);
  const nearest = (beta) => stops.reduce((best, b, i) =>
    (Math.abs(Math.log(b / beta)) < Math.abs(Math.log(stops[best] / beta)) ? i : best), 0);
  const words = (beta) => {
    const now = at(c, beta);
    return `β = ${digits(beta)}: ${now.units} of ${d} units, ${digits(now.nats)} nats, ${now.db.toFixed(1)} dB`;
  };
  const short = (i) => `β = ${digits(stops[i])}`;
  let beta = clamp(model.get("beta"), least, most);

  const voice = new Voice({
    loop: true,
    onframe: (t) => { view.show(t); clock(time, t, duration); },
    onstate: (on) => { button.show(on); tell(); },
  }).load(parts(model.get("sounds"), model.get("sounds_end")));
  const start = (t) => sound(el, short(voice.active), voice.play(t));
  const toggle = () => (voice.playing ? voice.stop() : start());
  function tell() {
    model.set("beta", beta);
    model.set("selected", voice.active);
    model.set("position", voice.position);
    model.set("playing", voice.playing);
    model.save_changes();
  }

  const button = playButton(title || "the picture at this level", toggle);
  const time = h("span", { class: "mv-time" }), heard = h("span", { class: "mv-heard" });
  const view = spectrogram({
    png: images[0], label: title || "reconstruction", duration, top, toggle,
    seek: (t, press) => (voice.playing || press ? start(t) : voice.seek(t)),
  });
  const slider = h("input", { type: "range", class: "mv-slider", min: 0, max: STEPS, step: 1,
    "aria-label": "β, the price of a nat" });
  slider.addEventListener("input", () => set(price(slider.value / STEPS)));
  slider.addEventListener("keydown", (event) => {
    if (event.key === " " || event.key === "Enter") { event.preventDefault(); toggle(); }
  });
  const marks = h("div", { class: "mv-stops", "aria-hidden": "true" },
    ...stops.map((b) => h("i", { style: `left:${100 * place(b)}%` })));
  const facts = ["β", "units alive", "rate", "error"].map((name) => {
    const value = h("b"), unit = h("span");
    const box = h("div", { class: "mv-fact" }, h("small", {}, name), value, unit);
    box.say = (text, of) => { value.textContent = text; unit.textContent = of; };
    return box;
  });
  const [units, plane] = [0, 1].map(() => h("canvas", { class: "mv-chart", role: "img" }));

  function set(value) {
    beta = clamp(value, least, most);
    const now = at(c, beta), i = nearest(beta);
    slider.value = Math.round(place(beta) * STEPS);
    slider.style.setProperty("--mv-at", `${100 * place(beta)}%`);
    slider.setAttribute("aria-valuetext", words(beta));
    facts[0].say(digits(beta), "");
    facts[1].say(now.units.toLocaleString("en"), `of ${d}`);
    facts[2].say(digits(now.nats), `nats · ${digits(now.nats / Math.LN2 / windowSeconds)} bit/s`);
    facts[3].say(now.db.toFixed(1), "dB");
    if (i !== voice.active || !heard.textContent) {
      voice.choose(i);
      view.paint(images[i]);
      if (voice.playing) el.dataset.played = short(i);
    }
    heard.textContent = `picture and sound: ${words(stops[i])}`;
    [...marks.children].forEach((mark, k) => mark.classList.toggle("mv-here", k === i));
    el.dataset.level = `${now.units} ${now.nats.toFixed(6)} ${now.db.toFixed(6)}`;
    charts();
    tell();
  }

  /** Axes on a canvas: its context, its box, and `put` for words. */
  function ground(canvas, left) {
    const width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return null;
    const g = sharp(canvas, width, height), box = { left, right: width - 10, top: 28, bottom: height - 36 };
    g.font = "12px system-ui, sans-serif";
    return { g, box, put: labels(g, canvas, width, height), colour: colours(el) };
  }
  const line = (g, points) => { g.beginPath(); points.forEach(([x, y], k) => (k ? g.lineTo(x, y) : g.moveTo(x, y))); };

  function drawUnits() {
    const made = ground(units, 44);
    if (!made) return;
    const { g, box, put, colour } = made;
    const x = (n) => box.left + ((box.right - box.left) * Math.log(n)) / Math.log(d + 1);
    const lo = Math.min(least, c.variance[d - 1] / c.noise), hi = Math.max(most, c.variance[0] / c.noise);
    const y = (b) => box.bottom - ((box.bottom - box.top) * Math.log(clamp(b, lo, hi) / lo)) / Math.log(hi / lo);
    g.lineWidth = 1;
    g.textBaseline = "middle";
    g.textAlign = "right";
    g.fillStyle = colour("muted");
    for (let e = Math.ceil(Math.log10(lo)); 10 ** e <= hi; e++) {
      g.strokeStyle = colour("grid");
      line(g, [[box.left, y(10 ** e)], [box.right, y(10 ** e)]]); g.stroke();
      put(tick(+(10 ** e).toPrecision(1)), box.left - 6, y(10 ** e));
    }
    g.textAlign = "center";
    for (const n of [1, 10, 100, 1000, 10000]) if (n <= d) put(tick(n), x(n), box.bottom + 14);
    put("unit, by variance", (box.left + box.right) / 2, box.bottom + 29);
    g.textAlign = "left";
    put("drowns at β", 2, 9);
    const shore = Array.from(c.variance, (v, i) => [x(i + 1), y(v / c.noise)]);
    shore.push([x(d + 1), shore[d - 1][1]]);
    g.fillStyle = colour("accent");
    g.globalAlpha = 0.28;
    line(g, [...shore, [box.right, box.bottom], [box.left, box.bottom]]); g.fill();
    g.globalAlpha = 1;
    g.strokeStyle = colour("accent");
    g.lineWidth = 2;
    line(g, shore); g.stroke();
    g.fillStyle = WATER;
    g.fillRect(box.left, y(beta), box.right - box.left, box.bottom - y(beta));
    g.strokeStyle = "rgb(46 134 193)";
    line(g, [[box.left, y(beta)], [box.right, y(beta)]]); g.stroke();
    units.onprice = (px, py) => lo * Math.exp((Math.log(hi / lo) * (box.bottom - py)) / (box.bottom - box.top));
  }

  function drawPlane() {
    const made = ground(plane, 36);
    if (!made) return;
    const { g, box, put, colour } = made;
    const ends = [at(c, least), at(c, most)], wide = Math.max(ends[0].nats, ...others.map((o) => o.nats)) * 1.03;
    const floor = Math.floor(Math.min(ends[0].db, ...others.map((o) => o.db)));
    const roof = Math.ceil(Math.max(ends[1].db, ...others.map((o) => o.db)));
    const x = (nats) => box.left + ((box.right - box.left) * nats) / wide;
    const y = (db) => box.bottom - ((box.bottom - box.top) * (db - floor)) / (roof - floor);
    g.lineWidth = 1;
    g.textBaseline = "middle";
    g.textAlign = "right";
    g.fillStyle = colour("muted");
    const every = [1, 2, 5, 10].find((s) => (roof - floor) / s <= 7) ?? 20;
    for (let db = Math.ceil(floor / every) * every; db <= roof; db += every) {
      g.strokeStyle = colour("grid");
      line(g, [[box.left, y(db)], [box.right, y(db)]]); g.stroke();
      put(String(db), box.left - 6, y(db));
    }
    g.textAlign = "center";
    const steps = [5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000];
    const step = steps.find((s) => wide / s <= (box.right - box.left) / 55) ?? 10000;
    for (let n = 0; n <= wide; n += step) put(tick(n), x(n), box.bottom + 14);
    put("rate, nats per window", (box.left + box.right) / 2, box.bottom + 29);
    g.textAlign = "left";
    put("error, dB", 2, 9);
    const points = Array.from({ length: 201 }, (_, k) => at(c, price(k / 200)));
    g.strokeStyle = colour("muted");
    g.lineWidth = 2;
    line(g, points.map((p) => [x(p.nats), y(p.db)])); g.stroke();
    g.fillStyle = colour("muted");
    for (const b of stops) {
      const p = at(c, b);
      g.beginPath(); g.arc(x(p.nats), y(p.db), 3, 0, 7); g.fill();
    }
    g.fillStyle = colour("text");
    for (const o of others) {
      g.fillRect(x(o.nats) - 4, y(o.db) - 4, 8, 8);
      g.textAlign = x(o.nats) > (box.left + box.right) / 2 ? "right" : "left";
      put(o.label, x(o.nats) + (g.textAlign === "right" ? -9 : 9), y(o.db) - 12);
    }
    const now = at(c, beta);
    g.fillStyle = colour("accent");
    g.beginPath(); g.arc(x(now.nats), y(now.db), 7, 0, 7); g.fill();
    plane.onprice = (px, py) => points.reduce((best, p, k) => {
      const far = (x(p.nats) - px) ** 2 + (y(p.db) - py) ** 2;
      return far < best[0] ? [far, price(k / 200)] : best;
    }, [Infinity, beta])[1];
  }

  function charts() {
    drawUnits();
    drawPlane();
    const now = words(beta);
    units.setAttribute("aria-label", `Variance of every unit against the water level. ${now}`);
    plane.setAttribute("aria-label", `Error against rate along the closed form. ${now}`);
  }

  for (const canvas of [units, plane]) { // a mouse may take the water itself; a finger scrolls the page and has the slider
    let held = false;
    const take = (event) => {
      const r = canvas.getBoundingClientRect();
      if (canvas.onprice) set(canvas.onprice(event.clientX - r.left, event.clientY - r.top));
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "touch" || event.button) return;
      held = true;
      canvas.setPointerCapture?.(event.pointerId);
      take(event);
    });
    canvas.addEventListener("pointermove", (event) => { if (held) take(event); });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { held = false; });
  }

  el.append(h("div", { class: "mv-card mv-level", role: "group", "aria-label": title || "the water level" },
    h("div", { class: "mv-bar" }, button, title ? h("span", { class: "mv-title" }, title) : null, time),
    h("div", { class: "mv-ends" }, h("span", {}, "cheap"), h("div", { class: "mv-track" }, marks, slider),
      h("span", {}, "dear")),
    h("div", { class: "mv-readings" }, ...facts),
    h("div", { class: "mv-plots" }, units, plane),
    h("div", { class: "mv-where mv-said" }, heard), view.frame));
  clock(time, 0, duration);
  const end = watch(el, charts);
  set(beta);
  const follow = () => { if (model.get("beta") !== beta) set(model.get("beta")); };
  model.on("change:beta", follow);
  return () => { model.off("change:beta", follow); end(); voice.stop(); view.free(); };
}

export default widget(draw);
