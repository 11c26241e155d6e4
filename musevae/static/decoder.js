// The decoder of a model with a global code, from a code to a sound, in typed arrays: no page, no network, no framework.
//
// Python puts this text, behind that of fourier-transform.js, into one function, `musevaeEngine` (`musevae.widgets.live.engine`);
// the page calls it, and a worker is made of the same text. What each step does is said, and done, in the Python module of the
// same name in the comments; `tests/test_live.py` compares the two step by step.
//
// Pictures are rows of bands (low first) × frames. Sums run in double precision: it costs a typed array nothing.

// --- what is carried: float16 tensors end to end, and a manifest that names them -----------------------------------------

/** Float16 numbers of bytes, widened. */
function halves(bytes) {
  const bits = new Uint16Array(bytes.slice().buffer), out = new Float64Array(bits.length);
  for (let i = 0; i < bits.length; i++) {
    const e = (bits[i] >> 10) & 31, f = bits[i] & 1023, sign = bits[i] & 0x8000 ? -1 : 1;
    out[i] = sign * (e === 31 ? (f ? NaN : Infinity) : e ? 2 ** (e - 25) * (1024 + f) : 2 ** -24 * f);
  }
  return out;
}

/** Eight hexadecimal digits of bytes: FNV-1a of 32 bits, to find a page that was cut or changed. */
function checksum(bytes) {
  let hash = 0x811c9dc5;
  for (let i = 0; i < bytes.length; i++) hash = Math.imul(hash ^ bytes[i], 0x01000193);
  return (hash >>> 0).toString(16).padStart(8, "0");
}

/** Tensors by name: {name: {shape, data}}. What is not as the manifest says is refused with one line. */
function unpack(manifest, bytes) {
  const { tensors, checksum: wanted } = manifest, size = (shape) => shape.reduce((a, b) => a * b, 1);
  const whole = 2 * tensors.reduce((sum, [, shape]) => sum + size(shape), 0);
  if (bytes.length !== whole) throw new Error(`weights: expected ${whole} bytes, got ${bytes.length}; was the page cut?`);
  if (checksum(bytes) !== wanted) throw new Error(`weights: expected the checksum ${wanted}, got ${checksum(bytes)}; was the page changed?`);
  const found = {};
  let at = 0;
  for (const [name, shape] of tensors) {
    const data = halves(bytes.subarray(at, at += 2 * size(shape)));
    if (!data.every(Number.isFinite)) throw new Error(`weights: expected finite numbers in ${name}, got NaN or infinity`);
    found[name] = { shape, data };
  }
  return found;
}

// --- small linear algebra ------------------------------------------------------------------------------------------------

/** Rows of weights `w (rows, columns)` in blocks of four, column by column: what `product` reads in a line. */
function packed({ shape: [rows, ...rest], data }) {
  const columns = rest.reduce((a, b) => a * b, 1), blocks = Math.ceil(rows / 4), out = new Float64Array(blocks * columns * 4);
  for (let r = 0; r < rows; r++) for (let c = 0; c < columns; c++) out[((r >> 2) * columns + c) * 4 + (r & 3)] = data[r * columns + c];
  return { rows, columns, data: out };
}

/** w · x + bias: w packed, x (columns, n) → (rows, n), in tiles of four rows and two columns, which stay in registers. */
function product({ rows, columns, data: w }, x, n, bias, out = new Float64Array(rows * n)) {
  const pair = new Float64Array(2 * columns); // two columns of x side by side, so that both factors are read in a line
  for (let t = 0; t < n; t += 2) {
    const two = t + 1 < n ? 1 : 0;
    for (let j = 0, q = t; j < columns; j++, q += n) { pair[2 * j] = x[q]; pair[2 * j + 1] = x[q + two]; }
    for (let r = 0; r < rows; r += 4) {
      let a0 = 0, a1 = 0, a2 = 0, a3 = 0, c0 = 0, c1 = 0, c2 = 0, c3 = 0;
      for (let p = r * columns, q = 0, end = p + 4 * columns; p < end; p += 4, q += 2) {
        const u = pair[q], v = pair[q + 1], w0 = w[p], w1 = w[p + 1], w2 = w[p + 2], w3 = w[p + 3];
        a0 += w0 * u; a1 += w1 * u; a2 += w2 * u; a3 += w3 * u;
        c0 += w0 * v; c1 += w1 * v; c2 += w2 * v; c3 += w3 * v;
      }
      for (let k = 0, o = r * n + t; k < 4 && r + k < rows; k++, o += n) {
        const b = bias ? bias[r + k] : 0;
        out[o] = b + (k < 2 ? (k ? a1 : a0) : k < 3 ? a2 : a3);
        if (two) out[o + 1] = b + (k < 2 ? (k ? c1 : c0) : k < 3 ? c2 : c3);
      }
    }
  }
  return out;
}

