// Mounts widgets on a page without a kernel, a network or a framework: the book's pages, and `standalone_html`'s.
//
// Every widget here is an anywidget: its model carries an ES module (`_esm`), a style sheet (`_css`) and its values.
// The page holds all models as JSON below the text (MyST-NB writes them), and a marker where each view belongs.
// This script imports each module from the page itself and hands it a model with the methods anywidget promises.
(() => {
  "use strict";
  const TYPE = "application/vnd.jupyter.widget-";
  const models = new Map(); // model id -> Model
  const modules = new Map(); // source -> promise of the module
  const styles = new Set();

  function bytes(base64) {
    const text = atob(base64);
    const out = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) out[i] = text.charCodeAt(i);
    return new DataView(out.buffer); // anywidget hands binary values over as DataViews
  }

  class Model {
    constructor(id, { state = {}, buffers = [], model_name = "" }) {
      Object.assign(this, { id, name: model_name, state, listeners: new Map(), waiting: new Map(), ready: null });
      this.static = true; // a widget may ask: nobody answers from a kernel
      for (const buffer of buffers) { // decoded when they are first asked for: sounds are most of a page
        const key = buffer.path[0];
        this.waiting.set(key, [...(this.waiting.get(key) ?? []), buffer]);
      }
    }

    get(key) {
      for (const { path, data } of this.waiting.get(key) ?? []) {
        let at = this.state;
        for (const step of path.slice(0, -1)) at = at[step];
        at[path.at(-1)] = bytes(data);
      }
      this.waiting.delete(key);
      return this.state[key];
    }

    set(key, value) {
      if (typeof key === "object") return Object.entries(key).forEach(([k, v]) => this.set(k, v));
      if (Object.is(this.get(key), value)) return;
      this.state[key] = value;
      this.trigger(`change:${key}`, this, value);
      this.trigger("change", this);
    }

    on(names, callback) {
      for (const name of names.split(/\s+/)) {
        if (!this.listeners.has(name)) this.listeners.set(name, new Set());
        this.listeners.get(name).add(callback);
      }
      return this;
    }

    off(names, callback) {
      for (const name of names ? names.split(/\s+/) : [...this.listeners.keys()]) {
        if (callback) this.listeners.get(name)?.delete(callback);
        else this.listeners.delete(name);
      }
      return this;
    }

    trigger(name, ...args) {
      for (const callback of [...(this.listeners.get(name) ?? [])]) callback(...args);
    }

    save_changes() {} // there is no kernel to tell
    send() {}

    get widget_manager() {
      return { get_model: async (id) => models.get(id.replace("IPY_MODEL_", "")) };
    }
  }

  function load(source) {
    if (!modules.has(source)) {
      const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
      modules.set(source, import(url).then(async (module) => {
        URL.revokeObjectURL(url);
        const widget = module.default ?? module; // `export default {render}`, a function making it, or bare exports
        return typeof widget === "function" ? widget() : widget;
      }));
    }
    return modules.get(source);
  }

  function style(css) {
    if (!css || styles.has(css)) return;
    styles.add(css);
    const element = document.createElement("style");
    element.textContent = css;
    document.head.append(element);
  }

  async function mount({ model, el }) {
    const widget = await load(model.get("_esm"));
    style(model.get("_css"));
    model.ready ??= Promise.resolve(widget.initialize?.({ model }));
    await model.ready;
    await widget.render?.({ model, el });
    el.dataset.mounted = "1";
    document.documentElement.dataset.firstWidget ??= String(Math.round(performance.now())); // ms since navigation
  }

  function fail(el, error) {
    el.classList.add("mv-failed");
    el.textContent = `This widget could not start: ${error.message ?? error}`;
    console.error(error);
  }

  // jslink and jsdlink: two values that follow each other
  function link({ name, state }) {
    if (!/^(Directional)?LinkModel$/.test(name)) return;
    const [a, b] = [state.source, state.target].map(([id, key]) => [models.get(id.replace("IPY_MODEL_", "")), key]);
    const follow = ([from, key], [to, other]) => {
      from.on(`change:${key}`, () => to.set(other, from.get(key)));
    };
    follow(a, b);
    b[0].set(b[1], a[0].get(a[1]));
    if (name === "LinkModel") follow(b, a);
  }

  async function start() {
    const state = document.querySelector(`script[type="${TYPE}state+json"]`);
    if (!state) return;
    for (const [id, model] of Object.entries(JSON.parse(state.textContent).state)) models.set(id, new Model(id, model));
    state.remove();
    models.forEach(link);
    for (const sheet of document.querySelectorAll(".mv-place > style")) { // of the rooms: below those of single widgets
      styles.add(sheet.textContent);
      document.head.append(sheet);
    }
    for (const marker of document.querySelectorAll(`script[type="${TYPE}view+json"]`)) {
      const model = models.get(JSON.parse(marker.textContent).model_id);
      const el = document.createElement("div");
      el.className = "mv-widget";
      marker.replaceWith(el);
      try {
        if (!model?.state._esm) throw new Error(model ? `${model.name} is not an anywidget` : "its state is not here");
        await mount({ model, el });
      } catch (error) {
        fail(el, error);
      }
      if (el.previousElementSibling?.matches(".mv-room")) el.previousElementSibling.remove(); // it stands in its place now
      await new Promise((done) => setTimeout(done)); // let the page breathe between two widgets
    }
    document.documentElement.dataset.widgets = "mounted";
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
