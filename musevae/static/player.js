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
    const say = (t) => { time.textContent = `${t.toFixed(1)} / ${seconds(durations[i])}`; };
    const voice = new Voice({
      onframe: (t) => { view.show(t); say(t); if (!voice.playing) tell(i, t); },
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
    const card = h("figure", { class: "mv-card" },
      h("figcaption", { class: "mv-bar" }, button, h("span", { class: "mv-title", title }, title), time), view.frame);
    say(0);
    row.append(card);
    return { voice, view };
  });

  let own = false, last = 0;
  function tell(i, t, on = cards[i].voice.playing) {
    if (performance.now() - last < 100 && on === model.get("playing")) return;
    own = true;
    last = performance.now();
    model.set("selected", i);
    model.set("position", t);
    model.set("playing", on);
    model.save_changes();
    own = false;
  }
  const follow = () => { if (!own) cards[model.get("selected")]?.voice.seek(model.get("position")); };
  model.on("change:position", follow);
  el.append(row);
  return () => {
    model.off("change:position", follow);
    cards.forEach(({ voice, view }) => { voice.stop(); view.free(); });
  };
}

export default widget(draw);
