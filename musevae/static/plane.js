// The plane of the latent map: where things stand, and how they are painted. Functions of what they are given: numbers in,
// positions or pixels out. `map.js` keeps the state and the events.
//
// `clips`: what is on the map and never changes: {n, k, data, names, genres, genre, tracks, arrows, markers}.
// `axes`: [across, up], the two components drawn. `isShown(i)`: whether clip i is.
// `view`: the plane on the screen: {width, height, unit (px per unit of a coordinate), x, y, back}.

// A genre's colour and shape come from Python (`musevae.looks.genre_style`); the shapes go by matplotlib's letters.
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
const MARGIN = 34; // px around the clips: room for the names of the axes
const MOST_ZOOM = 24;

// --- colours -------------------------------------------------------------------------------------------------------

const rgb = (text) => (text[0] === "#" ? [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16))
  : text.match(/[\d.]+/g).slice(0, 3).map(Number));

/** A mix of two colours "#rrggbb" or "rgb(…)": `part` of b in a. */
export function mix(a, b, part) {
  const [p, q] = [rgb(a), rgb(b)];
  return `rgb(${p.map((v, k) => Math.round(v + (q[k] - v) * part)).join(" ")})`;
}

/** Relative luminance of a colour, 0 to 1, as WCAG 2 defines it. */
export function luminance(colour) {
  const [r, g, b] = rgb(colour).map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** Contrast of two colours, 1 to 21. */
export function contrast(a, b) {
  const [low, high] = [luminance(a), luminance(b)].sort((p, q) => p - q);
  return (high + 0.05) / (low + 0.05);
}

/** Colours of the genres' marks on a page of this `paper` and `text`: {fills, edges}. On a dark page, what is dim gets lighter. */
export function shades(palette, text, paper) {
  const dark = luminance(paper) < luminance(text), dim = (p) => contrast(p, paper) < 4.5; // WCAG's least contrast of text
  const fills = palette.map((p) => (dark && dim(p) ? mix(p, "#ffffff", 0.25) : p));
  return { fills, edges: fills.map((p) => mix(p, text, 0.45)) };
}

// --- geometry ------------------------------------------------------------------------------------------------------

/** Coordinate j of clip i. */
export const coordinate = (clips, i, j) => clips.data[i * clips.k + j];

/** Coordinates of clip i on the two axes. */
export const onAxes = (clips, i, [across, up]) => [coordinate(clips, i, across), coordinate(clips, i, up)];

/** What the plane has to show, clips and arrows: [least, most] across and up. */
export function bounds(clips, axes) {
  const points = clips.arrows.flatMap(({ from, to }) => [from, to]).map((end) => axes.map((j) => end[j]));
  for (let i = 0; i < clips.n; i++) points.push(onAxes(clips, i, axes));
  return [0, 1].map((q) => points.reduce(([least, most], p) => [Math.min(least, p[q]), Math.max(most, p[q])], [Infinity, -Infinity]));
}

/** The plane on a canvas of `width` × `height` px: one unit for both axes, so that what looks near is near. */
export function viewOf([[x0, x1], [y0, y1]], width, height, { zoom = 1, pan = [0, 0] } = {}) {
  const cx = (x0 + x1) / 2, cy = (y0 + y1) / 2;
  const fit = (room, span) => (room - 2 * MARGIN) / Math.max(span, 1e-9);
  const unit = zoom * Math.min(fit(width, x1 - x0), fit(height, y1 - y0));
  return {
    width, height, unit, zoom,
    x: (v) => width / 2 + (v - cx) * unit + pan[0], y: (v) => height / 2 - (v - cy) * unit + pan[1],
    back: (px, py) => [cx + (px - width / 2 - pan[0]) / unit, cy - (py - height / 2 - pan[1]) / unit],
  };
}

/** Where clip i stands, px. */
export function at(view, clips, i, axes) {
  const [x, y] = onAxes(clips, i, axes);
  return [view.x(x), view.y(y)];
}

/** Zoom and pan after a zoom by `factor` that leaves the place `spot` (px) where it is; whole again at zoom 1. */
export function rescaled({ zoom, pan }, factor, spot, width, height) {
  const next = clamp(zoom * factor, 1, MOST_ZOOM), f = next / zoom, centre = [width / 2, height / 2];
  return { zoom: next, pan: [0, 1].map((q) => (next === 1 ? 0 : spot[q] - centre[q] - (spot[q] - centre[q] - pan[q]) * f)) };
}

/** Radius of a mark, px: less of it where there are many, more where one looks close. */
export const radius = (view, n) => clamp(Math.sqrt((view.width * view.height) / Math.max(n, 1)) / 9, 3, 6)
  * clamp(Math.sqrt(view.zoom), 1, 1.6);

/** The shown clip nearest to a place (px), at most `reach` px away; −1 if there is none. */
export function nearest(view, clips, axes, [px, py], reach, isShown) {
  let best = -1, least = reach * reach;
  for (let i = 0; i < clips.n; i++) {
    if (!isShown(i)) continue;
    const [x, y] = at(view, clips, i, axes), d = (x - px) ** 2 + (y - py) ** 2;
    if (d < least) { least = d; best = i; }
  }
  return best;
}

/** The next shown clip from clip `from` in a direction [dx, dy] of the screen; `from` itself if there is none. */
export function next(view, clips, axes, from, [dx, dy], isShown) {
  const [x0, y0] = at(view, clips, from, axes);
  let best = from, least = Infinity;
  for (let i = 0; i < clips.n; i++) {
    if (i === from || !isShown(i)) continue;
    const [x, y] = at(view, clips, i, axes), ahead = (x - x0) * dx + (y - y0) * dy, aside = Math.abs((x - x0) * dy - (y - y0) * dx);
    const cost = ahead + 2 * aside;
    if (ahead > 0.01 && aside <= 2 * ahead && cost < least) { least = cost; best = i; }
  }
  return best;
}

/** The `count` clips nearest to clip i in all components, none of its own track. */
export function neighbours(clips, i, count = 4) {
  const { n, k, tracks } = clips, found = [];
  for (let j = 0; j < n; j++) {
    if (j === i || (tracks.length && tracks[j] === tracks[i])) continue;
    let d = 0;
    for (let q = 0; q < k; q++) d += (coordinate(clips, i, q) - coordinate(clips, j, q)) ** 2;
    found.push([d, j]);
  }
  return found.sort((a, b) => a[0] - b[0]).slice(0, count).map(([, j]) => j);
}

/** Mean, axes and angle of the ellipse that holds half of a Gaussian with the points' covariance; null for fewer than 3. */
export function ellipse(points) {
  const n = points.length;
  if (n < 3) return null;
  const mx = points.reduce((s, p) => s + p[0], 0) / n, my = points.reduce((s, p) => s + p[1], 0) / n;
  let a = 0, b = 0, d = 0;
  for (const [x, y] of points) { a += (x - mx) ** 2; b += (x - mx) * (y - my); d += (y - my) ** 2; }
  a /= n - 1; b /= n - 1; d /= n - 1;
  const mid = (a + d) / 2, half = Math.hypot((a - d) / 2, b);
  const k = Math.sqrt(2 * Math.log(2)); // the squared radius is exponential with mean 2: its median is 2 ln 2
  return { x: mx, y: my, r1: k * Math.sqrt(mid + half), r2: k * Math.sqrt(Math.max(0, mid - half)), angle: 0.5 * Math.atan2(2 * b, a - d) };
}

/** Round places of lines across the plane, about 90 px apart: {across, up}. */
export function ticks(view) {
  const raw = 90 / view.unit, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5].find((m) => m * power >= raw) ?? 10);
  const [left, top] = view.back(0, 0), [right, bottom] = view.back(view.width, view.height);
  const from = (low, high) => {
    const values = [];
    for (let v = Math.ceil(low / step) * step; v < high; v += step) values.push(v);
    return values;
  };
  return { across: from(left, right), up: from(bottom, top) };
}