/** The inverse of a matrix given as rows. */
function inverse(rows) {
  const n = rows.length, all = rows.map((row, i) => [...row, ...rows.map((_, j) => +(i === j))]);
  for (let c = 0; c < n; c++) {
    let best = c;
    for (let r = c; r < n; r++) if (Math.abs(all[r][c]) > Math.abs(all[best][c])) best = r;
    [all[c], all[best]] = [all[best], all[c]];
    all[c] = all[c].map((v) => v / all[c][c]);
    for (let r = 0; r < n; r++) if (r !== c) all[r] = all[r].map((v, q) => v - all[r][c] * all[c][q]);
  }
  return all.map((row) => row.slice(n));
}

// A convolution with five taps, four frames at a time, by 8 multiplications instead of 20 (Toom and Cook; in networks: Winograd). Taps g and
// four numbers h are polynomials, whose product has eight coefficients: it is known by its values at seven points and at infinity, and these
// values are products of theirs. With V the powers of the points: g * h = V⁻¹ (V g · V h). The correlation of d with g is that, transposed.
const POINTS = [0, 1, -1, 2, -2, 0.5, -0.5], TAPS = 5, AT_ONCE = 4, SEEN = TAPS + AT_ONCE - 1;
const powers = (columns) => [...POINTS.map((v) => Array.from({ length: columns }, (_, c) => v ** c)), Array.from({ length: columns }, (_, c) => +(c === columns - 1))];
const OF_TAPS = powers(TAPS), BACK = powers(AT_ONCE).map((row) => Float64Array.from(row));
const AHEAD = ((v) => v.map((_, p) => Float64Array.from(v, (row) => row[p])))(inverse(powers(SEEN)));

/** The taps (rows, columns, 5) of a convolution as `convolved` wants them: of each point one packed matrix. */
function packedTaps({ shape: [rows, columns], data }) {
  return OF_TAPS.map((taps) => packed({ shape: [rows, columns],
    data: Float64Array.from({ length: rows * columns }, (_, i) => taps.reduce((sum, v, k) => sum + v * data[TAPS * i + k], 0)) }));
}

/** A convolution in time, centred: w of `packedTaps`, x (columns, n) → (rows, n); nothing lies beyond the ends. */
function convolved(w, x, n, bias) {
  const [{ rows, columns }] = w, tiles = Math.ceil(n / AT_ONCE), from = columns * tiles, to = rows * tiles, half = TAPS >> 1;
  const seen = new Float64Array(SEEN * from), made = new Float64Array(SEEN * to), out = new Float64Array(rows * n);
  const d = new Float64Array(AT_ONCE * tiles + TAPS - 1);
  for (let c = 0; c < columns; c++) {
    for (let t = 0; t < n; t++) d[t + half] = x[c * n + t];
    for (let p = 0; p < SEEN; p++) {
      const [b0, b1, b2, b3, b4, b5, b6, b7] = AHEAD[p];
      for (let i = 0, o = p * from + c * tiles, s = 0; i < tiles; i++, o++, s += AT_ONCE) {
        seen[o] = b0 * d[s] + b1 * d[s + 1] + b2 * d[s + 2] + b3 * d[s + 3] + b4 * d[s + 4] + b5 * d[s + 5] + b6 * d[s + 6] + b7 * d[s + 7];
      }
    }
  }
  w.forEach((one, p) => product(one, seen.subarray(p * from, (p + 1) * from), tiles, null, made.subarray(p * to, (p + 1) * to)));
  for (let r = 0; r < rows; r++) {
    out.fill(bias[r], r * n, (r + 1) * n);
    for (let p = 0; p < SEEN; p++) for (let i = 0; i < tiles; i++) {
      const v = made[p * to + r * tiles + i], first = AT_ONCE * i, many = Math.min(AT_ONCE, n - first);
      for (let k = 0; k < many; k++) out[r * n + first + k] += BACK[p][k] * v;
    }
  }
  return out;
}

