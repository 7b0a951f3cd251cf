// The radiograph viewer. Runs as the body of gr.HTML's js_on_load with (element, trigger, props,
// server, upload, watch); explorer/viewer.py describes the value it draws. No library, no network.
const root = element.querySelector(".rv");
root.setAttribute("aria-label", props.region || "Radiographs");

const PRESETS = { full: ["Full range", null], auto: ["Auto contrast", [0.01, 0.995]],
  lungs: ["Lungs", [0.01, 0.55]], dense: ["Mediastinum, bones", [0.45, 0.999]] };
const TRUTH = "#5ce1ff";
const REMEMBERED = "cxr-viewer";
const state = { views: [], pictures: [], value: {}, x: 0.5, y: 0.5, zoom: 1, low: 0, high: 255,
  preset: "full", invert: false, overlay: true, opacity: 0.6, shared: false, truth: false,
  peek: false, pan: false, lut: 0 };
const chosen = {};
try { Object.assign(state, JSON.parse(localStorage.getItem(REMEMBERED) || "{}")); } catch { /* private mode */ }
let cells = [], hovered = false, dirty = false, loading = 0, lut = null, colours = null;

// ---- Elements -------------------------------------------------------------------------------
function make(tag, attributes = {}, ...children) {
  const one = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) one.addEventListener(name.slice(2), value);
    else if (value !== null) one.setAttribute(name, value);
  }
  one.append(...children);
  return one;
}
const button = (label, key, title, act) => make("button",
  { type: "button", title: `${title} (${key})`, "aria-keyshortcuts": key, onclick: act,
    "aria-label": label.length > 1 ? null : title }, label);
const pick = (title, options, act) => make("select", { title, "aria-label": title, onchange: act },
  ...options.map(([value, label]) => make("option", { value }, label)));

const tools = {
  previous: button("‹", "P", "Previous study", () => trigger("previous_study")),
  next: button("›", "N", "Next study", () => trigger("next_study")),
  preset: pick("Window preset", [...Object.entries(PRESETS).map(([id, [label]]) => [id, label]),
    ["own", "Own window"]], () => { if (tools.preset.value !== "own") usePreset(tools.preset.value); }),
  invert: button("Invert", "I", "Invert grey levels", () => toggle("invert")),
  fit: button("Fit", "0", "Fit and reset the window", reset),
  pan: button("Pan", "M", "Drag moves the picture instead of the window; Shift-drag always does", () => toggle("pan")),
  overlay: button("Overlay", "O", "Show the map; hold Space for the original", () => toggle("overlay")),
  opacity: make("input", { type: "range", min: 0, max: 100, step: 5, title: "Opacity of the map ([ and ])",
    "aria-label": "Opacity of the map", oninput: () => setOpacity(tools.opacity.value / 100) }),
  truth: button("Truth", "G", "Show boxes and masks that readers drew", () => toggle("truth")),
  scale: pick("Scale of the colours (S)", [["own", "Scale per image"], ["shared", "Scale shared"]],
    () => setScale(tools.scale.value === "shared")),
  full: button("Full screen", "F", "Full screen", fullScreen),
  save: make("button", { type: "button", title: "Save what is shown as one picture (PNG)", onclick: save }, "Save"),
};
const bar = make("div", { class: "rv-tools", role: "toolbar", "aria-label": "Viewer" }, ...Object.values(tools));
const heading = make("div", { class: "rv-heading" });
const grid = make("div", { class: "rv-grid" });
const empty = make("div", { class: "rv-empty" });
const status = make("div", { class: "rv-status" });
const probe = make("span", { class: "rv-probe" });
const where = make("span");
const said = make("span", { class: "rv-said", "aria-live": "polite" });
const help = make("details", { class: "rv-keys" }, make("summary", {}, "Keys"), make("span", {},
  "Drag: window (sideways) and level (up, down). Shift-drag, right or middle button: pan. Wheel: zoom to pointer. " +
  "I invert · 0 fit · O overlay · Space (hold) original · [ ] opacity · G truth · S scale · N P study · " +
  "+ − zoom · arrows pan · Shift+arrows window · M drag pans · F full screen."));
