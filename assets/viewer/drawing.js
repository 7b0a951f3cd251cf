// The radiograph viewer: drawing. Images are drawn on a canvas; lines and text on an ink, which is a
// canvas context, too, or collects SVG (saving.js).
function redraw(windowed = false) {
  if (windowed) lut = null;
  if (dirty) return;
  dirty = true;
  requestAnimationFrame(() => { dirty = false; if (root.isConnected) { lut ??= greys(); cells.forEach(draw); report(); } });
}
function greys() {
  const size = 1 << (state.images[0]?.bits || 8), table = new Uint32Array(size), { low, high, invert } = state;
  for (let value = 0; value < size; value++) {
    const share = Math.min(1, Math.max(0, (value - low) / Math.max(high - low, 1e-6)));
    const grey = Math.round(255 * (invert ? 1 - share : share));
    table[value] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
  }
  state.lut++;
  return table;
}
function placed(cell, canvas = cell.canvas) {
  const [width, height] = cell.view.image.full;
  const scale = Math.min(canvas.width / width, canvas.height / height) * state.zoom;
  return { scale, zoom: state.zoom, width: width * scale, height: height * scale,
    left: canvas.width / 2 - state.x * width * scale, top: canvas.height / 2 - state.y * height * scale };
}
const number = (value) => (value === 0 ? "0" : Math.abs(value) >= 100 || Math.abs(value) < 0.001 ? value.toExponential(1) : value.toPrecision(2)).replace("-", "−");
const calibrated = ({ slope, intercept }, level) => Math.round(level * slope + intercept);
const mapValue = (map, byte) => (map.signed ? (byte - 128) / 127 : (byte - 1) / 254) * map.peak;
function length({ full, spacing }, [a, b]) {
  const across = (b[0] - a[0]) * full[0] * spacing[1], down = (b[1] - a[1]) * full[1] * spacing[0];
  return `${Math.hypot(across, down).toFixed(1)} mm`;
}
function draw(cell) {
  const { canvas, context } = cell, ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio), height = Math.round(canvas.clientHeight * ratio);
  if (!width || !height) return;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  drawPixels(cell, context);
  drawLines(cell, context, ratio);
}
function drawPixels(cell, context) {
  const { width, height } = context.canvas, place = placed(cell, context.canvas);
  context.fillStyle = "#000";
  context.fillRect(0, 0, width, height);
  drawRadiograph(cell.view.image, place, context);
  if (cell.view.map && state.overlay && !state.peek) drawMap(cell, place, context);
}
function drawLines(cell, ink, ratio) {
  const { width, height } = ink.canvas, place = placed(cell, ink.canvas);
  if (cell.view.map && state.overlay && !state.peek) drawSeen(cell.view.map, place, ink);
  if (cell.view.map && state.contours && !state.peek) drawContours(cell.view.map, place, ink, ratio);
  if (state.truth && !state.peek) drawTruth(cell, place, ink, ratio);
  drawRuler(cell.view.image, place, ink, ratio);
  label(ink, "R", 10 * ratio, height / 2, ratio, "left");
  label(ink, "L", width - 10 * ratio, height / 2, ratio, "right");
}
function drawRadiograph({ levels, full, film }, { scale, left, top }, context) {
  const { canvas } = context, shrink = scale * full[0] / levels[0].width;
  const depth = Math.min(levels.length - 1, Math.max(0, Math.floor(Math.log2(1 / shrink))));
  const level = levels[depth], by = scale * full[0] / level.width, down = scale * full[1] / level.height;
  // Only visible pixels are windowed, so that an image of 4,000 px takes no longer than one of 1,000.
  const x0 = Math.max(0, Math.floor(-left / by)), x1 = Math.min(level.width, Math.ceil((canvas.width - left) / by));
  const y0 = Math.max(0, Math.floor(-top / down)), y1 = Math.min(level.height, Math.ceil((canvas.height - top) / down));
  const wide = x1 - x0, high = y1 - y0;
  if (wide <= 0 || high <= 0) return;
  const key = [depth, x0, y0, wide, high, state.lut].join();
  // Linked views of one image share its windowed pixels.
  if (film.key !== key) {
    film.key = key;
    if (film.canvas.width !== wide || film.canvas.height !== high) Object.assign(film.canvas, { width: wide, height: high });
    const paper = film.canvas.getContext("2d", { alpha: false, willReadFrequently: true }), shown = paper.createImageData(wide, high);
    const out = new Uint32Array(shown.data.buffer), from = level.data;
    for (let row = 0, at = 0; row < high; row++) {
      for (let i = (y0 + row) * level.width + x0, end = i + wide; i < end; i++, at++) out[at] = lut[from[i]];
    }
    paper.putImageData(shown, 0, 0);
  }
  context.imageSmoothingEnabled = true;
  context.drawImage(film.canvas, left + x0 * by, top + y0 * down, wide * by, high * down);
}
function topOfScale(map) {
  if (!state.shared || map.signed) return map.peak;
  return Math.max(...state.views.map((view) => (view.map && !view.map.signed ? view.map.peak : 0)));
}
function drawMap(cell, { left, top, width, height }, context) {
  const { map } = cell.view, peak = topOfScale(map) || 1, { tint } = cell;
  if (tint.of !== map || tint.peak !== peak) {
    Object.assign(tint, { width: map.width, height: map.height, of: map, peak });
    const paper = tint.getContext("2d"), shown = paper.createImageData(map.width, map.height), { data } = shown;
    const table = map.signed ? signed : colours;
    for (let i = 0; i < map.data.length; i++) {
      const share = map.data[i] ? mapValue(map, map.data[i]) / peak : 0;
      const index = 3 * Math.round(map.signed ? 127.5 + 127.5 * share : 255 * share);
      data[4 * i] = table[index]; data[4 * i + 1] = table[index + 1]; data[4 * i + 2] = table[index + 2];
      data[4 * i + 3] = 255 * Math.min(1, 1.6 * Math.abs(share));
    }
    paper.putImageData(shown, 0, 0);
  }
  context.globalAlpha = state.opacity;
  context.drawImage(tint, left, top, width, height);
  context.globalAlpha = 1;
}
function drawSeen({ seen: [x0, y0, x1, y1] }, { left, top, width, height }, ink) {
  if (x0 <= 0.001 && y0 <= 0.001 && x1 >= 0.999 && y1 >= 0.999) return;
  ink.setLineDash([4, 4]);
  Object.assign(ink, { strokeStyle: "rgba(255,255,255,.55)", lineWidth: 1 });
  ink.beginPath();
  ink.rect(left + x0 * width, top + y0 * height, (x1 - x0) * width, (y1 - y0) * height);
  ink.stroke();
  ink.setLineDash([]);
}
const CONTOURS = [[0.25, [2, 4], 1], [0.5, [], 1.25], [0.75, [], 2.5]];
// Marching squares on the grid of the map; ends of each piece as shares of the image.
function pieces(map, cut) {
  map.pieces ??= {};
  if (map.pieces[cut]) return map.pieces[cut];
  const { width, height, data } = map, found = [];
  const value = (x, y) => (data[y * width + x] ? Math.abs(mapValue(map, data[y * width + x])) / (map.peak || 1) : 0) - cut;
  const between = (x, y, a, b, right) => { const t = a / (a - b); return right ? [x + t, y] : [x, y + t]; };
  for (let y = 0; y < height - 1; y++) {
    for (let x = 0; x < width - 1; x++) {
      const a = value(x, y), b = value(x + 1, y), c = value(x + 1, y + 1), d = value(x, y + 1), ends = [];
      if (a > 0 !== b > 0) ends.push(between(x, y, a, b, true));
      if (b > 0 !== c > 0) ends.push(between(x + 1, y, b, c, false));
      if (c > 0 !== d > 0) ends.push(between(x, y + 1, d, c, true));
      if (d > 0 !== a > 0) ends.push(between(x, y, a, d, false));
      for (let i = 0; i + 1 < ends.length; i += 2) found.push([ends[i], ends[i + 1]].map(([u, v]) => [(u + 0.5) / width, (v + 0.5) / height]));
    }
  }
  return (map.pieces[cut] = found);
}
function drawContours(map, { left, top, width, height }, ink, ratio) {
  for (const [cut, dash, wide] of CONTOURS) {
    ink.beginPath();
    for (const [a, b] of pieces(map, cut)) {
      ink.moveTo(left + a[0] * width, top + a[1] * height);
      ink.lineTo(left + b[0] * width, top + b[1] * height);
    }
    for (const [colour, more] of [["rgba(0,0,0,.7)", 1.75], ["#fff", 0]]) {
      ink.setLineDash(more ? [] : dash.map((part) => part * ratio));
      Object.assign(ink, { strokeStyle: colour, lineWidth: (wide + more) * ratio, lineJoin: "round" });
      ink.stroke();
    }
  }
  ink.setLineDash([]);
}
function drawRuler(image, { left, top, width, height }, ink, ratio) {
  if (!image.spacing) return;
  const high = ink.canvas.height, perMillimetre = width / (image.full[0] * image.spacing[1]);
  const most = 0.3 * ink.canvas.width / perMillimetre, long = [100, 50, 20, 10, 5, 2, 1].find((size) => size <= most);
  const line = (...points) => {
    for (const [colour, wide] of [["rgba(0,0,0,.8)", 4], ["#fff", 1.75]]) {
      ink.beginPath();
      points.forEach(([x, y], i) => ink[i ? "lineTo" : "moveTo"](x, y));
      Object.assign(ink, { strokeStyle: colour, lineWidth: wide * ratio, lineJoin: "round" });
      ink.stroke();
    }
  };
  if (long) {
    const x0 = 12 * ratio, x1 = x0 + long * perMillimetre, y = high - 14 * ratio, tick = 5 * ratio;
    line([x0, y - tick], [x0, y], [x1, y], [x1, y - tick]);
    label(ink, `${long >= 10 ? `${long / 10} cm` : `${long} mm`}${image.detector ? " at the detector" : ""}`, x0, y - 15 * ratio, ratio);
  }
  if (state.measure) {
    const [a, b] = state.measure.map(([u, v]) => [left + u * width, top + v * height]);
    line(a, b);
    label(ink, length(image, state.measure), (a[0] + b[0]) / 2, (a[1] + b[1]) / 2 - 12 * ratio, ratio, "center", "#ffe15c");
  }
}
function drawTruth({ view }, { left, top, scale }, context, ratio) {
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
function ramp(map) {
  const table = map.signed ? signed : colours;
  return Array.from({ length: 9 }, (_, i) => { const at = 3 * Math.round(i * 255 / 8); return `rgb(${table[at]},${table[at + 1]},${table[at + 2]})`; });
}
function scaleWords(view) {
  const peak = number(topOfScale(view.map));
  const name = view.map.signed ? "" : ` · scale ${state.shared ? "shared" : "per image"}`;
  return { low: view.map.signed ? `−${peak}` : "0", high: peak, unit: `${view.unit}${name}` };
}
function report() {
  const image = state.images[0];
  if (!image) return;
  const round = Math.round, ends = [calibrated(image, state.low), calibrated(image, state.high)].sort((a, b) => a - b);
  const [low, high] = ends, [width, height] = image.full, shrunk = width !== image.width;
  where.textContent = `Window ${low} to ${high} (level ${round((low + high) / 2)}, width ${high - low})`.replace(/-/g, "−") +
    ` · zoom ${round(100 * state.zoom)}% · ${width} × ${height} px` + (shrunk ? `, reduced to ${image.width} × ${image.height}` : "") +
    (image.bits === 8 ? " · 8-bit image: the window is limited to its 256 grey levels" : ` · ${image.depth}-bit image`);
  for (const name of ["invert", "overlay", "truth", "contours"]) tools[name].setAttribute("aria-pressed", state[name]);
  for (const name of ["pan", "ruler"]) tools[name].setAttribute("aria-pressed", state.drag === name);
  tools.preset.value = state.preset;
  tools.opacity.value = round(100 * state.opacity);
  tools.scale.value = state.shared ? "shared" : "own";
  root.dataset.invert = state.invert;
  for (const cell of cells.filter(({ view }) => view.map)) {
    const { low, high, unit } = scaleWords(cell.view), key = `${low} ${high} ${unit} ${state.overlay}`;
    if (cell.bar.dataset.key === key && cell.bar.of === cell.view) continue;
    Object.assign(cell.bar.dataset, { key });
    cell.bar.of = cell.view;
    cell.bar.replaceChildren(make("span", {}, low), make("i", { style: `background:linear-gradient(90deg,${ramp(cell.view.map)})` }),
      make("span", {}, high), make("small", {}, `${unit}${state.overlay ? "" : " · overlay off"}`));
  }
}