/** GELU by the error function (Abramowitz and Stegun 7.1.26: within 1.5e-7), in place. */
function gelu(x) {
  for (let i = 0; i < x.length; i++) {
    const v = x[i], z = Math.abs(v) * Math.SQRT1_2, t = 1 / (1 + 0.3275911 * z);
    const tail = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429)))) * Math.exp(-z * z);
    x[i] = v > 0 ? v * (1 - tail / 2) : (v * tail) / 2;
  }
  return x;
}

/** The orthonormal DCT-II: row l is the cosine of l half-periods. `vae.linear.cosine_basis` */
function cosineBasis(n) {
  const out = new Float64Array(n * n);
  for (let l = 0; l < n; l++) for (let t = 0; t < n; t++) out[l * n + t] = Math.cos((Math.PI / n) * l * (t + 0.5)) * Math.sqrt((l ? 2 : 1) / n);
  return out;
}

/** Hat functions over 0 … n − 1: (knots, n). `vae.globalcode.hats` */
function hats(n, knots, logarithmic) {
  const place = (i) => (logarithmic ? Math.log1p(i) : i), step = place(n - 1) / (knots - 1), out = new Float64Array(knots * n);
  for (let k = 0; k < knots; k++) for (let i = 0; i < n; i++) out[k * n + i] = Math.max(0, 1 - Math.abs(place(i) - k * step) / step);
  return out;
}

