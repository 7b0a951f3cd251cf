// The radiograph viewer: pointer and keyboard.
const announce = (text) => { message.textContent = text; };
function remember() {
  const { preset, opacity, shared, contours } = state;
  try { localStorage.setItem(REMEMBERED, JSON.stringify({ preset: preset === "own" ? "file" : preset, opacity, shared, contours })); } catch { /* private mode */ }
}
function toggle(name) {
  state[name] = chosen[name] = !state[name];
  const words = { invert: "Inverted", overlay: "Overlay", truth: "Truth", contours: "Contours" };
  announce(`${words[name]} ${state[name] ? "on" : "off"}`);
  remember();
  redraw(name === "invert");
}
function dragTo(what) {
  state.drag = state.drag === what ? "window" : what;
  announce(`Drag ${{ window: "changes the window", pan: "moves the image", ruler: "measures" }[state.drag]}`);
  redraw();
}
function setOpacity(value) { state.opacity = Math.min(1, Math.max(0, value)); announce(`Opacity ${Math.round(100 * state.opacity)}%`); remember(); redraw(); }
function setScale(shared) { state.shared = shared; announce(shared ? "Shared scale" : "Scale per image"); remember(); redraw(); }
function setWindow(low, high) {
  const { top } = state.images[0], least = top / 256;
  const width = Math.min(2 * top, Math.max(least, high - low)), level = Math.min(top, Math.max(0, (low + high) / 2));
  Object.assign(state, { low: level - width / 2, high: level + width / 2 });
  redraw(true);
}
function usePreset(name) {
  const { levels, top, window: given } = state.images[0], shares = PRESETS[name]?.[1];
  state.preset = PRESETS[name] ? name : "file";
  if (shares) {
    const sorted = levels[levels.length - 1].data.slice().sort();
    const [low, high] = shares.map((share) => sorted[Math.round(share * (sorted.length - 1))]);
    setWindow(low, high);
  } else if (state.preset === "file" && given) setWindow(...given);
  else setWindow(0, top);
  remember();
}
function moveWindow(level, width) {
  state.preset = "own";
  const centre = (state.low + state.high) / 2 + level, half = (state.high - state.low + width) / 2;
  setWindow(centre - Math.max(half, 0.5), centre + Math.max(half, 0.5));
}
function reset() { Object.assign(state, { x: 0.5, y: 0.5, zoom: 1, invert: false }); usePreset(state.preset === "own" ? "file" : state.preset); announce("Fitted"); }
function zoomAt(cell, factor, px = cell.canvas.width / 2, py = cell.canvas.height / 2) {
  const before = placed(cell), u = (px - before.left) / before.width, v = (py - before.top) / before.height;
  state.zoom = Math.min(40, Math.max(0.5, state.zoom * factor));
  const scale = state.zoom / (before.zoom || 1);
  panTo(u - (px - cell.canvas.width / 2) / (before.width * scale), v - (py - cell.canvas.height / 2) / (before.height * scale));
}
function panTo(x, y) { state.x = Math.min(1, Math.max(0, x)); state.y = Math.min(1, Math.max(0, y)); redraw(); }
function fullScreen() { if (document.fullscreenElement) document.exitFullscreen(); else root.requestFullscreen?.(); }

function listen(cell) {
  const { canvas } = cell, held = new Map();
  const at = (event) => { const box = canvas.getBoundingClientRect(), s = canvas.width / box.width; return [(event.clientX - box.left) * s, (event.clientY - box.top) * s]; };
  const spread = () => { const [a, b] = [...held.values()]; return [Math.hypot(a[0] - b[0], a[1] - b[1]) || 1, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2]; };
  canvas.addEventListener("pointerdown", (event) => {
    root.focus({ preventScroll: true });
    canvas.setPointerCapture(event.pointerId);
    held.set(event.pointerId, at(event));
    cell.panning = state.drag === "pan" || event.shiftKey || event.button > 0;
    cell.measuring = state.drag === "ruler" && !cell.panning && share(cell, at(event));
    if (cell.measuring) state.measure = null;
    event.preventDefault();
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = at(event), was = held.get(event.pointerId);
    if (!was) return point(cell, now);
    const before = held.size > 1 ? spread() : null;
    held.set(event.pointerId, now);
    const place = placed(cell), ratio = canvas.width / canvas.clientWidth;
    const dx = now[0] - was[0], dy = now[1] - was[1];
    if (before) {
      const after = spread();
      panTo(state.x - (after[1] - before[1]) / place.width, state.y - (after[2] - before[2]) / place.height);
      zoomAt(cell, after[0] / before[0], after[1], after[2]);
    } else if (cell.measuring) {
      state.measure = [cell.measuring, share(cell, now)];
      redraw();
    } else if (cell.panning) panTo(state.x - dx / place.width, state.y - dy / place.height);
    else { const step = Math.max(cell.view.image.top, 1) / 400 / ratio; moveWindow(dy * step, dx * step); }
  });
  for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => {
    held.delete(event.pointerId);
    if (cell.measuring && state.measure) announce(`Length ${length(cell.view.image, state.measure)}`);
  });
  canvas.addEventListener("pointerleave", () => { probe.textContent = ""; });
  canvas.addEventListener("dblclick", reset);
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => { event.preventDefault(); zoomAt(cell, Math.exp(-event.deltaY / 500), ...at(event)); }, { passive: false });
}
function share(cell, [px, py]) {
  const { left, top, width, height } = placed(cell);
  return [(px - left) / width, (py - top) / height];
}
function point(cell, at) {
  const [u, v] = share(cell, at);
  if (u < 0 || v < 0 || u >= 1 || v >= 1) { probe.textContent = ""; return; }
  const { image, map } = cell.view, [level] = image.levels, [across, down] = image.full;
  const stored = level.data[Math.floor(v * level.height) * level.width + Math.floor(u * level.width)];
  let text = `x ${Math.floor(u * across)}, y ${Math.floor(v * down)} · grey ${calibrated(image, stored)}`;
  if (map) {
    const value = map.data[Math.floor(v * map.height) * map.width + Math.floor(u * map.width)];
    text += value ? ` · map ${number(mapValue(map, value))}` : " · outside of the model's input";
  }
  probe.textContent = text;
}
const KEYS = { i: () => toggle("invert"), 0: reset, o: () => toggle("overlay"), g: () => toggle("truth"), c: () => !tools.contours.hidden && toggle("contours"),
  m: () => dragTo("pan"), r: () => !tools.ruler.hidden && dragTo("ruler"), escape: () => { state.measure = null; if (state.drag !== "window") dragTo(state.drag); redraw(); },
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
    const step = state.images[0].top / 64;
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
