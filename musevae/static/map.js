// The latent map: a point is a clip; hover to see it, click to hear it, click nowhere to hear the decoder.
// `musevae.widgets.LatentMap`

// A genre's colour and shape come from Python (`musevae.corpus.genre_style`); the shapes go by matplotlib's letters.
const polygon = (n, turn, r = 1) => Array.from({ length: n }, (_, k) => {
  const a = turn + (2 * Math.PI * k) / n;
  return [r * Math.cos(a), r * Math.sin(a)];
});
const star = polygon(10, -Math.PI / 2).map(([x, y], k) => (k % 2 ? [x * 0.55, y * 0.55] : [x * 1.25, y * 1.25]));
const arm = 0.38, cross = [[-1, -arm], [-arm, -arm], [-arm, -1], [arm, -1], [arm, -arm], [1, -arm], [1, arm], [arm, arm], [arm, 1],
  [-arm, 1], [-arm, arm], [-1, arm]].map(([x, y]) => [1.1 * x, 1.1 * y]);
const turned = (points) => points.map(([x, y]) => [0.7071 * (x - y), 0.7071 * (x + y)]);
const SHAPES = { o: null, s: polygon(4, Math.PI / 4, 1.2), "^": polygon(3, -Math.PI / 2, 1.3), D: polygon(4, 0, 1.3), P: cross,
  v: polygon(3, Math.PI / 2, 1.3), "*": star, X: turned(cross), h: polygon(6, Math.PI / 2, 1.15), p: polygon(5, -Math.PI / 2, 1.2) };

/** A mix of two colours "#rrggbb" or "rgb(…)": `part` of b in a. */
function mix(a, b, part) {
  const hex = (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16));
  const rgb = (text) => (text[0] === "#" ? hex(text) : text.match(/[\d.]+/g).slice(0, 3).map(Number));
  const [p, q] = [rgb(a), rgb(b)];
  return `rgb(${p.map((v, k) => Math.round(v + (q[k] - v) * part)).join(" ")})`;
}

function mark(shape, r) {
  const path = new Path2D(), points = SHAPES[shape];
  if (!points) path.arc(0, 0, r, 0, 7);
  else points.forEach(([x, y], k) => (k ? path.lineTo(x * r, y * r) : path.moveTo(x * r, y * r)));
  path.closePath();
  return path;
}

/** `words`, or as much of them as `room` px hold. */
function shortened(c, words, room) {
  let short = words;
  while (short && c.measureText(`${short}…`).width > room && c.measureText(short).width > room) short = short.slice(0, -1);
  return short === words ? words : `${short.trimEnd()}…`;
}

/** Mean, axes and angle of the ellipse that holds half of a Gaussian with the points' covariance. */
function ellipse(points) {
  const n = points.length;
  if (n < 3) return null;
  const mx = points.reduce((s, p) => s + p[0], 0) / n, my = points.reduce((s, p) => s + p[1], 0) / n;
  let a = 0, b = 0, d = 0;
  for (const [x, y] of points) { a += (x - mx) ** 2; b += (x - mx) * (y - my); d += (y - my) ** 2; }
  a /= n - 1; b /= n - 1; d /= n - 1;
  const mid = (a + d) / 2, half = Math.hypot((a - d) / 2, b), k = Math.sqrt(2 * Math.log(2));
  return { x: mx, y: my, r1: k * Math.sqrt(mid + half), r2: k * Math.sqrt(Math.max(0, mid - half)), angle: 0.5 * Math.atan2(2 * b, a - d) };
}

