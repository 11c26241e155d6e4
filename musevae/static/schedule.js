// β(step) under the reader's hand. `musevae.widgets.Schedule`; the formulas are those of `musevae.annealing`.

const shapes = {
  linear: (u) => u,
  sigmoid: (u, { steepness }) => 0.5 + (0.5 * Math.tanh((steepness * (u - 0.5)) / 2)) / Math.tanh(steepness / 4),
  cosine: (u) => (1 - Math.cos(Math.PI * u)) / 2,
};

/** β at `step` of the schedule `o` = {kind, steps, start, end, steepness, cycles, ramp}. */
export function beta(o, step) {
  if (o.kind === "constant") return o.end;
  const place = (step * o.cycles) / o.steps;
  const s = o.kind !== "cyclical" ? shapes[o.kind](Math.min(step / o.steps, 1), o)
    : place >= o.cycles ? 1 : Math.min((place % 1) / o.ramp, 1);
  return (1 - s) * o.start + s * o.end;
}

const KINDS = ["constant", "linear", "sigmoid", "cosine", "cyclical"];
const KNOBS = [ // trait, words, least, most, step, kinds that have it
  ["steps", "ramp ends at epoch", 1, null, 1, "linear sigmoid cosine cyclical"],
  ["cycles", "cycles", 1, 12, 1, "cyclical"],
  ["ramp", "climbing part of a cycle", 0.05, 1, 0.05, "cyclical"],
  ["steepness", "steepness", 1, 30, 0.5, "sigmoid"],
  ["start", "β at the start", 0, 1, 0.01, "linear sigmoid cosine cyclical"],
  ["end", "β at the end", 0, 4, 0.01, KINDS.join(" ")],
];