// --- painting ------------------------------------------------------------------------------------------------------
// A `scene`: {clips, axes, view, axisNames, fills, edges, isShown, genres shown, lit, flags, grid, tile, colour}; `put` writes
// words where nothing stands yet (`labels` of core.js). `colour(name)` is a colour of the theme.

/** The outline of a marker with radius r px. */
export function mark(marker, r) {
  const path = new Path2D(), points = SHAPES[marker];
  if (!points) path.arc(0, 0, r, 0, 7);
  else points.forEach(([x, y], k) => (k ? path.lineTo(x * r, y * r) : path.moveTo(x * r, y * r)));
  path.closePath();
  return path;
}

function paintMark(c, path, [x, y], fill, edge) {
  c.translate(x, y);
  c.fillStyle = fill; c.fill(path);
  c.strokeStyle = edge; c.stroke(path);
  c.translate(-x, -y);
}

/** `words`, or as much of them as `room` px hold. */
function shortened(c, words, room) {
  let short = words;
  while (short && c.measureText(`${short}…`).width > room && c.measureText(short).width > room) short = short.slice(0, -1);
  return short === words ? words : `${short.trimEnd()}…`;
}

/** All that does not move with the pointer or the sound. */
export function paintPlane(c, scene, put) {
  c.font = "12px system-ui, sans-serif";
  if (scene.flags.mosaic && scene.grid) paintMosaic(c, scene);
  const words = paintLines(c, scene);
  paintAxisNames(c, scene, put);
  paintTicks(c, scene, put, words); // the names of the axes come first; a tick gives way
  c.font = "600 12px system-ui, sans-serif";
  if (scene.flags.ellipses) scene.shown.forEach((g) => paintEllipse(c, scene, g));
  paintClips(c, scene);
  for (const arrow of scene.clips.arrows) paintArrow(c, scene, put, arrow);
}