/** A stream of numbers in [0, 1) that a seed decides: mulberry32. */
function random(seed) {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

// --- from a code to a picture --------------------------------------------------------------------------------------------

class Decoder {
  /** `manifest` and `bytes` as Python exports them (`musevae.live.export_decoder`). */
  constructor(manifest, bytes) {
    const { spec, units, knots, blocks, width } = manifest, tensors = unpack(manifest, bytes), frames = spec.frames, bands = spec.n_mels;
    Object.assign(this, { manifest, spec, units, knots, bound: manifest.bound, bands, frames, tensors, latentDim: manifest.latent_dim });
    const get = (name, ...shape) => {
      const found = tensors[name];
      if (!found || found.shape.join() !== shape.join()) {
        throw new Error(`weights: expected ${name} of shape ${shape.join(" × ")}, got ${found ? found.shape.join(" × ") : "none"}`);
      }
      return found;
    };
    const [overK, overL, overF] = knots, hidden = manifest.hidden, places = manifest.index.length;
    this.mlp = [[units, hidden], [hidden, hidden], [hidden, 2 * bands + overK * overL + overF]].map(([from, to], i) =>
      ({ w: packed(get(`code.${i}.weight`, to, from)), b: get(`code.${i}.bias`, to).data }));
    this.profile = get("profile", bands).data;
    this.components = get("bands", bands, bands);
    this.logSpread = get("log_spread", bands, frames).data;
    this.logScale = get("log_scale", bands, frames).data;
    if (places !== this.latentDim - units) throw new Error(`weights: expected ${this.latentDim - units} kept places, got ${places}`);
    this.index = Int32Array.from(manifest.index);
    this.noise = manifest.noise;
    this.cosines = cosineBasis(frames);
    this.overK = hats(bands, overK, true);
    this.overL = hats(frames, overL, true);
    this.overF = hats(bands, overF, false);
    this.transposed = packed({ shape: [bands, bands], data: Float64Array.from({ length: bands * bands },
      (_, i) => this.components.data[(i % bands) * bands + Math.floor(i / bands)]) });
    this.filter = blocks && {
      stem: packedTaps(get("stem.weight", width, bands, 5)), stemBias: get("stem.bias", width).data,
      blocks: Array.from({ length: blocks }, (_, i) => ({
        mix: get(`${i}.mix.weight`, width, 7).data, mixBias: get(`${i}.mix.bias`, width).data,
        up: packed(get(`${i}.up.weight`, 2 * width, width)), upBias: get(`${i}.up.bias`, 2 * width).data,
        down: packed(get(`${i}.down.weight`, width, 2 * width)), downBias: get(`${i}.down.bias`, width).data,
        gain: get(`${i}.gain`, width).data,
      })),
      head: packedTaps(get("head.weight", bands, width, 5)), headBias: get("head.bias", bands).data, width,
    };
  }

  /** A code as numbers, or one line that says what is wrong with it. */
  checked(z) {
    if (z.length !== this.latentDim) throw new Error(`z: expected ${this.latentDim} numbers, got ${z.length}`);
    if (!Array.prototype.every.call(z, Number.isFinite)) throw new Error("z: expected finite numbers, got NaN or infinity");
    return z;
  }

  /** What a global code moves: {centre, logScale (bands, frames), logGain}. `vae.globalcode.GlobalCode.fields` */
  fields(g) {
    const { bands, frames, bound, knots: [overK, overL, overF], mlp } = this;
    const last = mlp.reduce((x, { w, b }, i) => { const y = product(w, x, 1, b); return i < 2 ? gelu(y) : y; }, Float64Array.from(g));
    const bounded = (v) => bound * Math.tanh(v / bound), scaleAt = 2 * bands, gainAt = scaleAt + overK * overL;
    const centre = new Float64Array(bands), logScale = new Float64Array(bands * frames), logGain = new Float64Array(bands);
    const rows = new Float64Array(overK * frames);
    for (let p = 0; p < overK; p++) for (let q = 0; q < overL; q++) {
      const v = bounded(last[scaleAt + p * overL + q] / 2);
      for (let t = 0; t < frames; t++) rows[p * frames + t] += v * this.overL[q * frames + t];
    }
    for (let k = 0; k < bands; k++) {
      centre[k] = last[k] * Math.exp(this.logSpread[k * frames]);
      for (let p = 0; p < overK; p++) {
        const hat = this.overK[p * bands + k];
        if (hat) for (let t = 1; t < frames; t++) logScale[k * frames + t] += hat * rows[p * frames + t];
      }
      logScale[k * frames] = bounded(last[bands + k] / 2);
      for (let q = 0; q < overF; q++) logGain[k] += bounded(last[gainAt + q]) * this.overF[q * bands + k];
    }
    return { centre, logScale, logGain };
  }

  /** Standard deviation of the signal at kept place i, given the fields. `vae.globalcode.wiener` */
  weight(i, moved) {
    const at = this.index[i], total = Math.exp(2 * (this.logSpread[at] + moved.logScale[at]));
    return Math.sqrt(Math.max(total - Math.min(total, this.noise), 1e-6 * this.noise));
  }

  /** The picture whose coefficients are `grid (bands, frames)`. */
  pictureOf(grid) {
    const { bands, frames, cosines } = this, inTime = new Float64Array(bands * frames);
    for (let k = 0; k < bands; k++) for (let l = 0; l < frames; l++) {
      const c = grid[k * frames + l];
      if (c) for (let t = 0; t < frames; t++) inTime[k * frames + t] += c * cosines[l * frames + t];
    }
    return product(this.transposed, inTime, frames);
  }

  /** The picture of a code before link and filter. `vae.globalcode.GlobalDecoder.mean_picture` */
  linear(z, moved = this.fields(z.slice(0, this.units))) {
    const { bands, frames, units, index } = this, grid = new Float64Array(bands * frames);
    for (let k = 0; k < bands; k++) grid[k * frames] = moved.centre[k];
    for (let i = 0; i < index.length; i++) grid[index[i]] += z[units + i] * this.weight(i, moved);
    const h = this.pictureOf(grid);
    for (let f = 0; f < bands; f++) {
      const gain = Math.exp(moved.logGain[f]);
      for (let t = f * frames; t < (f + 1) * frames; t++) h[t] = h[t] * gain + this.profile[f];
    }
    return h;
  }

  /** The pre-activation whose picture is h. `vae.parts.softplus_link` */
  link(h) {
    const slope = (this.spec.top_db / 20) * Math.LN10;
    return h.map((v) => {
      const m = Math.exp(Math.min(80, Math.max(-80, (v - 1) * slope)));
      return m + Math.log(-Math.expm1(-m));
    });
  }

  /** The correction of a picture. `vae.networks.TimeFilter` */
  correction(h) {
    const { filter, bands, frames: n } = this;
    if (!filter) return new Float64Array(bands * n);
    const { width } = filter, u = convolved(filter.stem, h.map((v) => 4 * v - 2), n, filter.stemBias);
    for (const { mix, mixBias, up, upBias, down, downBias, gain } of filter.blocks) {
      const mixed = new Float64Array(width * n);
      for (let c = 0; c < width; c++) for (let t = 0; t < n; t++) {
        let sum = mixBias[c];
        for (let k = Math.max(0, 3 - t); k < Math.min(7, n + 3 - t); k++) sum += mix[c * 7 + k] * u[c * n + t + k - 3];
        mixed[c * n + t] = sum;
      }
      const added = product(down, gelu(product(up, mixed, n, upBias)), n, downBias);
      for (let c = 0; c < width; c++) for (let t = c * n; t < (c + 1) * n; t++) u[t] += gain[c] * added[t];
    }
    return convolved(filter.head, gelu(u), n, filter.headBias);
  }

  /** The picture of a pre-activation, clipped to [0, 1]. `vae.VAE.picture` */
  finish(a) {
    const slope = 20 / this.spec.top_db / Math.LN10;
    return a.map((v) => Math.min(1, Math.max(0, 1 + slope * Math.log(Math.max(1e-30, v > 30 ? v : Math.log1p(Math.exp(v)))))));
  }

  /** The picture x̂ of a code: `how` is "mean", "linear" (no filter) or "grain" (the model's noise drawn, from `seed`). */
  picture(z, { how = "mean", seed = 0 } = {}) {
    const moved = this.fields(this.checked(z).slice(0, this.units)), h = this.linear(z, moved), a = this.link(h);
    if (how !== "linear") {
      const more = this.correction(h);
      for (let i = 0; i < a.length; i++) a[i] += 4 * more[i];
    }
    const x = this.finish(a);
    return how === "grain" ? this.grained(x, moved, seed) : x;
  }

  /** Log of the noise's scale at every place. `vae.globalcode.GlobalColour.field` */
  noiseScale(moved) {
    const { logScale, logSpread } = this, out = logScale.map((v, i) => v + moved.logScale[i]);
    for (const i of this.index) out[i] = Math.min(logSpread[i] + moved.logScale[i], logScale[i]);
    return out;
  }

  /** A draw of the noise around a picture. `vae.coloured.Coloured.draw` */
  noisePicture(moved, seed) {
    const next = random(seed), { frames } = this;
    const grid = this.noiseScale(moved).map((scale) => Math.exp(scale) * Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next()));
    return this.pictureOf(grid).map((v, i) => v * Math.exp(moved.logGain[Math.floor(i / frames)]));
  }

  /** A picture with noise, clipped to [0, 1] as data are. */
  grained(x, moved, seed) {
    const e = this.noisePicture(moved, seed);
    return x.map((v, i) => Math.min(1, Math.max(0, v + e[i])));
  }
}