function draw(model, el) {
  const epochs = model.get("epochs");
  const state = () => Object.fromEntries(["kind", ...KNOBS.map((k) => k[0])].map((key) => [key, model.get(key)]));
  const canvas = h("canvas", { class: "mv-chart", tabIndex: 0, role: "img" });
  const readout = h("output", { class: "mv-readout" }), code = h("code", { class: "mv-code" });
  let at = null;

  const put = (key, value) => { model.set(key, value); model.save_changes(); };
  const kinds = h("div", { class: "mv-switches", role: "group", "aria-label": "kind of schedule" }, ...KINDS.map((kind) =>
    h("button", { type: "button", class: "mv-switch", onclick: () => put("kind", kind) }, kind)));
  const knobs = KNOBS.map(([key, words, least, most, step, of]) => {
    const slider = h("input", { type: "range", class: "mv-slider", min: least, max: most ?? epochs, step, "aria-label": words });
    const value = h("output", { class: "mv-time" });
    slider.addEventListener("input", () => put(key, +slider.value));
    const box = h("label", { class: "mv-knob" }, h("span", {}, words), slider, value);
    box.show = (o) => {
      box.hidden = !of.split(" ").includes(o.kind);
      slider.value = o[key];
      slider.style.setProperty("--mv-at", `${(100 * (slider.value - least)) / ((most ?? epochs) - least)}%`);
      value.textContent = +o[key].toFixed(2);
    };
    return box;
  });

  function chart() {
    const o = state(), colour = colours(el), width = canvas.clientWidth, height = canvas.clientHeight;
    if (!width) return;
    const c = sharp(canvas, width, height);
    const box = { left: 38, right: width - 12, top: 12, bottom: height - 36 }, put = labels(c, canvas, width, height);
    const most = Math.max(1, o.end, o.kind === "constant" ? 0 : o.start) * 1.04;
    const x = (t) => box.left + ((box.right - box.left) * t) / epochs;
    const y = (b) => box.bottom - ((box.bottom - box.top) * b) / most;
    c.font = "12px system-ui, sans-serif";
    c.lineWidth = 1;
    c.textBaseline = "middle";
    const step = most > 2 ? 1 : most > 1.3 ? 0.5 : 0.25;
    for (let b = 0; b <= most; b += step) {
      c.strokeStyle = colour("grid");
      c.beginPath(); c.moveTo(box.left, y(b)); c.lineTo(box.right, y(b)); c.stroke();
      c.fillStyle = colour("muted");
      c.textAlign = "right";
      put(String(+b.toFixed(2)), box.left - 7, y(b));
    }
    c.textAlign = "center";
    const every = [1, 2, 5, 10, 20, 25, 50, 100, 200, 500].find((d) => epochs / d <= Math.max(4, width / 90)) ?? epochs;
    for (let t = 0; t <= epochs; t += every) put(String(t), x(t), box.bottom + 12);
    put("epoch", (box.left + box.right) / 2, box.bottom + 28);
    c.textAlign = "left";
    put("β", 4, box.top);
    const line = (options, style, w) => {
      c.strokeStyle = style;
      c.lineWidth = w;
      c.lineJoin = "round";
      c.beginPath();
      const n = Math.round(box.right - box.left) * 2;
      for (let k = 0; k <= n; k++) {
        const t = (epochs * k) / n;
        if (k) c.lineTo(x(t), y(beta(options, t))); else c.moveTo(x(t), y(beta(options, t)));
      }
      c.stroke();
    };
    for (const kind of KINDS) if (kind !== o.kind) line({ ...o, kind }, colour("grid"), 1.25);
    line(o, colour("accent"), 3);
    c.lineTo(x(epochs), box.bottom);
    c.lineTo(x(0), box.bottom);
    c.globalAlpha = 0.1;
    c.fillStyle = colour("accent");
    c.fill();
    c.globalAlpha = 1;
    if (at !== null) {
      const b = beta(o, at);
      c.strokeStyle = colour("muted");
      c.lineWidth = 1;
      c.setLineDash([3, 3]);
      c.beginPath(); c.moveTo(x(at), box.top); c.lineTo(x(at), box.bottom); c.stroke();
      c.setLineDash([]);
      c.fillStyle = colour("accent");
      c.beginPath(); c.arc(x(at), y(b), 5, 0, 7); c.fill();
      readout.textContent = `epoch ${at.toFixed(1)}: β = ${b.toFixed(3)}`;
    } else readout.textContent = "";
    const extra = { linear: [], constant: [], cosine: [], sigmoid: ["steepness"], cyclical: ["cycles", "ramp"] }[o.kind];
    const words = o.kind === "constant" ? [`beta=${+o.end.toFixed(2)}`]
      : [`steps=${o.steps}`, ...["start", "end", ...extra].map((key) => `${key}=${+o[key].toFixed(2)}`)];
    code.textContent = `schedule("${o.kind}", ${words.join(", ")})`;
    canvas.setAttribute("aria-label", `β against the epoch, ${code.textContent}; left and right arrows read values`);
  }
  function refresh() {
    const o = state();
    [...kinds.children].forEach((b, i) => b.setAttribute("aria-pressed", String(KINDS[i] === o.kind)));
    knobs.forEach((k) => k.show(o));
    el.dataset.beta = [0, 0.25, 0.5, 0.75, 1].map((u) => beta(o, u * epochs).toFixed(6)).join(" ");
    chart();
  }
  canvas.addEventListener("pointermove", (event) => {
    const r = canvas.getBoundingClientRect();
    at = clamp((event.clientX - r.left - 38) / (r.width - 50), 0, 1) * epochs;
    chart();
  });
  canvas.addEventListener("pointerleave", () => { at = null; chart(); });
  canvas.addEventListener("keydown", (event) => {
    const move = { ArrowLeft: -1, ArrowRight: 1, PageDown: -10, PageUp: 10 }[event.key];
    if (!move) return;
    event.preventDefault();
    at = clamp((at ?? 0) + (move * epochs) / 100, 0, epochs);
    chart();
  });
  readout.setAttribute("aria-live", "polite");
  el.append(h("div", { class: "mv-card mv-schedule", role: "group", "aria-label": "β schedule" },
    h("div", { class: "mv-bar" }, kinds, readout), canvas, h("div", { class: "mv-knobs" }, ...knobs), code));
  model.on("change", refresh);
  const end = watch(el, chart);
  refresh();
  return () => { model.off("change", refresh); end(); };
}

export default widget(draw);