status.append(where, help, probe, said);
root.replaceChildren(heading, bar, empty, grid, status);

function cell() {
  const canvas = make("canvas", { role: "img" });
  const one = { canvas, context: canvas.getContext("2d", { alpha: false }), scratch: make("canvas"), tint: make("canvas"),
    title: make("div", { class: "rv-title" }), bar: make("div", { class: "rv-bar" }),
    facts: make("dl"), notes: make("div", { class: "rv-notes" }) };
  one.box = make("figure", {}, one.title, make("div", { class: "rv-stage" }, canvas), one.bar,
    make("figcaption", {}, one.facts, one.notes));
  listen(one);
  sizes.observe(canvas);
  return one;
}
const sizes = new ResizeObserver(() => redraw());

// ---- The value ------------------------------------------------------------------------------
async function unpack(text) {
  const packed = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}
async function unpackPicture(packed) {
  const kept = state.pictures.find((one) => one.packed === packed.data);
  if (kept) return kept;
  const { width, height, bits } = packed;
  const buffer = await unpack(packed.data);
  const data = bits === 16 ? new Uint16Array(buffer) : new Uint8Array(buffer);
  for (let row = 0, at = 0; row < height; row++) {
    at++;
    for (let column = 1; column < width; column++, at++) data[at] += data[at - 1];
  }
  return { width, height, bits, packed: packed.data, levels: pyramid({ width, height, data }) };
}
function pyramid(first) {
  const levels = [first];
  for (let last = first; Math.min(last.width, last.height) >= 256; ) {
    const width = last.width >> 1, height = last.height >> 1, from = last.data, wide = last.width;
    const data = new from.constructor(width * height);
    for (let row = 0, at = 0; row < height; row++) {
      for (let column = 0, up = 2 * row * wide; column < width; column++, at++, up += 2) {
        data[at] = (from[up] + from[up + 1] + from[up + wide] + from[up + wide + 1] + 2) >> 2;
      }
    }
    levels.push((last = { width, height, data }));
  }
  return levels;
}
async function load() {
  const mine = ++loading;
  try {
    const value = JSON.parse(props.value || "{}");
    const pictures = await Promise.all((value.pictures || []).map(unpackPicture));
    const maps = await Promise.all((value.views || []).map(async (view) => view.map &&
      { ...view.map, data: new Uint8Array(await unpack(view.map.data)) }));
    if (mine !== loading) return;
    if (value.colours) colours = Uint8Array.from(atob(value.colours), (one) => one.charCodeAt(0));
    const same = value.study === state.value.study && state.pictures.length > 0;
    Object.assign(state, { value, pictures, views: (value.views || []).map((view, i) =>
      ({ ...view, map: maps[i], picture: pictures[view.picture] })) });
    state.truth = chosen.truth ?? value.truth ?? false;
    state.overlay = chosen.overlay ?? value.overlay ?? true;
    if (!same) Object.assign(state, { x: 0.5, y: 0.5, zoom: 1 });
    arrange();
    if (pictures.length && (!same || state.preset !== "own")) usePreset(state.preset === "own" ? "full" : state.preset);
    redraw();
  } catch (fault) {
    if (mine !== loading) return;
    state.views = [];
    state.value = { empty: `The picture could not be shown (${fault.message}). Choose it again.` };
    arrange();
  }
}
function arrange() {
  const views = state.views, value = state.value;
  while (cells.length > views.length) sizes.unobserve(cells.pop().canvas);
  while (cells.length < views.length) cells.push(cell());
  grid.replaceChildren(...cells.map((one) => one.box));
  grid.dataset.views = views.length;
  heading.textContent = value.heading || "";
  empty.textContent = value.empty || "";
  const any = views.length > 0;
  for (const part of [grid, status]) part.hidden = !any;
  bar.hidden = !any && !value.steps;
  empty.hidden = any;
  for (const [name, one] of Object.entries(tools)) one.hidden = !any && name !== "previous" && name !== "next";
  tools.previous.hidden = tools.next.hidden = !value.steps;
  const maps = views.some((view) => view.map);
  for (const name of ["overlay", "opacity", "scale"]) tools[name].hidden = !maps;
  tools.truth.hidden = !views.some((view) => view.boxes.length || view.masks.length);
  views.forEach((view, i) => fill(cells[i], view));
}
function fill(one, view) {
  one.view = view;
  one.key = null;
  one.canvas.setAttribute("aria-label", view.alt);
  one.title.replaceChildren(...(view.colour ? [make("i", { style: `background:${view.colour}` })] : []), view.title);
  one.title.hidden = !view.title && state.views.length < 2;
  one.facts.replaceChildren(...view.facts.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]));
  one.notes.replaceChildren(...view.notes.map((text) => make("p", {}, text)));
  one.bar.hidden = !view.map;
}

