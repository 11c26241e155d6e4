// One sound or several in a row, each under its spectrogram. `musevae.widgets.Player` and `.Players`.

function draw(model, el) {
  const titles = model.get("titles"), durations = model.get("durations"), top = model.get("sample_rate") / 2;
  const sounds = parts(model.get("sounds"), model.get("sounds_end"));
  const images = parts(model.get("images"), model.get("images_end"));
  const wide = titles.length === 1;
  const row = h("div", { class: "mv-row", role: wide ? null : "group", "aria-label": wide ? null : "players" });
  row.style.setProperty("--mv-n", titles.length);
  const cards = titles.map((title, i) => {
    const name = title || "clip";
    const voice = new Voice({
      onframe: (t) => { view.show(t); clock(time, t, durations[i]); if (!voice.playing) tell(i, t); },
      onstate: (on) => { button.show(on); card.classList.toggle("mv-on", on); tell(i, voice.position, on); },
    }).load([sounds[i]]);
    const start = (t) => { tell(i, t ?? voice.at, true); return sound(el, name, voice.play(t)); };
    const toggle = () => (voice.playing ? voice.stop() : start());
    const button = playButton(name, toggle);
    const view = spectrogram({
      png: images[i], label: name, duration: durations[i], top, toggle, axes: true,
      seek: (t, press) => (voice.playing || press ? start(t) : voice.seek(t)),
    });
    const time = h("span", { class: "mv-time" });
    const card = h("div", { class: "mv-card" },
      h("div", { class: "mv-bar" }, button, h("span", { class: "mv-title", title }, title), time), view.frame);
    clock(time, 0, durations[i]);
    row.append(card);
    return { voice, view };
  });

  // what Python sees: at once when something starts or stops, a little later while a playhead is dragged
  let own = false, timer = 0;
  function tell(i, t, on = cards[i].voice.playing) {
    clearTimeout(timer);
    const send = () => {
      own = true;
      model.set("selected", i);
      model.set("position", t);
      model.set("playing", on);
      model.save_changes();
      own = false;
    };
    if (on !== model.get("playing")) send(); else timer = setTimeout(send, 120);
  }
  const follow = () => { if (!own) cards[model.get("selected")]?.voice.seek(model.get("position")); };
  model.on("change:position", follow);
  el.append(row);
  return () => {
    clearTimeout(timer);
    model.off("change:position", follow);
    cards.forEach(({ voice, view }) => { voice.stop(); view.free(); });
  };
}

export default widget(draw);
