// From clip A to clip B, step by step under a slider; the sound goes on while the slider moves. `musevae.widgets.Morph`

function draw(model, el) {
  const labels = model.get("labels"), duration = model.get("duration"), top = model.get("sample_rate") / 2;
  const images = parts(model.get("images"), model.get("images_end")), n = images.length;
  const [first, last] = [labels[0], labels.at(-1)]; // a label for every stop, or one for each end
  const between = (i) => (i === 0 ? first : i === n - 1 ? last : `${Math.round((100 * i) / (n - 1))} % of the way`);
  const name = labels.length === n ? (i) => labels[i] : between;
  const voice = new Voice({
    loop: true,
    onframe: (t) => { view.show(t); clock(time, t, duration); },
    onstate: (on) => { button.show(on); tell(); },
  }).load(parts(model.get("sounds"), model.get("sounds_end")));
  const start = (t) => sound(el, name(voice.active), voice.play(t));
  const toggle = () => (voice.playing ? voice.stop() : start());
  function choose(i) {
    voice.choose(i);
    view.paint(images[i]);
    slider.value = i;
    slider.setAttribute("aria-valuetext", name(i));
    slider.style.setProperty("--mv-at", `${(100 * i) / (n - 1)}%`);
    where.textContent = name(i);
    if (voice.playing) el.dataset.played = name(i);
    tell();
  }
  function tell() {
    model.set("selected", voice.active);
    model.set("position", voice.position);
    model.set("playing", voice.playing);
    model.save_changes();
  }
  const title = model.get("title");
  const button = playButton(title || `${first} to ${last}`, toggle);
  const time = h("span", { class: "mv-time" });
  const where = h("output", { class: "mv-where" });
  const view = spectrogram({
    png: images[0], label: title || "morph", duration, top, toggle,
    seek: (t, press) => (voice.playing || press ? start(t) : voice.seek(t)),
  });
  const slider = h("input", { type: "range", class: "mv-slider", min: 0, max: n - 1, step: 1, value: 0,
    "aria-label": `from ${first} to ${last}` });
  slider.addEventListener("input", () => choose(+slider.value));
  slider.addEventListener("keydown", (event) => {
    if (event.key === " " || event.key === "Enter") { event.preventDefault(); toggle(); }
  });
  const ticks = h("div", { class: "mv-ticks", "aria-hidden": "true" }, ...images.map(() => h("i")));
  el.append(h("div", { class: "mv-card mv-morph", role: "group", "aria-label": title || `morph from ${first} to ${last}` },
    h("div", { class: "mv-bar" }, button, title ? h("span", { class: "mv-title" }, title) : null, where, time), view.frame,
    h("div", { class: "mv-ends" }, h("span", {}, first), h("div", { class: "mv-track" }, ticks, slider), h("span", {}, last))));
  clock(time, 0, duration);
  choose(clamp(model.get("selected"), 0, n - 1));
  const follow = () => { if (model.get("selected") !== voice.active) choose(model.get("selected")); };
  model.on("change:selected", follow);
  return () => { model.off("change:selected", follow); voice.stop(); view.free(); };
}

export default widget(draw);