// ---- What the user does -----------------------------------------------------------------------
const tell = (text) => { said.textContent = text; };
function remember() {
  const { preset, opacity, shared, pan } = state;
  try { localStorage.setItem(REMEMBERED, JSON.stringify({ preset: preset === "own" ? "full" : preset, opacity, shared, pan })); } catch { /* private mode */ }
}
function toggle(name) {
  state[name] = chosen[name] = !state[name];
  const words = { invert: "Inverted", overlay: "Overlay", truth: "Truth", pan: "Drag to pan" };
  tell(`${words[name]} ${state[name] ? "on" : "off"}`);
  remember();
  redraw(name === "invert");
}
function setOpacity(value) { state.opacity = Math.min(1, Math.max(0, value)); tell(`Opacity ${Math.round(100 * state.opacity)}%`); remember(); redraw(); }
function setScale(shared) { state.shared = shared; tell(shared ? "Shared scale" : "Scale per image"); remember(); redraw(); }
function setWindow(low, high) {
  const top = (1 << state.pictures[0].bits) - 1, least = top / 128;
  const width = Math.min(2 * top, Math.max(least, high - low)), level = Math.min(top, Math.max(0, (low + high) / 2));
  Object.assign(state, { low: level - width / 2, high: level + width / 2 });
  redraw(true);
}
function usePreset(name) {
  const { bits, levels } = state.pictures[0], top = (1 << bits) - 1, shares = PRESETS[name]?.[1];
  state.preset = PRESETS[name] ? name : "full";
  if (shares) {
    const sorted = levels[levels.length - 1].data.slice().sort();
    const [low, high] = shares.map((share) => sorted[Math.round(share * (sorted.length - 1))]);
    setWindow(low, high);
  } else setWindow(0, top);
  remember();
}
function moveWindow(level, width) {
  state.preset = "own";
  const centre = (state.low + state.high) / 2 + level, half = (state.high - state.low + width) / 2;
  setWindow(centre - Math.max(half, 0.5), centre + Math.max(half, 0.5));
}
function reset() { Object.assign(state, { x: 0.5, y: 0.5, zoom: 1, invert: false }); usePreset(state.preset === "own" ? "full" : state.preset); tell("Fitted"); }
function zoomAt(one, factor, px = one.canvas.width / 2, py = one.canvas.height / 2) {
  const before = placed(one), u = (px - before.left) / before.width, v = (py - before.top) / before.height;
  state.zoom = Math.min(40, Math.max(0.5, state.zoom * factor));
  const scale = state.zoom / (before.zoom || 1);
  panTo(u - (px - one.canvas.width / 2) / (before.width * scale), v - (py - one.canvas.height / 2) / (before.height * scale));
}
function panTo(x, y) { state.x = Math.min(1, Math.max(0, x)); state.y = Math.min(1, Math.max(0, y)); redraw(); }
function fullScreen() { if (document.fullscreenElement) document.exitFullscreen(); else root.requestFullscreen?.(); }