// --- from a picture to a sound -------------------------------------------------------------------------------------------

class Vocoder {
  /** `spec`: the fields of a `MelSpec`, with `frames` and `samples`. */
  constructor(spec) {
    const { n_fft: n, sample_rate: rate, n_mels: bands } = spec, bins = 1 + n / 2;
    if (n & (n - 1)) throw new Error(`n_fft: expected a power of two, got ${n}`);
    Object.assign(this, { spec, bins, window: Float64Array.from({ length: n }, (_, i) => 0.5 - 0.5 * Math.cos((2 * Math.PI * i) / n)) });
    const htk = spec.scale === "htk", log64 = Math.log(6.4);
    const toMel = (f) => (htk ? 2595 * Math.log10(1 + f / 700) : f < 1000 ? (f * 3) / 200 : 15 + (27 * Math.log(f / 1000)) / log64);
    const toHz = (m) => (htk ? 700 * (10 ** (m / 2595) - 1) : m < 15 ? (m * 200) / 3 : 1000 * Math.exp(((m - 15) * log64) / 27));
    const edges = Array.from({ length: bands + 2 }, (_, i) => toHz((toMel(rate / 2) * i) / (bands + 1)));
    const hz = (b) => (b * rate) / n;
    this.rows = edges.slice(2).map((high, m) => { // of each band: where its triangle begins, and its values
      const low = edges[m], mid = edges[m + 1], from = Math.ceil((low * n) / rate), values = [];
      for (let b = from; b < bins && hz(b) < high; b++) values.push((2 / (high - low)) * Math.max(0, Math.min((hz(b) - low) / (mid - low), (high - hz(b)) / (high - mid))));
      return { from, values: Float64Array.from(values) };
    });
    this.area = Float64Array.from(this.rows, ({ values }) => Math.max(1e-12, values.reduce((a, b) => a + b, 0)));
    this.share = new Float64Array(bins);
    for (const { from, values } of this.rows) values.forEach((v, i) => { this.share[from + i] += v; });
    const centres = edges.slice(1, -1);
    this.mix = Array.from({ length: bins }, (_, b) => {
      const f = hz(b);
      let below = 0;
      while (below < Math.max(0, bands - 2) && centres[below + 1] <= f) below++;
      const way = (f - centres[below]) / ((centres[below + 1] ?? Infinity) - centres[below]);
      return [below, Math.min(1, Math.max(0, way))];
    });
  }