function paintMosaic(c, { grid, view, tile }) {
  const [dx, dy] = [grid.x, grid.y].map((v) => view.unit * (v.length > 1 ? v[1] - v[0] : 1));
  c.globalAlpha = 0.55;
  grid.y.forEach((y, b) => grid.x.forEach((x, a) => {
    const image = tile(b * grid.x.length + a);
    if (image) c.drawImage(image, view.x(x) - dx / 2 + 1, view.y(y) - dy / 2 + 1, dx - 2, dy - 2);
  }));
  c.globalAlpha = 1;
}

/** Lines at round places; returns their words: [text, x, y, align]. */
function paintLines(c, { view, flags, colour }) {
  const text = (v) => String(+v.toFixed(6)).replace("-", "−"), { across, up } = ticks(view), { width, height } = view, words = [];
  c.lineWidth = 1;
  c.strokeStyle = colour("grid");
  c.globalAlpha = flags.mosaic ? 0.3 : 1;
  c.beginPath();
  for (const v of across) {
    const px = Math.round(view.x(v)) + 0.5; // a line of one pixel
    c.moveTo(px, 0); c.lineTo(px, height);
    words.push([text(v), px, height - 6, "center"]);
  }
  for (const v of up) {
    const py = Math.round(view.y(v)) + 0.5;
    c.moveTo(0, py); c.lineTo(width, py);
    words.push([text(v), 5, py - 3, "left"]);
  }
  c.stroke();
  c.globalAlpha = 1;
  return words;
}

export function paintAxisNames(c, { view: { width, height }, axisNames, axisEnds = [], colour }, put) {
  const paper = colour("paper"), [across, up] = axisEnds, room = width - 40;
  const write = (align, words, x, y) => { c.textAlign = align; put(words, x, y, { paper }); };
  c.font = "600 12px system-ui, sans-serif";
  c.fillStyle = colour("text");
  c.textBaseline = "alphabetic";
  write("right", `${shortened(c, across?.[1] ?? axisNames[0], room)} →`, width - 8, height - 22);
  write("left", `↑ ${shortened(c, up?.[1] ?? axisNames[1], room)}`, 8, 16);
  if (across) write("left", `← ${shortened(c, across[0], room)}`, 8, height - 22);
  if (up) write("left", `↓ ${shortened(c, up[0], room)}`, 8, height - 40);
}

function paintTicks(c, { colour }, put, words) {
  c.font = "12px system-ui, sans-serif";
  c.fillStyle = colour("muted");
  for (const [text, px, py, align] of words) {
    c.textAlign = align;
    put(text, px, py);
  }
}