function listen(one) {
  const { canvas } = one, held = new Map();
  const at = (event) => { const box = canvas.getBoundingClientRect(), s = canvas.width / box.width; return [(event.clientX - box.left) * s, (event.clientY - box.top) * s]; };
  const spread = () => { const [a, b] = [...held.values()]; return [Math.hypot(a[0] - b[0], a[1] - b[1]) || 1, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2]; };
  canvas.addEventListener("pointerdown", (event) => {
    root.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, at(event));
    one.panning = state.pan || event.shiftKey || event.button > 0;
    event.preventDefault();
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = at(event), was = held.get(event.pointerId);
    if (!was) return point(one, now);
    const before = held.size > 1 ? spread() : null;
    held.set(event.pointerId, now);
    const place = placed(one), ratio = canvas.width / canvas.clientWidth;
    const dx = now[0] - was[0], dy = now[1] - was[1];
    if (before) {
      const after = spread();
      panTo(state.x - (after[1] - before[1]) / place.width, state.y - (after[2] - before[2]) / place.height);
      zoomAt(one, after[0] / before[0], after[1], after[2]);
    } else if (one.panning) panTo(state.x - dx / place.width, state.y - dy / place.height);
    else { const step = (1 << one.view.picture.bits) / 400 / ratio; moveWindow(dy * step, dx * step); }
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => held.delete(event.pointerId));
  canvas.addEventListener("pointerleave", () => { probe.textContent = ""; });
  canvas.addEventListener("dblclick", reset);
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoomAt(one, Math.exp(-event.deltaY / 500), ...at(event)); }, { passive: false });
}
function point(one, [px, py]) {
  const { left, top, width, height } = placed(one), u = (px - left) / width, v = (py - top) / height;
  if (u < 0 || v < 0 || u >= 1 || v >= 1) { probe.textContent = ""; return; }
  const full = one.view.picture.levels[0], x = Math.floor(u * full.width), y = Math.floor(v * full.height), map = one.view.map;
  let text = `x ${x}, y ${y} · grey ${full.data[y * full.width + x]}`;
  if (map) {
    const level = map.data[Math.floor(v * map.height) * map.width + Math.floor(u * map.width)];
    text += level ? ` · map ${number((level - 1) / 254 * map.peak)}` : " · not seen by the model";
  }
  probe.textContent = text;
}
const KEYS = { i: () => toggle("invert"), 0: reset, o: () => toggle("overlay"), g: () => toggle("truth"), m: () => toggle("pan"),
  s: () => setScale(!state.shared), "[": () => setOpacity(state.opacity - 0.1), "]": () => setOpacity(state.opacity + 0.1), f: fullScreen,
  n: () => state.value.steps && trigger("next_study"), p: () => state.value.steps && trigger("previous_study"),
  "+": () => zoomAt(cells[0], 1.25), "=": () => zoomAt(cells[0], 1.25), "-": () => zoomAt(cells[0], 0.8) };
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
function press(event) {
  if (!root.isConnected) { document.removeEventListener("keydown", press); document.removeEventListener("keyup", lift); return; }
  const at = event.target, form = /^(INPUT|SELECT)$/.test(at.tagName) && !/^(radio|checkbox)$/.test(at.type);
  const slider = at === tools.opacity, inside = root.contains(at), typing = form || at.isContentEditable || at.tagName === "TEXTAREA";
  if (event.ctrlKey || event.metaKey || event.altKey || root.offsetParent === null && !document.fullscreenElement) return;
  if (!(inside || hovered) || (typing && !slider)) return;
  const arrow = ARROWS[event.key], act = KEYS[event.key.toLowerCase()];
  if (event.key === " " && !/^(BUTTON|SUMMARY|INPUT)$/.test(at.tagName) && cells.length) { state.peek = true; redraw(); }
  else if (arrow && !slider && at.tagName !== "BUTTON" && cells.length) {
    const step = (1 << state.pictures[0].bits) / 64;
    if (event.shiftKey) moveWindow(arrow[1] * step, arrow[0] * step);
    else panTo(state.x + arrow[0] * 0.06 / state.zoom, state.y + arrow[1] * 0.06 / state.zoom);
  } else if (act && (cells.length || "np".includes(event.key.toLowerCase()))) act();
  else return;
  event.preventDefault();
}
function lift(event) { if (event.key === " " && state.peek) { state.peek = false; redraw(); } }
document.addEventListener("keydown", press);
document.addEventListener("keyup", lift);
root.addEventListener("pointerenter", () => { hovered = true; });
root.addEventListener("pointerleave", () => { hovered = false; });