  /** Mel power of a picture; x ≤ 0 is nothing at all. `MelSpec.power` */
  power(x, refDb) {
    return x.map((v) => (v > 0 ? 10 ** (((v - 1) * this.spec.top_db + refDb) / 10) : 0));
  }

  /** Linear magnitude, frame by frame (frames, bins), closest in mel power to columns `from` … `to` of `power`. `mel.kl_nnls` */
  magnitude(power, frames, { from = 0, to = frames, iterations = 30 } = {}) {
    const { rows, area, share, mix, bins } = this, bands = rows.length, tiny = 1e-37;
    const out = new Float64Array((to - from) * bins), mel = new Float64Array(bands), ratio = new Float64Array(bands), density = new Float64Array(bands);
    const pull = new Float64Array(bins);
    let least = 0;
    for (let m = 0; m < bands; m++) for (let t = 0; t < frames; t++) least = Math.max(least, power[m * frames + t] / area[m]);
    least = Math.max(tiny, least * 1e-12);
    for (let t = from; t < to; t++) {
      const linear = out.subarray((t - from) * bins, (t - from + 1) * bins);
      for (let m = 0; m < bands; m++) {
        mel[m] = power[m * frames + t];
        density[m] = Math.log(Math.max(least, mel[m] / area[m]));
      }
      for (let b = 0; b < bins; b++) {
        const [m, way] = mix[b];
        linear[b] = Math.exp(density[m] + way * (density[Math.min(m + 1, bands - 1)] - density[m]));
      }
      for (let round = 0; round < iterations; round++) {
        for (let m = 0; m < bands; m++) {
          const { from: first, values } = rows[m];
          let sum = 0;
          for (let i = 0; i < values.length; i++) sum += values[i] * linear[first + i];
          ratio[m] = mel[m] / Math.max(tiny, sum);
        }
        pull.fill(0);
        for (let m = 0; m < bands; m++) {
          const { from: first, values } = rows[m], r = ratio[m];
          for (let i = 0; i < values.length; i++) pull[first + i] += values[i] * r;
        }
        for (let b = 0; b < bins; b++) linear[b] *= pull[b] / Math.max(1e-12, share[b]);
      }
      for (let b = 0; b < bins; b++) linear[b] = Math.sqrt(linear[b]);
    }
    return out;
  }

  /** Phases to begin with, (frames, bins), the same for the same seed. A frame's phases do not depend on how many there are. */
  phases(first, count, seed = 0) {
    const { bins } = this, out = new Float64Array(count * bins);
    for (let t = 0; t < count; t++) {
      const next = random(seed * 1000003 + first + t);
      for (let b = 0; b < bins; b++) out[t * bins + b] = 2 * Math.PI * next();
    }
    return out;
  }