function draw(model, el) {
  const n = model.get("names").length, k = model.get("components");
  const data = floats(model.get("points")), names = model.get("names"), genres = model.get("genres"), genre = model.get("genre_of");
  const tracks = model.get("track_of"), explained = model.get("explained"), axisNames = model.get("axis_names");
  const sounds = parts(model.get("sounds"), model.get("sounds_end")), soundOf = model.get("sound_of");
  const images = parts(model.get("images"), model.get("images_end")), imageOf = model.get("image_of");
  const grid = model.get("grid"), gridSounds = parts(model.get("grid_sounds"), model.get("grid_sounds_end"));
  const gridImages = parts(model.get("grid_images"), model.get("grid_images_end"));
  const arrows = model.get("arrows"), palette = model.get("colours"), markers = model.get("markers");
  const coordinate = (i, j) => data[i * k + j];
  const shown = new Set(genres.keys());
  let [ax, ay] = model.get("axes"), hover = -1, selected = model.get("selected"), place = null, lit = -1, zoom = 1, pan = [0, 0];
  let view, frame = 0, pulse = 0, stale = true, fills = palette, edges = palette;
  const flags = { ellipses: true, paths: false, hover: false, mosaic: false };
  const urls = new Map();
  const url = (key, png) => { if (!urls.has(key)) urls.set(key, picture(png)); return urls.get(key); };
  const imageURL = (i) => (imageOf[i] >= 0 && images[imageOf[i]] ? url(`i${imageOf[i]}`, images[imageOf[i]]) : "");

  const distance = (i) => coordinate(i, ax) ** 2 + coordinate(i, ay) ** 2;

  // --- the parts of the page -------------------------------------------------------------------------------------
  const canvas = h("canvas", { class: "mv-canvas", tabIndex: 0, role: "application", "aria-roledescription": "latent map",
    "aria-label": `${model.get("title") || "latent map"}: ${n} clips of ${genres.length} genres. ` +
      "Arrow keys go from clip to clip, Enter plays." });
  const tip = h("div", { class: "mv-tip", hidden: true });
  const live = h("div", { class: "mv-unseen", role: "status", "aria-live": "polite" });
  const toggles = [["ellipses", "ellipses", true], ["paths", "paths", tracks.length > 0], ["hover", "hover plays", sounds.length > 0],
    ["mosaic", "decoder’s view", gridImages.some(Boolean)]].filter((t) => t[2]).map(([key, words]) => {
    const title = { ellipses: "half of each genre’s clips lie inside its ellipse, if they are Gaussian",
      paths: "join the windows of the chosen clip in time", hover: "play what the pointer passes",
      mosaic: "what the decoder makes of each part of the plane" }[key];
    const button = h("button", { type: "button", class: "mv-switch", title, "aria-pressed": String(flags[key]) }, words);
    button.onclick = () => {
      flags[key] = !flags[key];
      button.setAttribute("aria-pressed", String(flags[key]));
      if (key === "hover") stage.open().catch(() => {}); // a press may start sound, passing over a point may not
      paint();
    };
    return button;
  });
  const plain = (j) => axisNames[j] ?? `component ${j + 1}`;
  const axisName = (j) => plain(j) + (explained.length > j ? ` · ${(100 * explained[j]).toFixed(1)} %` : "");
  const select = (which, words) => {
    const box = h("select", { class: "mv-select", "aria-label": words },
      ...Array.from({ length: k }, (_, j) => h("option", { value: j, textContent: axisName(j) })));
    box.value = which ? ay : ax;
    box.onchange = () => {
      if (which) ay = +box.value; else ax = +box.value;
      place = null;
      model.set("axes", [ax, ay]);
      model.save_changes();
      reset();
    };
    return h("label", { class: "mv-axis" }, which ? "↑" : "→", box);
  };
  const zooms = h("span", { class: "mv-zoom" }, ...[["−", "zoom out", () => rescale(1 / 1.5)], ["+", "zoom in", () => rescale(1.5)],
    ["⟲", "whole map", () => reset()]].map(([sign, words, f]) =>
    h("button", { type: "button", class: "mv-switch mv-square", "aria-label": words, title: words, onclick: f }, sign)));
  const legend = h("div", { class: "mv-legend", role: "group", "aria-label": "genres: press to hide or show" });
  const entries = genres.map((name, g) => {
    const icon = h("canvas", { width: 32, height: 32, class: "mv-icon", "aria-hidden": "true" });
    const button = h("button", { type: "button", class: "mv-genre", "aria-pressed": "true",
      title: "click: hide or show; double click: only this one" },
    icon, name, h("small", {}, String(genre.filter((v) => v === g).length)));
    button.icon = icon;
    button.onclick = () => { if (shown.has(g)) shown.delete(g); else shown.add(g); showLegend(); };
    button.ondblclick = () => {
      const only = shown.size === 1 && shown.has(g);
      shown.clear();
      for (const q of genres.keys()) if (only || q === g) shown.add(q);
      showLegend();
    };
    for (const [type, value] of [["pointerenter", g], ["pointerleave", -1], ["focus", g], ["blur", -1]]) {
      button.addEventListener(type, () => { lit = value; paint(); });
    }
    legend.append(button);
    return button;
  });
  function showLegend() {
    entries.forEach((b, g) => b.setAttribute("aria-pressed", String(shown.has(g))));
    if (hover >= 0 && !shown.has(genre[hover])) hover = -1;
    paint();
  }
  const sideImage = h("img", { alt: "", class: "mv-shot" }), sideHead = h("div", { class: "mv-playhead" });
  const sideName = h("b", {}), sideGenre = h("span", { class: "mv-kind" }), sideNear = h("div", { class: "mv-near" });
  const example = imageOf.reduce((best, image, i) => (image >= 0 && distance(i) < distance(best) ? i : best), 0); // until one is chosen
  const again = () => (selected >= 0 ? play(selected) : place ? playPlace() : play(example));
  const sideButton = playButton("the chosen clip", () => (voice.playing ? voice.stop(0) : again()));
  const shot = h("div", { class: "mv-shotbox mv-empty" }, sideImage, sideHead);
  const side = h("div", { class: "mv-side" }, shot,
    h("div", { class: "mv-bar" }, sideButton, h("div", { class: "mv-what" }, sideName, sideGenre)), sideNear);
  const plot = h("div", { class: "mv-plot" }, canvas, zooms, tip);
  const title = model.get("title");
  el.append(h("div", { class: "mv-card mv-map" },
    h("div", { class: "mv-bar mv-tools" }, title ? h("span", { class: "mv-title" }, title) : null,
      h("span", { class: "mv-axes-choice" }, select(0, "horizontal axis"), select(1, "vertical axis")),
      h("span", { class: "mv-switches" }, ...toggles)),
    h("div", { class: "mv-body" }, plot, side), legend, live));

  // --- geometry --------------------------------------------------------------------------------------------------
  function bounds() {
    let [x0, x1, y0, y1] = [Infinity, -Infinity, Infinity, -Infinity];
    const ends = arrows.flatMap(({ from, to }) => [[from[ax], from[ay]], [to[ax], to[ay]]]);
    for (let i = 0; i < n + ends.length; i++) {
      const [x, y] = i < n ? [coordinate(i, ax), coordinate(i, ay)] : ends[i - n];
      x0 = Math.min(x0, x); x1 = Math.max(x1, x); y0 = Math.min(y0, y); y1 = Math.max(y1, y);
    }
    return [x0, x1, y0, y1];
  }
  function layout() {
    const width = canvas.clientWidth, height = canvas.clientHeight, margin = 34;
    const [x0, x1, y0, y1] = bounds(), cx = (x0 + x1) / 2, cy = (y0 + y1) / 2;
    const unit = zoom * Math.min((width - 2 * margin) / Math.max(x1 - x0, 1e-9), (height - 2 * margin) / Math.max(y1 - y0, 1e-9));
    view = {
      width, height, unit,
      x: (v) => width / 2 + (v - cx) * unit + pan[0], y: (v) => height / 2 - (v - cy) * unit + pan[1],
      back: (px, py) => [cx + (px - width / 2 - pan[0]) / unit, cy - (py - height / 2 - pan[1]) / unit],
      at: (i) => [view.x(coordinate(i, ax)), view.y(coordinate(i, ay))],
    };
    return view;
  }
  const ours = () => grid && grid.axes && grid.axes[0] === ax && grid.axes[1] === ay;
  function cellAt([x, y]) {
    if (!ours()) return -1;
    const near = (values, v) => values.reduce((best, w, q) => (Math.abs(w - v) < Math.abs(values[best] - v) ? q : best), 0);
    return near(grid.y, y) * grid.x.length + near(grid.x, x);
  }
  function nearest(px, py, reach) {
    let best = -1, least = reach * reach;
    for (let i = 0; i < n; i++) {
      if (!shown.has(genre[i])) continue;
      const [x, y] = view.at(i), d = (x - px) ** 2 + (y - py) ** 2;
      if (d < least) { least = d; best = i; }
    }
    return best;
  }
  function neighbours(i, count = 4) {
    const found = [];
    for (let j = 0; j < n; j++) {
      if (j === i || (tracks.length && tracks[j] === tracks[i])) continue;
      let d = 0;
      for (let q = 0; q < k; q++) d += (coordinate(i, q) - coordinate(j, q)) ** 2;
      found.push([d, j]);
    }
    return found.sort((a, b) => a[0] - b[0]).slice(0, count).map(([, j]) => j);
  }

  // --- painting --------------------------------------------------------------------------------------------------
  const mosaic = new Map();
  function tile(q) {
    if (!mosaic.has(q)) {
      const image = new Image();
      image.onload = paint;
      image.src = url(`g${q}`, gridImages[q]);
      mosaic.set(q, image);
    }
    const image = mosaic.get(q);
    return image.complete && image.naturalWidth ? image : null;
  }
  const base = document.createElement("canvas"); // all that does not move with the pointer or the sound
  function paint(all = true) {
    stale ||= all !== false;
    if (!frame) frame = requestAnimationFrame(() => { frame = 0; paintNow(); });
  }
  const glow = () => paint(false);
  function paintNow() {
    if (!canvas.clientWidth) return;
    layout();
    if (stale || base.width !== canvas.width) paintPlane();
    stale = false;
    const c = sharp(canvas, view.width, view.height);
    c.save();
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.drawImage(base, 0, 0);
    c.restore();
    paintFocus(c, colours(el));
  }
  const radius = () => clamp(Math.sqrt((view.width * view.height) / Math.max(n, 1)) / 9, 3, 6) * clamp(Math.sqrt(zoom), 1, 1.6);
  function paintPlane() {
    const colour = colours(el), c = sharp(base, view.width, view.height), { width, height } = view, paper = colour("paper");
    c.font = "12px system-ui, sans-serif";
    if (flags.mosaic && ours()) {
      const [dx, dy] = [grid.x, grid.y].map((v) => view.unit * (v.length > 1 ? v[1] - v[0] : 1));
      c.globalAlpha = 0.55;
      grid.y.forEach((gy, b) => grid.x.forEach((gx, a) => {
        const image = gridImages[b * grid.x.length + a] && tile(b * grid.x.length + a);
        if (image) c.drawImage(image, view.x(gx) - dx / 2 + 1, view.y(gy) - dy / 2 + 1, dx - 2, dy - 2);
      }));
      c.globalAlpha = 1;
    }
    // zero lines and ticks
    const raw = 90 / view.unit, power = 10 ** Math.floor(Math.log10(raw));
    const step = power * ([1, 2, 5].find((m) => m * power >= raw) ?? 10);
    const [left, up] = view.back(0, 0), [right, down] = view.back(width, height);
    const text = (v) => String(+v.toFixed(6)).replace("-", "−"), put = labels(c, canvas, width, height), ticks = [];
    c.lineWidth = 1;
    c.strokeStyle = colour("grid");
    c.globalAlpha = flags.mosaic ? 0.3 : 1;
    c.beginPath();
    for (let v = Math.ceil(left / step) * step; v < right; v += step) {
      const px = Math.round(view.x(v)) + 0.5;
      c.moveTo(px, 0); c.lineTo(px, height);
      ticks.push([text(v), px, height - 6, "center"]);
    }
    for (let v = Math.ceil(down / step) * step; v < up; v += step) {
      const py = Math.round(view.y(v)) + 0.5;
      c.moveTo(0, py); c.lineTo(width, py);
      ticks.push([text(v), 5, py - 3, "left"]);
    }
    c.stroke();
    c.globalAlpha = 1;
    c.font = "600 12px system-ui, sans-serif";
    c.fillStyle = colour("text");
    c.textAlign = "right"; c.textBaseline = "alphabetic";
    put(`${shortened(c, axisName(ax), width - 40)} →`, width - 8, height - 22, { paper });
    c.textAlign = "left";
    put(`↑ ${shortened(c, axisName(ay), width - 40)}`, 8, 16, { paper });
    c.font = "12px system-ui, sans-serif";
    c.fillStyle = colour("muted");
    for (const [words, px, py, align] of ticks) { // the names of the axes come first; a tick gives way
      c.textAlign = align;
      put(words, px, py);
    }
    c.font = "600 12px system-ui, sans-serif";
    if (flags.ellipses) {
      for (const g of shown) {
        const members = [];
        for (let i = 0; i < n; i++) if (genre[i] === g) members.push([coordinate(i, ax), coordinate(i, ay)]);
        const e = ellipse(members);
        if (!e) continue;
        c.beginPath();
        c.ellipse(view.x(e.x), view.y(e.y), e.r1 * view.unit, e.r2 * view.unit, -e.angle, 0, 7);
        c.fillStyle = c.strokeStyle = fills[g];
        c.globalAlpha = lit === g ? 0.22 : lit >= 0 ? 0.02 : 0.07;
        c.fill();
        c.globalAlpha = lit === g ? 1 : lit >= 0 ? 0.15 : 0.55;
        c.lineWidth = lit === g ? 2 : 1.25;
        c.stroke();
        c.globalAlpha = 1;
      }
    }
    const r = radius();
    const paths = genres.map((_, g) => mark(markers[g], r));
    c.lineWidth = 1;
    for (let i = 0; i < n; i++) {
      if (!shown.has(genre[i])) continue;
      const [x, y] = view.at(i), path = paths[genre[i]];
      c.globalAlpha = lit >= 0 && lit !== genre[i] ? 0.12 : 0.88;
      c.translate(x, y);
      c.fillStyle = fills[genre[i]]; c.fill(path);
      c.strokeStyle = edges[genre[i]]; c.stroke(path);
      c.translate(-x, -y);
    }
    c.globalAlpha = 1;
    for (const { from, to, label } of arrows) arrow(view.x(from[ax]), view.y(from[ay]), view.x(to[ax]), view.y(to[ay]), label);
    function arrow(x0, y0, x1, y1, label) {
      const a = Math.atan2(y1 - y0, x1 - x0);
      c.strokeStyle = c.fillStyle = colour("text"); c.lineWidth = 2;
      c.beginPath(); c.moveTo(x0, y0); c.lineTo(x1 - 6 * Math.cos(a), y1 - 6 * Math.sin(a)); c.stroke();
      c.beginPath(); c.moveTo(x1, y1);
      for (const turn of [2.7, -2.7]) c.lineTo(x1 + 10 * Math.cos(a + turn), y1 + 10 * Math.sin(a + turn));
      c.fill();
      c.textAlign = x1 < x0 ? "right" : "left";
      if (label) put(label, x1 + 7 * Math.cos(a), y1 + 14 * Math.sin(a) + 4, { paper });
    }
  }
  function paintFocus(c, colour) {
    const r = radius();
    const focus = hover >= 0 ? hover : selected;
    if (flags.paths && focus >= 0 && tracks.length) {
      c.strokeStyle = colour("text"); c.lineWidth = 1.5; c.globalAlpha = 0.7;
      c.beginPath();
      let first = true;
      for (let i = 0; i < n; i++) {
        if (tracks[i] !== tracks[focus]) continue;
        if (first) c.moveTo(...view.at(i)); else c.lineTo(...view.at(i));
        first = false;
      }
      c.stroke();
      c.globalAlpha = 1;
    }
    for (const i of new Set([selected, hover])) {
      if (i < 0) continue;
      const [x, y] = view.at(i);
      c.translate(x, y);
      c.fillStyle = fills[genre[i]]; c.fill(mark(markers[genre[i]], r * 1.7));
      c.lineWidth = 2.5; c.strokeStyle = colour("text"); c.stroke(mark(markers[genre[i]], r * 1.7));
      c.translate(-x, -y);
    }
    if (voice.playing && (selected >= 0 || place)) {
      const [x, y] = selected >= 0 ? view.at(selected) : [view.x(place[0]), view.y(place[1])];
      const grow = still() ? 0.3 : (pulse % 1.2) / 1.2;
      c.beginPath(); c.arc(x, y, r * (2 + 2.5 * grow), 0, 7);
      c.strokeStyle = colour("accent"); c.lineWidth = 2; c.globalAlpha = still() ? 1 : 1 - grow; c.stroke();
      c.globalAlpha = 1;
    }
    if (place) {
      const x = view.x(place[0]), y = view.y(place[1]);
      c.strokeStyle = colour("accent"); c.lineWidth = 2;
      c.beginPath(); c.arc(x, y, 7, 0, 7); c.moveTo(x - 12, y); c.lineTo(x + 12, y); c.moveTo(x, y - 12); c.lineTo(x, y + 12); c.stroke();
    }
  }
  function icons() {
    const colour = colours(el), text = colour("text"), paper = colour("paper");
    const dark = mix(paper, paper, 0).match(/\d+/g).reduce((sum, v) => sum + +v, 0) < 384;
    fills = palette.map((p) => (dark && "#bd1f01 #832db6 #717581 #a96b59".includes(p) ? mix(p, "#ffffff", 0.25) : p));
    edges = fills.map((p) => mix(mix(p, p, 0), text, 0.45));
    entries.forEach(({ icon }, g) => {
      const c = icon.getContext("2d");
      c.setTransform(1, 0, 0, 1, 0, 0);
      c.clearRect(0, 0, 32, 32);
      c.translate(16, 16);
      c.fillStyle = fills[g]; c.fill(mark(markers[g], 10));
      c.lineWidth = 2; c.strokeStyle = edges[g]; c.stroke(mark(markers[g], 10));
    });
  }

  // --- playing ---------------------------------------------------------------------------------------------------
  let patience = 0;
  const voice = new Voice({
    onframe: (t) => {
      sideHead.style.left = `${clamp((100 * t) / (voice.duration || 1), 0, 100)}%`;
      pulse = t;
      if (voice.playing && !still()) glow();
    },
    onstate: (on) => { sideButton.show(on); side.classList.toggle("mv-on", on); model.set("playing", on); model.save_changes(); glow(); },
  });
  function play(i) {
    choose(i);
    const mp3 = sounds[soundOf[i] ?? -1];
    if (!mp3) return;
    voice.load([mp3]);
    return sound(el, names[i], voice.play(0));
  }
  function choose(i, tell = true) {
    selected = i;
    place = null;
    if (i >= 0) {
      show(imageURL(i));
      sideName.textContent = names[i];
      sideGenre.textContent = genres[genre[i]];
      sideNear.replaceChildren(h("span", {}, "nearest"), ...neighbours(i).map((j) => h("button", {
        type: "button", class: "mv-chip", title: genres[genre[j]], onclick: () => play(j) },
        h("i", { style: `background:${palette[genre[j]]}` }), names[j])));
      live.textContent = `${names[i]}, ${genres[genre[i]]}`;
    }
    el.dataset.selected = i >= 0 ? names[i] : "";
    if (tell) { model.set("selected", i); model.save_changes(); }
    glow();
  }
  function playPlace(at = place) {
    const q = cellAt(at), known = q >= 0 && (gridSounds[q] || gridImages[q]), asks = model.get("asks") && !model.static;
    if (!known && !asks) {
      live.textContent = "no clip here";
      return;
    }
    selected = -1;
    hover = -1;
    tip.hidden = true;
    place = known && !asks ? [grid.x[q % grid.x.length], grid.y[Math.floor(q / grid.x.length)]] : at;
    sideName.textContent = "decoded, no clip here";
    sideGenre.textContent = [ax, ay].map((j, q) => `${plain(j)}: ${place[q].toFixed(2)}`).join(", ");
    sideNear.replaceChildren();
    live.textContent = `decoded, no clip here: ${sideGenre.textContent}`;
    el.dataset.selected = "decoded";
    model.set("selected", -1);
    model.set("place", [ax, ay, ...place]);
    model.save_changes();
    paint();
    const stored = () => known && hear(gridSounds[q], gridImages[q] && url(`g${q}`, gridImages[q]));
    if (!asks) return stored();
    voice.stop();
    clearTimeout(patience);
    patience = setTimeout(stored, 4000); // no kernel after all
    return undefined;
  }
  function show(src) {
    sideImage.src = src || BLANK;
    shot.classList.toggle("mv-empty", !src);
  }
  function hear(mp3, src) {
    show(src);
    if (!mp3) return;
    voice.load([mp3]);
    return sound(el, "decoded", voice.play(0));
  }
  const BLANK = "data:image/gif;base64,R0lGODlhAQABAAAAACH5BAEKAAEALAAAAAABAAEAAAICTAEAOw==";

  // --- pointer and keys ------------------------------------------------------------------------------------------
  const spot = (event) => { const box = canvas.getBoundingClientRect(); return [event.clientX - box.left, event.clientY - box.top]; };
  function showTip(i, [px, py]) {
    tip.hidden = i < 0;
    if (i < 0) return;
    const src = imageURL(i);
    tip.replaceChildren(src ? h("img", { src, alt: "" }) : "", h("b", {}, names[i]), h("span", {}, genres[genre[i]]));
    const w = tip.offsetWidth, tall = tip.offsetHeight;
    tip.style.left = `${clamp(px + 16 + w > view.width ? px - 16 - w : px + 16, 0, Math.max(0, view.width - w))}px`;
    tip.style.top = `${clamp(py - tall - 12 < 0 ? py + 18 : py - tall - 12, 0, Math.max(0, view.height - tall))}px`;
  }
  let drag = null;
  canvas.addEventListener("pointermove", (event) => {
    if (!view) return;
    const at = spot(event);
    if (drag) {
      const move = [at[0] - drag.from[0], at[1] - drag.from[1]];
      if (Math.hypot(...move) > 5) drag.moved = true;
      if (drag.moved && zoom > 1) { pan = [drag.pan[0] + move[0], drag.pan[1] + move[1]]; tip.hidden = true; paint(); return; }
    }
    if (event.pointerType === "touch") return;
    const i = nearest(...at, 14);
    if (i !== hover) {
      hover = i;
      showTip(i, i >= 0 ? view.at(i) : at);
      if (i >= 0 && flags.hover && stage.context) play(i);
      glow();
    }
    canvas.style.cursor = i >= 0 ? "pointer" : drag?.moved ? "grabbing" : ours() ? "crosshair" : "default";
  });
  canvas.addEventListener("pointerleave", () => { hover = -1; tip.hidden = true; glow(); });
  canvas.addEventListener("pointerdown", (event) => { if (!event.button) drag = { from: spot(event), pan: [...pan], moved: false }; });
  canvas.addEventListener("pointerup", (event) => {
    const was = drag;
    drag = null;
    if (!was || (was.moved && zoom > 1) || !view) return;
    const at = spot(event), i = nearest(...at, event.pointerType === "touch" ? 26 : 14);
    if (i < 0) return playPlace(view.back(...at));
    if (event.pointerType === "touch") { hover = -1; tip.hidden = true; }
    play(i);
  });
  canvas.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    rescale(Math.exp(-event.deltaY / 300), spot(event));
  }, { passive: false });
  function rescale(factor, at = [view.width / 2, view.height / 2]) {
    const next = clamp(zoom * factor, 1, 24), f = next / zoom, centre = [view.width / 2, view.height / 2];
    pan = [0, 1].map((q) => (next === 1 ? 0 : at[q] - centre[q] - (at[q] - centre[q] - pan[q]) * f));
    zoom = next;
    canvas.style.touchAction = zoom > 1 ? "none" : "";
    paint();
  }
  function reset() { zoom = 1; pan = [0, 0]; tip.hidden = true; canvas.style.touchAction = ""; paint(); }
  function step(dx, dy) {
    layout();
    if (selected < 0 || !shown.has(genre[selected])) return nearest(view.width / 2, view.height / 2, Infinity);
    const [x0, y0] = view.at(selected);
    let best = -1, least = Infinity;
    for (let i = 0; i < n; i++) {
      if (i === selected || !shown.has(genre[i])) continue;
      const [x, y] = view.at(i), ahead = (x - x0) * dx + (y - y0) * dy, aside = Math.abs((x - x0) * dy - (y - y0) * dx);
      if (ahead <= 0.01 || aside > 2 * ahead) continue;
      const cost = ahead + 2 * aside;
      if (cost < least) { least = cost; best = i; }
    }
    return best < 0 ? selected : best;
  }
  canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const move = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (move && event.shiftKey && ours()) {
      const from = selected >= 0 ? [coordinate(selected, ax), coordinate(selected, ay)] : view.back(view.width / 2, view.height / 2);
      const wide = grid.x.length, q = cellAt(place ?? from), [dx, dy] = place ? move : [0, 0];
      const column = clamp((q % wide) + dx, 0, wide - 1), row = clamp(Math.floor(q / wide) - dy, 0, grid.y.length - 1);
      playPlace([grid.x[column], grid.y[row]]);
    } else if (move) {
      const i = step(...move);
      if (i >= 0) { choose(i); showTip(i, view.at(i)); if (flags.hover) play(i); }
    } else if (event.key === "Enter" || event.key === " ") {
      if (voice.playing) voice.stop(0); else again();
    } else if (event.key === "Escape") { voice.stop(0); tip.hidden = true; hover = -1; glow(); }
    else if (event.key === "+" || event.key === "=") rescale(1.5);
    else if (event.key === "-") rescale(1 / 1.5);
    else if (event.key === "0") reset();
    else return;
    event.preventDefault();
  });
  canvas.addEventListener("blur", () => { tip.hidden = true; });

  // --- the kernel's side -----------------------------------------------------------------------------------------
  const follow = () => { if (model.get("selected") !== selected && model.get("selected") >= 0) choose(model.get("selected"), false); };
  const answer = () => {
    clearTimeout(patience);
    const png = bytes(model.get("answer_image"));
    hear(bytes(model.get("answer_sound")).slice(), png.length ? picture(png.slice()) : "");
  };
  model.on("change:selected", follow);
  model.on("change:answer", answer);
  const end = watch(el, () => { icons(); paint(); });
  sideName.textContent = names[example];
  sideGenre.textContent = genres[genre[example]];
  sideNear.append(
    h("span", {}, `Click a point to ${sounds.length ? "hear" : "see"} it` +
      (gridSounds.length ? ", an empty place to hear what the decoder makes of it." : ".")),
    h("span", { class: "mv-keys" }, "Arrow keys walk from clip to clip, Enter plays, Escape stops" +
      (gridSounds.length ? "; with Shift, arrows walk where no clip is." : ".")));
  show(imageURL(example));
  icons();
  paintNow();
  if (selected >= 0) choose(selected, false);
  return () => {
    end();
    cancelAnimationFrame(frame);
    clearTimeout(patience);
    model.off("change:selected", follow);
    model.off("change:answer", answer);
    voice.stop();
    urls.forEach((u) => u && URL.revokeObjectURL(u));
  };
}

export default widget(draw);
