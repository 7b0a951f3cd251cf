// The radiograph viewer: elements. explorer/components/viewer.py joins the files of this folder into
// the body of gr.HTML's js_on_load, with (element, trigger, props, server, upload, watch), and
// describes the value that is drawn. No library, no network.
const root = element.querySelector(".rv");
root.setAttribute("aria-label", props.region || "Radiographs");

const PRESETS = { file: ["As the model sees it", null], full: ["Full range", null], auto: ["Auto contrast", [0.01, 0.995]],
  lungs: ["Lungs", [0.01, 0.55]], dense: ["Mediastinum, bones", [0.45, 0.999]] };
const TRUTH = "#5ce1ff";
const REMEMBERED = "cxr-viewer";
const state = { views: [], images: [], value: {}, x: 0.5, y: 0.5, zoom: 1, low: 0, high: 255,
  preset: "file", invert: false, overlay: true, opacity: 0.6, shared: false, truth: false,
  contours: false, peek: false, drag: "window", measure: null, lut: 0 };
const chosen = {};
try { Object.assign(state, JSON.parse(localStorage.getItem(REMEMBERED) || "{}")); } catch { /* private mode */ }
let cells = [], hovered = false, dirty = false, loading = 0, lut = null, colours = null, signed = null;

// ---- Elements -------------------------------------------------------------------------------
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
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
    ["own", "Custom window"]], () => { if (tools.preset.value !== "own") usePreset(tools.preset.value); }),
  invert: button("Invert", "I", "Invert grey levels", () => toggle("invert")),
  fit: button("Fit", "0", "Fit and reset the window", reset),
  pan: button("Pan", "M", "Drag moves the image instead of the window; Shift-drag always does", () => dragTo("pan")),
  ruler: button("Measure", "R", "Drag measures a length; Escape removes the measurement", () => dragTo("ruler")),
  overlay: button("Overlay", "O", "Show the map; hold Space for the original", () => toggle("overlay")),
  opacity: make("input", { type: "range", min: 0, max: 100, step: 5, title: "Opacity of the map ([ and ])",
    "aria-label": "Opacity of the map", oninput: () => setOpacity(tools.opacity.value / 100) }),
  contours: button("Contours", "C", "Lines at a quarter, half and three quarters of the map's peak", () => toggle("contours")),
  truth: button("Truth", "G", "Show boxes and masks drawn by readers", () => toggle("truth")),
  scale: pick("Scale of the colours (S)", [["own", "Scale per image"], ["shared", "Scale shared"]],
    () => setScale(tools.scale.value === "shared")),
  full: button("Screen", "F", "Full screen", fullScreen),
  png: make("button", { type: "button", title: "Save the views as one image, at least 1,000 pixels per view", onclick: savePng }, "Save PNG"),
  svg: make("button", { type: "button", title: "Save the views as a vector drawing: lines and text stay sharp", onclick: saveSvg }, "Save SVG"),
};
const bar = make("div", { class: "rv-tools", role: "toolbar", "aria-label": "Viewer" }, ...Object.values(tools));
const heading = make("div", { class: "rv-heading" });
const grid = make("div", { class: "rv-grid" });
const empty = make("div", { class: "rv-empty" });
const status = make("div", { class: "rv-status" });
const probe = make("span", { class: "rv-probe" });
const where = make("span");
const message = make("span", { class: "rv-said", "aria-live": "polite" });
const help = make("details", { class: "rv-keys" }, make("summary", {}, "Keys"), make("span", {},
  "Drag: window (sideways) and level (up, down). Shift-drag, right or middle button: pan. Wheel: zoom to pointer. " +
  "I invert · 0 fit · O overlay · Space (hold) original · [ ] opacity · C contours · G truth · S scale · N P study · " +
  "+ − zoom · arrows pan · Shift+arrows window · M drag pans · R drag measures · Escape removes the measurement · F full screen."));
status.append(where, help, probe, message);
root.replaceChildren(heading, bar, empty, grid, status);

function makeCell() {
  const canvas = make("canvas", { role: "img" });
  const cell = { canvas, context: canvas.getContext("2d", { alpha: false }), tint: make("canvas"),
    title: make("div", { class: "rv-title" }), bar: make("div", { class: "rv-bar" }),
    facts: make("dl"), notes: make("div", { class: "rv-notes" }) };
  cell.box = make("figure", {}, cell.title, make("div", { class: "rv-stage" }, canvas), cell.bar,
    make("figcaption", {}, cell.facts, cell.notes));
  listen(cell);
  sizes.observe(canvas);
  return cell;
}
const sizes = new ResizeObserver(() => redraw());