  /** Fast Griffin-Lim: a sound of so many samples, the first frame centred on sample 0. `vocoder.griffin_lim` */
  sound(magnitude, samples, phase, options = {}) { return finished(this.sounding(magnitude, samples, phase, options)); }

  /** The same, with a rest after every iteration. */
  * sounding(magnitude, samples, phase, { iterations = 32, momentum = 0.99 } = {}) {
    const { bins, window, spec: { n_fft: n, hop } } = this, frames = magnitude.length / bins, half = n / 2;
    const long = Math.max((frames - 1) * hop + n, samples + n), y = new Float64Array(long), weight = new Float64Array(long);
    for (let t = 0; t < frames; t++) for (let i = 0; i < n; i++) weight[t * hop + i] += window[i] * window[i];
    const re = magnitude.map((m, i) => m * Math.cos(phase[i])), im = magnitude.map((m, i) => m * Math.sin(phase[i]));
    const beforeRe = new Float64Array(re.length), beforeIm = new Float64Array(re.length), frame = new Float64Array(n);
    const share = momentum / (1 + momentum);
    const back = () => {
      y.fill(0);
      for (let t = 0; t < frames; t++) {
        ifft(re.subarray(t * bins, (t + 1) * bins), im.subarray(t * bins, (t + 1) * bins), frame);
        for (let i = 0, p = t * hop; i < n; i++, p++) y[p] += window[i] * frame[i];
      }
      for (let p = 0; p < long; p++) y[p] = p < half || p >= half + samples || weight[p] < 1e-11 ? 0 : y[p] / weight[p];
    };
    for (let round = 0; round < iterations; round++) {
      back();
      for (let t = 0; t < frames; t++) {
        for (let i = 0, p = t * hop; i < n; i++, p++) frame[i] = window[i] * y[p];
        const [real, imaginary] = fft(frame);
        for (let b = 0, q = t * bins; b < bins; b++, q++) {
          const u = real[b] - share * beforeRe[q], v = imaginary[b] - share * beforeIm[q], size = magnitude[q] / Math.max(1e-300, Math.sqrt(u * u + v * v));
          beforeRe[q] = real[b]; beforeIm[q] = imaginary[b];
          re[q] = u * size; im[q] = v * size;
        }
      }
      yield;
    }
    back();
    return Float32Array.from(y.subarray(half, half + samples));
  }

  /** Root mean square of the sound behind a mel power, before it is made: the sum of its bins, by Parseval. */
  level(power, frames) {
    const { mix, area, bins, spec: { n_fft: n } } = this, last = area.length - 1, step = 4; // every fourth frame will do
    let sum = 0, count = 0;
    for (let t = 0; t < frames; t += step, count++) for (let b = 0; b < bins; b++) {
      const [m, way] = mix[b], next = Math.min(m + 1, last);
      sum += ((1 - way) * power[m * frames + t]) / area[m] + (way * power[next * frames + t]) / area[next];
    }
    return Math.sqrt((2 * sum) / count / ((3 / 8) * n * n)); // Hann: the mean of its square is 3/8
  }

  /** A whole window's sound, or of frames `from` … `to` of it, with rests. */
  * playing(x, { refDb = 0, from = 0, to = this.spec.frames, seed = 0, nnls = 40, iterations = 32 } = {}) {
    if (!Array.prototype.every.call(x, Number.isFinite)) throw new Error("x: expected finite numbers, got NaN or infinity");
    const { frames, hop, samples } = this.spec, power = this.power(x, refDb), magnitude = new Float64Array((to - from) * this.bins);
    for (let t = from; t < to; t += 16) { // some frames at a time
      magnitude.set(this.magnitude(power, frames, { from: t, to: Math.min(t + 16, to), iterations: nnls }), (t - from) * this.bins);
      yield;
    }
    const whole = to - from === frames;
    return yield* this.sounding(magnitude, whole ? samples : (to - from - 1) * hop, this.phases(from, to - from, seed), { iterations });
  }