// ---- Drawing ----------------------------------------------------------------------------------
function redraw(windowed = false) {
  if (windowed) lut = null;
  if (dirty) return;
  dirty = true;
  requestAnimationFrame(() => { dirty = false; if (root.isConnected) { lut ??= greys(); cells.forEach(draw); report(); } });
}
function greys() {
  const size = 1 << (state.pictures[0]?.bits || 8), table = new Uint32Array(size), { low, high, invert } = state;
  for (let value = 0; value < size; value++) {
    const share = Math.min(1, Math.max(0, (value - low) / Math.max(high - low, 1e-6)));
    const grey = Math.round(255 * (invert ? 1 - share : share));
    table[value] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
  }
  state.lut++;
  return table;
}
function placed(one) {
  const { width, height } = one.view.picture, { canvas } = one;
  const scale = Math.min(canvas.width / width, canvas.height / height) * state.zoom;
  return { scale, zoom: state.zoom, width: width * scale, height: height * scale,
    left: canvas.width / 2 - state.x * width * scale, top: canvas.height / 2 - state.y * height * scale };
}
const number = (value) => (value === 0 ? "0" : value >= 100 || value < 0.001 ? value.toExponential(1) : value.toPrecision(2));
function draw(one) {
  const { canvas, context, view } = one, ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
  if (!width || !height) return;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, height);
  const place = placed(one);
  drawPicture(one, place);
  if (view.map && state.overlay && !state.peek) drawMap(one, place);
  if (state.truth && !state.peek) drawTruth(one, place, ratio);
  label(context, "R", 10 * ratio, height / 2, ratio, "left");
  label(context, "L", width - 10 * ratio, height / 2, ratio, "right");
}
function drawPicture(one, { scale, left, top }) {
  const { levels } = one.view.picture, { canvas, scratch, context } = one;
  const depth = Math.min(levels.length - 1, Math.max(0, Math.floor(Math.log2(1 / scale))));
  const level = levels[depth], by = scale * levels[0].width / level.width, down = scale * levels[0].height / level.height;
  // Only what is on screen passes the window, so a picture of 4,000 px costs no more than one of 1,000.
  const x0 = Math.max(0, Math.floor(-left / by)), x1 = Math.min(level.width, Math.ceil((canvas.width - left) / by));
  const y0 = Math.max(0, Math.floor(-top / down)), y1 = Math.min(level.height, Math.ceil((canvas.height - top) / down));
  const wide = x1 - x0, high = y1 - y0;
  if (wide <= 0 || high <= 0) return;
  const key = [depth, x0, y0, wide, high, state.lut].join();
  if (one.key !== key) {
    one.key = key;
    if (scratch.width !== wide || scratch.height !== high) Object.assign(scratch, { width: wide, height: high });
    const paper = scratch.getContext("2d", { alpha: false, willReadFrequently: true }), shown = paper.createImageData(wide, high);
    const out = new Uint32Array(shown.data.buffer), from = level.data;
    for (let row = 0, at = 0; row < high; row++) {
      for (let i = (y0 + row) * level.width + x0, end = i + wide; i < end; i++, at++) out[at] = lut[from[i]];
    }
    paper.putImageData(shown, 0, 0);
  }
  context.imageSmoothingEnabled = true;
  context.drawImage(scratch, left + x0 * by, top + y0 * down, wide * by, high * down);
}
function topOfScale(map) { return state.shared ? Math.max(...state.views.map((view) => view.map?.peak || 0)) : map.peak; }
function drawMap(one, { left, top, width, height }) {
  const { map } = one.view, peak = topOfScale(map) || 1, { tint, context } = one;
  if (tint.of !== map || tint.peak !== peak) {
    Object.assign(tint, { width: map.width, height: map.height, of: map, peak });
    const paper = tint.getContext("2d"), shown = paper.createImageData(map.width, map.height), { data } = shown;
    for (let i = 0; i < map.data.length; i++) {
      const share = map.data[i] ? (map.data[i] - 1) / 254 * map.peak / peak : 0, index = 3 * Math.round(255 * share);
      data[4 * i] = colours[index]; data[4 * i + 1] = colours[index + 1]; data[4 * i + 2] = colours[index + 2];
      data[4 * i + 3] = 255 * Math.min(1, 1.6 * share);
    }
    paper.putImageData(shown, 0, 0);
  }
  context.globalAlpha = state.opacity;
  context.drawImage(tint, left, top, width, height);
  context.globalAlpha = 1;
  const [x0, y0, x1, y1] = map.seen;
  if (x0 > 0.001 || y0 > 0.001 || x1 < 0.999 || y1 < 0.999) {
    context.setLineDash([4, 4]);
    context.strokeStyle = "rgba(255,255,255,.55)";
    context.lineWidth = 1;
    context.strokeRect(left + x0 * width, top + y0 * height, (x1 - x0) * width, (y1 - y0) * height);
    context.setLineDash([]);
  }
}
function drawTruth(one, { left, top, scale }, ratio) {
  const { context, view } = one;
  const stroke = () => {
    for (const [colour, wide] of [["rgba(0,0,0,.75)", 4], [TRUTH, 1.75]]) {
      Object.assign(context, { strokeStyle: colour, lineWidth: wide * ratio, lineJoin: "round" });
      context.stroke();
    }
  };
  const taken = [];
  const name = (text, x, y, align) => {
    while (taken.some(([a, b]) => Math.abs(a - x) < 110 * ratio && Math.abs(b - y) < 15 * ratio)) y -= 15 * ratio;
    taken.push([x, y]);
    label(context, text, x, y, ratio, align, TRUTH);
  };
  for (const { finding, lines } of view.masks) {
    context.beginPath();
    let first = null;
    for (const line of lines) {
      line.forEach(([x, y], i) => context[i ? "lineTo" : "moveTo"](left + x * scale, top + y * scale));
      const highest = line.reduce((a, b) => (b[1] < a[1] ? b : a));
      if (!first || highest[1] < first[1]) first = highest;
    }
    stroke();
    if (first) name(finding, left + first[0] * scale, top + first[1] * scale - 10 * ratio, "center");
  }
  for (const { finding, x, y, w, h } of view.boxes) {
    context.beginPath();
    context.rect(left + x * scale, top + y * scale, w * scale, h * scale);
    stroke();
    if (!view.masks.some((mask) => mask.finding === finding)) name(finding, left + x * scale, top + y * scale - 10 * ratio, "left");
  }
}
function label(context, text, x, y, ratio, align = "left", colour = "#fff") {
  Object.assign(context, { font: `600 ${(text.length > 1 ? 12 : 16) * ratio}px system-ui, sans-serif`, textAlign: align,
    textBaseline: "middle", lineWidth: 4 * ratio, lineJoin: "round", strokeStyle: "rgba(0,0,0,.8)", fillStyle: colour });
  const half = context.measureText(text).width / 2, wide = context.canvas.width;
  const shift = align === "center" ? half : align === "right" ? 2 * half : 0;
  const held = Math.min(Math.max(x, shift + 4), wide - 2 * half + shift - 4), low = Math.max(y, 10 * ratio);
  context.strokeText(text, held, low);
  context.fillText(text, held, low);
}
function ramp() {
  return Array.from({ length: 9 }, (_, i) => { const at = 3 * Math.round(i * 255 / 8); return `rgb(${colours[at]},${colours[at + 1]},${colours[at + 2]})`; });
}
function report() {
  const { bits, width, height } = state.pictures[0] || { bits: 8 }, round = Math.round;
  where.textContent = `Window ${round(state.low)} to ${round(state.high)} (level ${round((state.low + state.high) / 2)}, width ${round(state.high - state.low)})` +
    ` · zoom ${round(100 * state.zoom)}% · ${width} × ${height} px` + (bits === 8 ? " · 8-bit picture: the window is limited to its 256 grey levels" : ` · ${bits}-bit picture`);
  for (const name of ["invert", "pan", "overlay", "truth"]) tools[name].setAttribute("aria-pressed", state[name]);
  tools.preset.value = state.preset;
  tools.opacity.value = round(100 * state.opacity);
  tools.scale.value = state.shared ? "shared" : "own";
  root.dataset.invert = state.invert;
  for (const one of cells.filter(({ view }) => view.map)) {
    const peak = topOfScale(one.view.map), key = `${peak} ${state.shared} ${state.overlay}`;
    if (one.bar.dataset.key === key && one.bar.of === one.view) continue;
    Object.assign(one.bar.dataset, { key });
    one.bar.of = one.view;
    one.bar.replaceChildren(make("span", {}, "0"), make("i", { style: `background:linear-gradient(90deg,${ramp()})` }),
      make("span", {}, number(peak)), make("small", {}, `${one.view.unit} · scale ${state.shared ? "shared" : "per image"}${state.overlay ? "" : " · overlay off"}`));
  }
}

