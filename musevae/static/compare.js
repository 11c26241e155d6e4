// The same five seconds, two ways (or more): one key or click switches by ear, at the same position. `musevae.widgets.Compare`

function draw(model, el) {
  const labels = model.get("labels"), duration = model.get("duration"), top = model.get("sample_rate") / 2;
  const images = parts(model.get("images"), model.get("images_end"));
  const letters = labels.map((_, i) => String.fromCharCode(65 + i));
  const voice = new Voice({
    loop: true,
    onframe: (t) => { views.forEach((v) => v.show(t)); clock(time, t, duration); },
    onstate: (on) => { button.show(on); el.firstChild?.classList.toggle("mv-on", on); tell(); },
  }).load(parts(model.get("sounds"), model.get("sounds_end")));
  const start = (t) => sound(el, labels[voice.active], voice.play(t));
  const toggle = () => (voice.playing ? voice.stop() : start());
  const keys = (event) => {
    const i = letters.indexOf(event.key.toUpperCase());
    if (i < 0) return false;
    choose(i);
    return true;
  };
  function choose(i) {
    voice.choose(i);
    show();
    if (voice.playing) el.dataset.played = labels[i];
    live.textContent = labels[i];
    tell();
  }
  function show() {
    switches.forEach((s, i) => s.setAttribute("aria-pressed", String(i === voice.active)));
    cards.forEach((card, i) => card.classList.toggle("mv-chosen", i === voice.active));
  }
  function tell() {
    model.set("selected", voice.active);
    model.set("position", voice.position);
    model.set("playing", voice.playing);
    model.save_changes();
  }
  const button = playButton(model.get("title") || labels.join(" and "), toggle);
  const time = h("span", { class: "mv-time" });
  const live = h("span", { class: "mv-unseen", "aria-live": "polite" });
  const switches = labels.map((label, i) => h("button", {
    type: "button", class: "mv-switch", "aria-pressed": "false", "aria-keyshortcuts": letters[i], onclick: () => choose(i),
  }, h("kbd", {}, letters[i]), label));
  const views = labels.map((label, i) => spectrogram({
    png: images[i], label, duration, top, toggle, keys,
    seek: (t, press) => { if (press) choose(i); return voice.playing || press ? start(t) : voice.seek(t); },
  }));
  const cards = views.map((view, i) => h("div", { class: "mv-side-by" },
    h("div", { class: "mv-label" }, h("b", {}, letters[i]), labels[i]), view.frame));
  const row = h("div", { class: "mv-row" }, ...cards);
  row.style.setProperty("--mv-n", labels.length);
  const title = model.get("title");
  const box = h("div", { class: "mv-card mv-compare", role: "group", "aria-label": title || `compare ${labels.join(" and ")}` },
    h("div", { class: "mv-bar" }, button, h("div", { class: "mv-switches" }, ...switches),
      title ? h("span", { class: "mv-title" }, title) : null, time, live), row);
  box.addEventListener("keydown", (event) => {
    if (event.target.classList.contains("mv-spec") || event.ctrlKey || event.metaKey || event.altKey) return;
    if (keys(event)) event.preventDefault();
  });
  voice.active = clamp(model.get("selected"), 0, labels.length - 1);
  show();
  const follow = () => { if (model.get("selected") !== voice.active) choose(model.get("selected")); };
  model.on("change:selected", follow);
  clock(time, 0, duration);
  el.append(box);
  return () => { model.off("change:selected", follow); voice.stop(); views.forEach((v) => v.free()); };
}

export default widget(draw);
