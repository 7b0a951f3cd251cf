// The radiograph viewer: unpack the value and fill the elements.
function bytes(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const packed = atob(text), found = new Uint8Array(packed.length);
  for (let i = 0; i < packed.length; i++) found[i] = packed.charCodeAt(i);
  return found;
}
async function unpack(text) {
  const stream = new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}
async function unpackImage(packed) {
  const kept = state.images.find((image) => image.packed === packed.data);
  if (kept) return kept;
  const { width, height, bits } = packed;
  const buffer = await unpack(packed.data);
  const data = bits === 16 ? new Uint16Array(buffer) : new Uint8Array(buffer);
  for (let row = 0, at = 0; row < height; row++) {
    at++;
    for (let column = 1; column < width; column++, at++) data[at] += data[at - 1];
  }
  return { ...packed, packed: packed.data, data: null, levels: pyramid({ width, height, data }), film: { canvas: make("canvas"), key: "" } };
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
  const request = ++loading;
  try {
    const value = JSON.parse(props.value || "{}");
    const images = await Promise.all((value.images || []).map(unpackImage));
    const maps = await Promise.all((value.views || []).map(async (view) => view.map &&
      { ...view.map, data: new Uint8Array(await unpack(view.map.data)) }));
    if (request !== loading) return;
    if (value.colours) [colours, signed] = [value.colours, value.signed].map(bytes);
    const same = value.study === state.value.study && state.images.length > 0;
    Object.assign(state, { value, images, views: (value.views || []).map((view, i) =>
      ({ ...view, map: maps[i], image: images[view.image] })) });
    state.truth = chosen.truth ?? value.truth ?? false;
    state.overlay = chosen.overlay ?? value.overlay ?? true;
    if (!same) Object.assign(state, { x: 0.5, y: 0.5, zoom: 1, measure: null });
    arrange();
    if (images.length && (!same || state.preset !== "own")) usePreset(state.preset === "own" ? "file" : state.preset);
    redraw();
  } catch (fault) {
    if (request !== loading) return;
    state.views = [];
    state.value = { empty: `The image could not be displayed (${fault.message}). Choose it again.` };
    arrange();
  }
}
function arrange() {
  const views = state.views, value = state.value;
  while (cells.length > views.length) sizes.unobserve(cells.pop().canvas);
  while (cells.length < views.length) cells.push(makeCell());
  grid.replaceChildren(...cells.map((cell) => cell.box));
  grid.dataset.views = views.length;
  heading.textContent = value.heading || "";
  empty.textContent = value.empty || "";
  const any = views.length > 0;
  for (const part of [grid, status]) part.hidden = !any;
  bar.hidden = !any && !value.steps;
  empty.hidden = any;
  for (const [name, tool] of Object.entries(tools)) tool.hidden = !any && name !== "previous" && name !== "next";
  tools.previous.hidden = tools.next.hidden = !value.steps;
  const maps = views.some((view) => view.map);
  for (const name of ["overlay", "opacity", "contours"]) tools[name].hidden = !maps;
  tools.scale.hidden = views.filter((view) => view.map && !view.map.signed).length < 2;
  tools.ruler.hidden = !views.some((view) => view.image.spacing);
  if (tools.ruler.hidden && state.drag === "ruler") state.drag = "window";
  tools.truth.hidden = !views.some((view) => view.boxes.length || view.masks.length);
  views.forEach((view, i) => fill(cells[i], view));
}
function fill(cell, view) {
  cell.view = view;
  cell.key = null;
  cell.canvas.setAttribute("aria-label", view.alt);
  cell.title.replaceChildren(...(view.colour ? [make("i", { style: `background:${view.colour}` })] : []), view.title);
  cell.title.hidden = !view.title && state.views.length < 2;
  cell.facts.replaceChildren(...view.facts.flatMap(([name, text]) => [make("dt", {}, name), make("dd", {}, text)]));
  cell.notes.replaceChildren(...view.notes.map((text) => make("p", {}, text)));
  cell.bar.hidden = !view.map;
}