// ---- Saving -----------------------------------------------------------------------------------
function save() {
  const ratio = window.devicePixelRatio || 1, gap = 12 * ratio, line = 18 * ratio, columns = Math.min(cells.length, cells.length === 4 ? 2 : 3);
  const wide = Math.max(...cells.map((one) => one.canvas.width)), tall = Math.max(...cells.map((one) => one.canvas.height));
  const lines = Math.max(...cells.map(({ view }) => view.facts.length)) + 2, rows = Math.ceil(cells.length / columns);
  const step = tall + (lines + 1) * line + gap, topLine = state.value.heading ? 2 * line : gap;
  const sheet = make("canvas", { width: columns * (wide + gap) + gap, height: topLine + rows * step + 2 * line });
  const paper = sheet.getContext("2d");
  const write = (text, x, y, font = "", most = wide) => { paper.font = `${font} ${13 * ratio}px system-ui, sans-serif`; paper.fillText(text, x, y, most); };
  paper.fillStyle = "#0b0d10";
  paper.fillRect(0, 0, sheet.width, sheet.height);
  paper.fillStyle = "#e8eaed";
  if (state.value.heading) write(state.value.heading, gap, 1.4 * line, "600", sheet.width - 2 * gap);
  cells.forEach((one, i) => {
    const x = gap + (i % columns) * (wide + gap), y = topLine + Math.floor(i / columns) * step, { view } = one;
    paper.fillStyle = "#e8eaed";
    write(view.title, x, y + 0.75 * line, "600");
    paper.drawImage(one.canvas, x, y + line);
    let under = y + line + tall + line;
    if (view.map && state.overlay) {
      const colour = paper.createLinearGradient(x, 0, x + wide / 3, 0);
      ramp().forEach((stop, at) => colour.addColorStop(at / 8, stop));
      paper.fillStyle = colour;
      paper.fillRect(x, under - 0.7 * line, wide / 3, 0.6 * line);
      paper.fillStyle = "#e8eaed";
      write(`0 to ${number(topOfScale(view.map))} ${view.unit} · scale ${state.shared ? "shared" : "per image"}`, x + wide / 3 + gap, under - 0.25 * line, "", wide * 2 / 3 - gap);
      under += line;
    }
    for (const [name, text] of view.facts) { write(`${name}: ${text}`, x, under); under += line; }
  });
  paper.fillStyle = "#e8eaed";
  write(state.value.disclaimer, gap, sheet.height - 0.7 * line, "600", sheet.width - 2 * gap);
  sheet.toBlob((blob) => {
    const name = `${(state.value.study || "radiograph").replace(/\.\w{3,4}$/, "").replace(/[^\w.-]+/g, "_")}.png`, link = make("a", { download: name, href: URL.createObjectURL(blob) });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}

watch("value", load);
load();