  /** The same, at once. */
  play(x, options = {}) { return finished(this.playing(x, options)); }
}

/** What a generator returns, without its rests. */
function finished(steps) {
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}

// --- who answers ---------------------------------------------------------------------------------------------------------

const MARGIN = 2; // frames on each side of a grain that are made and not heard: a Fourier frame is four hops long
const EDGE = 0.01; // s of fade at either end of a sound

/** Raise both ends of a sound from silence, in a line. */
function fade(y, rate) {
  const n = Math.min(Math.round(EDGE * rate), y.length >> 1);
  for (let i = 0; i < n; i++) { y[i] *= i / n; y[y.length - 1 - i] *= i / n; }
  return y;
}

/** At −20 dB of full scale, or less where a peak would exceed 0.98 of it; silence stays silent. `widgets.media.matched` */
function levelled(y) {
  let sum = 0, peak = 0;
  for (const v of y) { sum += v * v; peak = Math.max(peak, Math.abs(v)); }
  const gain = sum > 0 ? Math.min(0.1 / Math.sqrt(sum / y.length), 0.98 / peak) : 0;
  return y.map((v) => v * gain);
}

/**
 * Answers requests, in a worker or on the page: {id, kind, version, z, how, seed, at}. A picture and a grain at once; a
 * window, or its first `frames`, in slices, so that what is asked later is answered in between, and given up once something of a later `version` was asked.
 */
class Desk {
  constructor(manifest, bytes, answer) {
    Object.assign(this, { decoder: new Decoder(manifest, bytes), vocoder: new Vocoder(manifest.spec), answer, version: -1, seen: {} });
    const { port1, port2 } = new MessageChannel(), waiting = [];
    port1.onmessage = () => waiting.shift()();
    this.rest = () => new Promise((next) => { waiting.push(next); port2.postMessage(0); }); // a timeout would rest for 4 ms
  }

  picture({ version, z, how, seed }) {
    if (this.seen.version !== version) this.seen = { version, x: this.decoder.picture(z, { how, seed }) };
    return this.seen.x;
  }

  async ask(job) {
    const { id, kind, version } = job, start = performance.now();
    this.version = Math.max(this.version, version);
    try {
      if (kind === "picture") this.answer({ id, kind, version, x: Float32Array.from(this.picture(job)), ms: performance.now() - start });
      else {
        const y = kind === "grain" ? finished(this.grain(job)) : await this.sliced(this.window(job), version);
        this.answer({ id, kind, version, y, ms: performance.now() - start });
      }
    } catch (error) {
      this.answer({ id, kind, version, error: String(error.message ?? error) });
    }
  }

  /** Run to the end, or give up (null). */
  async sliced(steps, version) {
    for (let start = performance.now(); ;) {
      const { done, value } = steps.next();
      if (done) return value;
      if (performance.now() - start < 12) continue;
      await this.rest();
      if (version < this.version) return null;
      start = performance.now();
    }
  }

  * window(job) {
    const { spec } = this.vocoder, y = yield* this.vocoder.playing(this.picture(job), { to: job.frames });
    return fade(levelled(y), spec.sample_rate);
  }

  /** About 0.3 s around frame `at`, at the level of the whole window, without its margins; it is looped, so its ends are one. */
  * grain(job) {
    const { vocoder } = this, { frames, hop, sample_rate: rate } = vocoder.spec, x = this.picture(job);
    const count = Math.min(frames, Math.round((0.3 * rate) / hop) + 1), from = Math.max(0, Math.min(frames - count, job.at - (count >> 1)));
    const [first, last] = [Math.max(0, from - MARGIN), Math.min(frames, from + count + MARGIN)];
    const y = yield* vocoder.playing(x, { from: first, to: last, nnls: 10, iterations: 16 });
    const heard = y.slice((from - first) * hop, (from - first + count - 1) * hop);
    const gain = 0.1 / Math.max(1e-9, vocoder.level(vocoder.power(x, 0), frames));
    let peak = 0;
    for (const v of heard) peak = Math.max(peak, Math.abs(v));
    const safe = peak * gain > 0.98 ? 0.98 / peak : gain;
    return fade(heard.map((v) => v * safe), rate);
  }
}