function paintEllipse(c, { clips, axes, view, fills, lit }, g) {
  const members = [];
  for (let i = 0; i < clips.n; i++) if (clips.genre[i] === g) members.push(onAxes(clips, i, axes));
  const e = ellipse(members);
  if (!e) return;
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

function paintClips(c, { clips, axes, view, fills, edges, lit, isShown }) {
  const paths = clips.markers.map((marker) => mark(marker, radius(view, clips.n)));
  c.lineWidth = 1;
  for (let i = 0; i < clips.n; i++) {
    if (!isShown(i)) continue;
    const g = clips.genre[i];
    c.globalAlpha = lit >= 0 && lit !== g ? 0.12 : 0.88;
    paintMark(c, paths[g], at(view, clips, i, axes), fills[g], edges[g]);
  }
  c.globalAlpha = 1;
}

function paintArrow(c, { axes: [across, up], view, colour }, put, { from, to, label }) {
  const [x0, y0, x1, y1] = [view.x(from[across]), view.y(from[up]), view.x(to[across]), view.y(to[up])];
  const a = Math.atan2(y1 - y0, x1 - x0);
  c.strokeStyle = c.fillStyle = colour("text"); c.lineWidth = 2;
  c.beginPath(); c.moveTo(x0, y0); c.lineTo(x1 - 6 * Math.cos(a), y1 - 6 * Math.sin(a)); c.stroke();
  c.beginPath(); c.moveTo(x1, y1);
  for (const turn of [2.7, -2.7]) c.lineTo(x1 + 10 * Math.cos(a + turn), y1 + 10 * Math.sin(a + turn));
  c.fill();
  c.textAlign = x1 < x0 ? "right" : "left";
  if (label) put(label, x1 + 7 * Math.cos(a), y1 + 14 * Math.sin(a) + 4, { paper: colour("paper") });
}

/** What moves: `focus` is {hover, selected, place (or null), sounding, pulse (s), calm}. */
export function paintFocus(c, scene, focus) {
  const { clips, axes, view, fills, colour } = scene, { hover, selected, place, ends } = focus, r = radius(view, clips.n);
  if (scene.flags.paths && clips.tracks.length) paintPath(c, scene, hover >= 0 ? hover : selected);
  for (const i of new Set([selected, hover])) {
    if (i < 0) continue;
    c.lineWidth = 2.5;
    paintMark(c, mark(clips.markers[clips.genre[i]], r * 1.7), at(view, clips, i, axes), fills[clips.genre[i]], colour("text"));
  }
  const spot = place && [view.x(place[0]), view.y(place[1])];
  if (focus.sounding && (selected >= 0 || place)) paintPulse(c, scene, selected >= 0 ? at(view, clips, selected, axes) : spot, r, focus);
  if (place) paintPlace(c, scene, spot);
  ends.forEach((i, q) => { if (i >= 0) paintEnd(c, scene, at(view, clips, i, axes), "AB"[q], r); });
}

/** A letter beside a clip that has been taken as A or B. */
function paintEnd(c, { colour }, [x, y], letter, r) {
  c.font = "bold 14px system-ui, sans-serif"; c.textAlign = "left"; c.textBaseline = "bottom";
  c.lineWidth = 4; c.strokeStyle = colour("paper"); c.fillStyle = colour("text");
  c.strokeText(letter, x + r, y - r); c.fillText(letter, x + r, y - r);
}

/** The windows of the clip that window i belongs to, joined in time. */
function paintPath(c, { clips, axes, view, colour }, i) {
  if (i < 0) return;
  c.strokeStyle = colour("text"); c.lineWidth = 1.5; c.globalAlpha = 0.7;
  c.beginPath();
  for (let j = 0; j < clips.n; j++) if (clips.tracks[j] === clips.tracks[i]) c.lineTo(...at(view, clips, j, axes));
  c.stroke();
  c.globalAlpha = 1;
}

/** A ring that grows every 1.2 s while it sounds; a still one for those who asked for less motion. */
function paintPulse(c, { colour }, spot, r, { pulse, calm }) {
  const grow = calm ? 0.3 : (pulse % 1.2) / 1.2;
  c.beginPath(); c.arc(...spot, r * (2 + 2.5 * grow), 0, 7);
  c.strokeStyle = colour("accent"); c.lineWidth = 2; c.globalAlpha = calm ? 1 : 1 - grow; c.stroke();
  c.globalAlpha = 1;
}

function paintPlace(c, { colour }, [x, y]) {
  c.strokeStyle = colour("accent"); c.lineWidth = 2;
  c.beginPath(); c.arc(x, y, 7, 0, 7); c.moveTo(x - 12, y); c.lineTo(x + 12, y); c.moveTo(x, y - 12); c.lineTo(x, y + 12); c.stroke();
}

/** A genre's mark on a canvas of 32 × 32 px, for the legend. */
export function paintIcon(c, marker, fill, edge) {
  c.setTransform(1, 0, 0, 1, 0, 0);
  c.clearRect(0, 0, 32, 32);
  c.lineWidth = 2;
  paintMark(c, mark(marker, 10), [16, 16], fill, edge);
}
