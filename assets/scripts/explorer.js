/* What the explorer does in the browser itself: theme, address, patching, charts. */
(() => {
  "use strict";
  if (window.cxr) return;

  const remembered = (key) => { try { return localStorage.getItem(key); } catch { return null; } };
  const remember = (key, value) => { try { localStorage.setItem(key, value); } catch { /* private */ } };

  /* --- theme: dark unless the user chose light ------------------------------------------------ */
  const theme = () => (remembered("cxr-theme") === "light" ? "light" : "dark");
  const applyTheme = () => {
    const dark = theme() === "dark";
    document.documentElement.dataset.cxr = theme();
    if (document.body && document.body.classList.contains("dark") !== dark) {
      document.body.classList.toggle("dark", dark);
    }
    document.querySelectorAll("[data-theme-label]").forEach((one) => {
      const label = dark ? "Light" : "Dark";
      if (one.textContent !== label) one.textContent = label;
    });
  };
  const toggleTheme = () => {
    remember("cxr-theme", theme() === "dark" ? "light" : "dark");
    applyTheme();
    redraw();
  };

  /* --- the address says what is shown --------------------------------------------------------- */
  /* What it named at first stays until the user acts: pages draw themselves before they know it. */
  const named = new URLSearchParams(location.search);
  let acted = false;
  for (const act of ["pointerdown", "keydown"]) {
    document.addEventListener(act, () => { acted = true; }, { capture: true, once: true });
  }
  const address = (changes) => {
    const url = new URL(window.location.href);
    for (const [key, value] of Object.entries(changes)) {
      if (!acted && named.has(key) && (value === null || value === "")) continue;
      if (value === null || value === "") url.searchParams.delete(key);
      else url.searchParams.set(key, value);
    }
    const text = url.pathname + url.search.replaceAll("%2C", ",") + url.hash;
    if (text !== location.pathname + location.search + location.hash) {
      history.replaceState(history.state, "", text);
    }
  };

  /* --- patch a region: keyed children, attributes, text --------------------------------------- */
  const keyOf = (node) =>
    node.nodeType === 1 ? node.id || (node.dataset && node.dataset.key) || null : null;
  const alike = (a, b) =>
    a.nodeType === b.nodeType && a.nodeName === b.nodeName && keyOf(a) === keyOf(b);

  const patchAttributes = (old, next) => {
    const kept = old.nodeName === "DETAILS" ? ["open"] : [];
    for (const { name } of [...old.attributes]) {
      if (!next.hasAttribute(name) && !kept.includes(name)) old.removeAttribute(name);
    }
    for (const { name, value } of [...next.attributes]) {
      if (!kept.includes(name) && old.getAttribute(name) !== value) old.setAttribute(name, value);
    }
  };
  const patchNode = (old, next) => {
    if (old.nodeType !== 1) {
      if (old.nodeValue !== next.nodeValue) old.nodeValue = next.nodeValue;
      return;
    }
    if (old.isEqualNode(next)) return;
    const follows = old.hasAttribute("data-follow")
      && old.scrollHeight - old.scrollTop - old.clientHeight < 24;
    patchAttributes(old, next);
    if (!old.dataset.figure) patchChildren(old, next);
    if (follows) old.scrollTop = old.scrollHeight;
  };
  const patchChildren = (old, next) => {
    const keyed = new Map();
    for (const child of old.childNodes) if (keyOf(child)) keyed.set(keyOf(child), child);
    let cursor = old.firstChild;
    for (const wanted of [...next.childNodes]) {
      const key = keyOf(wanted);
      let match = key ? keyed.get(key) : null;
      if (!match && !key && cursor && !keyOf(cursor) && alike(cursor, wanted)) match = cursor;
      if (match && alike(match, wanted)) {
        if (match === cursor) cursor = cursor.nextSibling;
        else old.insertBefore(match, cursor);
        patchNode(match, wanted);
      } else {
        old.insertBefore(wanted, cursor);
      }
    }
    while (cursor) {
      const rest = cursor.nextSibling;
      cursor.remove();
      cursor = rest;
    }
  };

  /* Faults are shown under the field that caused them, wherever Gradio drew it. */
  const placeFaults = (region) => {
    const source = region.id || (region.id = "cxr-" + Math.random().toString(36).slice(2));
    document.querySelectorAll(`.cxr-beside[data-from="${source}"]`).forEach((one) => {
      const field = one.parentElement;
      one.remove();
      field.querySelectorAll("[aria-invalid]").forEach((input) => input.removeAttribute("aria-invalid"));
    });
    region.querySelectorAll("[data-beside]").forEach((one) => {
      const field = document.getElementById(one.dataset.beside);
      if (!field || field.offsetParent === null) return;
      const note = document.createElement("div");
      note.className = "cxr-beside";
      note.dataset.from = source;
      note.innerHTML = one.innerHTML;
      field.append(note);
      field.querySelectorAll("input, textarea").forEach((input) => input.setAttribute("aria-invalid", "true"));
    });
  };

  const patch = (region, html) => {
    if (region.cxrHtml === html) return;
    region.cxrHtml = html;
    const next = document.createElement("div");
    next.innerHTML = html;
    patchChildren(region, next);
    region.removeAttribute("data-stale");
    placeFaults(region);
    tick();
    announce(region);
    drawCharts(region);
  };

  /* Each visible region may say what of it belongs into the address. */
  const announce = (region) => {
    const first = region.firstElementChild;
    if (first && first.dataset.address && region.offsetParent !== null) {
      address(JSON.parse(first.dataset.address));
    }
  };
  /* Gradio tells of its first page before the server has read the address, which may name another,
     and of any page late when it is busy: what counts is the page that is seen. */
  const FIRST_PAGE = "launch";
  let settled = location.search === "";
  const page = () => {
    const panel = [...document.querySelectorAll("[role=tabpanel][id^=page-]")]
      .find((one) => one.offsetParent !== null);
    return panel ? panel.id.slice("page-".length) : FIRST_PAGE;
  };
  const opened = () => setTimeout(() => {
    settled = settled || acted || page() !== FIRST_PAGE;
    if (!settled) return;
    address({ tab: page() });
    document.querySelectorAll(".cxr-live").forEach(announce);
  }, 60);

  /* --- what is activated inside a region ------------------------------------------------------ */
  const ask = (question, confirmLabel) => new Promise((answer) => {
    const dialog = document.createElement("dialog");
    dialog.className = "cxr-dialog cxr-live";
    dialog.setAttribute("aria-label", question);
    const text = document.createElement("p");
    text.textContent = question;
    const row = document.createElement("div");
    const no = document.createElement("button");
    no.className = "cxr-button";
    no.textContent = "Cancel";
    const yes = document.createElement("button");
    yes.className = "cxr-button cxr-button-bad";
    yes.textContent = confirmLabel || "Yes";
    row.append(no, yes);
    dialog.append(text, row);
    const close = (value) => { dialog.close(); dialog.remove(); answer(value); };
    no.onclick = () => close(false);
    yes.onclick = () => close(true);
    dialog.oncancel = () => close(false);
    document.body.append(dialog);
    dialog.showModal();
    no.focus();
  });

  const listen = (region, report) => {
    const activate = async (target) => {
      if (target.dataset.act === "copy") { copy(target); return; }
      if (target.dataset.confirm && !(await ask(target.dataset.confirm, target.dataset.confirmLabel))) return;
      if (target.tagName === "BUTTON") target.setAttribute("data-pressed", "");
      const menu = target.closest("details.cxr-menu");
      if (menu) menu.open = false;
      if (target.tagName === "TR") {
        target.parentElement.querySelectorAll("[aria-current]").forEach((one) => one.removeAttribute("aria-current"));
        target.setAttribute("aria-current", "true");
      }
      report({ ...target.dataset });
      setTimeout(() => target.removeAttribute("data-pressed"), 1500);
    };
    region.addEventListener("click", (event) => {
      const target = event.target.closest("[data-act]");
      if (!target || !region.contains(target) || target.disabled) return;
      if (String(window.getSelection()) && target.tagName !== "BUTTON") return;
      activate(target);
    });
    region.addEventListener("keydown", (event) => {
      const target = event.target;
      if (!target.dataset) return;
      if (["ArrowDown", "ArrowUp"].includes(event.key) && target.dataset.act && target.tagName === "TR") {
        const next = event.key === "ArrowDown" ? target.nextElementSibling : target.previousElementSibling;
        if (next && next.dataset.act) { event.preventDefault(); next.focus(); }
        return;
      }
      if (!["Enter", " "].includes(event.key) || !target.dataset.act || target.tagName === "BUTTON") return;
      event.preventDefault();
      activate(target);
    });
  };

  const copy = async (button) => {
    const source = button.dataset.from ? document.getElementById(button.dataset.from) : null;
    const text = button.dataset.text || (source ? source.textContent : "");
    let done = true;
    try { await navigator.clipboard.writeText(text); } catch {
      const area = document.createElement("textarea");
      area.value = text;
      document.body.append(area);
      area.select();
      done = document.execCommand("copy");
      area.remove();
    }
    const before = button.dataset.label || button.textContent;
    button.dataset.label = before;
    button.textContent = done ? "Copied" : "Select and copy";
    setTimeout(() => { button.textContent = before; }, 1500);
  };

  /* --- clocks that tick without asking the server --------------------------------------------- */
  const span = (seconds) => {
    const whole = Math.max(0, Math.round(seconds));
    if (whole < 60) return `${whole} s`;
    if (whole < 3600) {
      const minutes = Math.floor(whole / 60), rest = whole % 60;
      return minutes < 10 && rest ? `${minutes} min ${rest} s` : `${minutes} min`;
    }
    const hours = Math.floor(whole / 3600), rest = Math.floor((whole % 3600) / 60);
    return rest ? `${hours} h ${rest} min` : `${hours} h`;
  };
  const tick = () => {
    const now = Date.now() / 1000;
    document.querySelectorAll("[data-since]").forEach((one) => {
      const text = span(Number(one.dataset.spent || 0) + now - Number(one.dataset.since));
      if (one.textContent !== text) one.textContent = text;
    });
  };
  setInterval(tick, 1000);

  /* --- charts: Plotly draws the JSON in data-figure; zoom and hidden curves survive a redraw --- */
  let loading = null;
  const plotly = () => loading ||= new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = "plotly/plotly.min.js";
    script.onload = () => resolve(window.Plotly);
    script.onerror = () => { loading = null; reject(new Error("Plotly's script cannot be loaded.")); };
    document.head.append(script);
  });
  const chosen = (name) => remembered(`cxr-chart-${name}`) || { smoothing: "0", axis: "epoch", log: "" }[name];

  /* Exponential moving average without the bias of its start, as in TensorBoard. */
  const smooth = (values, weight) => {
    let sum = 0, total = 0;
    return values.map((value) => {
      sum = weight * sum + (1 - weight) * value;
      total = weight * total + 1 - weight;
      return sum / total;
    });
  };
  const AXES = { step: "optimizer steps", images: "training images seen" };
  /* Curves of runs have their steps in "meta"; other traces and axes stay as they are. */
  const adapt = ({ data, layout }) => {
    const axis = chosen("axis"), weight = Number(chosen("smoothing"));
    const curves = data.filter((trace) => trace.meta && trace.meta.step);
    for (const trace of curves) {
      if (axis !== "epoch") trace.x = trace.meta.step.map((step) => step * (axis === "images" ? trace.meta.batch : 1));
      if (weight && trace.mode === "lines") trace.y = smooth(trace.y, weight);
    }
    if (curves.length) layout.xaxis.uirevision = axis;
    if (curves.length && axis !== "epoch") layout.xaxis = { title: { text: AXES[axis] }, uirevision: axis };
    if (layout.meta === "loss") layout.yaxis = { ...layout.yaxis, type: chosen("log") ? "log" : "linear", uirevision: chosen("log") };
  };
  const themed = (layout, box) => {
    const style = getComputedStyle(document.body);
    const colour = (name) => style.getPropertyValue(`--cxr-${name}`).trim();
    const axis = { gridcolor: colour("grid"), linecolor: colour("line"), zeroline: false, automargin: true };
    const narrow = box.clientWidth < 520;
    return {
      ...layout,
      width: box.clientWidth,
      height: box.clientHeight,
      margin: { l: 48, r: 8, t: 26, b: 40 },
      font: { family: style.fontFamily, size: 12, color: colour("muted") },
      paper_bgcolor: colour("panel"),
      plot_bgcolor: colour("panel"),
      xaxis: { ...axis, showgrid: false, showline: true, ...layout.xaxis, title: { font: { size: 12 }, standoff: 8, ...layout.xaxis.title } },
      yaxis: { ...axis, ...layout.yaxis },
      legend: { tracegroupgap: 0, ...(narrow || layout.legend ? { orientation: "h", x: 0, y: 1, yanchor: "bottom" } : {}) },
      hoverlabel: { bgcolor: colour("panel"), bordercolor: colour("edge"), namelength: -1, font: { color: colour("ink"), size: 11 } },
      modebar: { bgcolor: "rgba(0,0,0,0)", color: colour("muted"), activecolor: colour("accent") },
    };
  };
  const saveCsv = (box, name) => {
    const cell = (value) => (/[",\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value);
    const rows = JSON.parse(box.dataset.figure).data.flatMap((trace) =>
      trace.x.map((x, i) => [trace.name, x, trace.meta && trace.meta.step ? trace.meta.step[i] : "", trace.y[i]]));
    const text = [["name", "x", "step", "y"], ...rows].map((row) => row.map(cell).join(",")).join("\n");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text + "\n"], { type: "text/csv" }));
    link.download = `${name}.csv`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };
  /* Made once for each chart: Plotly begins anew with a changed configuration. */
  const config = (Plotly, box) => {
    const name = box.closest("figure").querySelector("figcaption").textContent.trim();
    const button = (title, icon, click) => ({ name: title, title, icon, click });
    return {
      displaylogo: false,
      toImageButtonOptions: { filename: name, scale: 2 },
      modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
      modeBarButtonsToAdd: [
        button("Download as SVG", Plotly.Icons["camera-retro"], (plot) => Plotly.downloadImage(plot, { format: "svg", filename: name })),
        button("Download values as CSV", Plotly.Icons.disk, () => saveCsv(box, name)),
      ],
    };
  };
  const draw = async (box) => {
    const Plotly = await plotly();
    if (!box.clientWidth) return;
    box.cxrFigure = box.dataset.figure;
    const figure = JSON.parse(box.dataset.figure);
    adapt(figure);
    await Plotly.react(box.firstElementChild, figure.data, themed(figure.layout, box), box.cxrConfig ||= config(Plotly, box));
  };
  const redraw = () => document.querySelectorAll("[data-figure]").forEach(draw);
  const sizes = new ResizeObserver((entries) => entries.forEach((entry) => draw(entry.target)));
  const drawCharts = (region) => {
    region.querySelectorAll("[data-figure]").forEach((box) => {
      if (box.cxrFigure === undefined) sizes.observe(box);
      else if (box.cxrFigure !== box.dataset.figure) draw(box);
    });
    region.querySelectorAll("[data-chart]").forEach((input) => {
      if (input.cxrKnown) return;
      input.cxrKnown = true;
      if (input.type === "checkbox") input.checked = Boolean(chosen(input.dataset.chart));
      else input.value = chosen(input.dataset.chart);
    });
  };
  /* The curve of the finding under the pointer is drawn thicker. */
  let emphasised = null;
  const emphasise = (scope, name) => {
    if (name === emphasised) return;
    emphasised = name;
    scope.querySelectorAll(".js-plotly-plot").forEach((plot) => {
      const at = plot.data.flatMap((trace, i) => (trace.meta && trace.meta.thin ? [i] : []));
      const widths = at.map((i) => (plot.data[i].name === name ? 3 : 1));
      if (at.length) window.Plotly.restyle(plot, { "line.width": widths }, at);
    });
  };
  document.addEventListener("pointerover", (event) => {
    if (!(event.target instanceof Element)) return;
    const scope = event.target.closest("[data-findings]");
    const finding = event.target.closest("[data-finding]");
    if (scope) emphasise(scope, finding ? finding.dataset.finding : null);
  });
  document.addEventListener("input", (event) => {
    const { dataset, type, checked, value } = event.target;
    if (!dataset || !dataset.chart) return;
    remember(`cxr-chart-${dataset.chart}`, type === "checkbox" ? (checked ? "on" : "") : value);
    redraw();
  });

  /* --- start ---------------------------------------------------------------------------------- */
  document.addEventListener("click", (event) => {
    if (event.target instanceof Element && event.target.closest("[data-theme-toggle]")) toggleTheme();
  });
  document.addEventListener("input", (event) => {
    const form = event.target instanceof Element && event.target.closest("[data-form], .cxr-form");
    // Fields of several runs do not change the cost of one.
    const several = form && event.target.closest("#f-sweep, #f-tune, #f-folds, #f-repeats");
    if (form && !several) document.querySelectorAll("#launch-cost .cxr-live").forEach((one) => one.setAttribute("data-stale", ""));
  });
  const start = () => {
    applyTheme();
    new MutationObserver(applyTheme).observe(document.body, { attributes: true, attributeFilter: ["class"] });
    new MutationObserver(() => {
      if (document.querySelector("[data-theme-label]:not([data-known])")) {
        document.querySelectorAll("[data-theme-label]").forEach((one) => { one.dataset.known = ""; });
        applyTheme();
      }
    }).observe(document.body, { childList: true, subtree: true });
  };
  document.documentElement.dataset.cxr = theme();
  window.cxr = { address, opened, page, patch, listen, toggleTheme, span };
  if (document.body) start();
  else document.addEventListener("DOMContentLoaded", start);
})();
