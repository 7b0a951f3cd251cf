/* What the explorer does in the browser itself: theme, address, patching, hover over curves. */
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
    patchChildren(old, next);
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
    if (hovered && region.contains(hovered.chart)) point(hovered.chart, hovered.x);
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

  /* --- curves: a cross-hair and the values under the pointer ---------------------------------- */
  let hovered = null;
  const readout = (chart, clientX) => {
    const svg = chart.querySelector("svg");
    const data = JSON.parse(svg.dataset.series);
    const box = svg.getBoundingClientRect();
    const scale = data.width / box.width;
    const x = (clientX - box.left) * scale;
    const share = Math.min(1, Math.max(0, (x - data.left) / (data.right - data.left)));
    const epoch = data.from + share * (data.to - data.from);
    const rows = [];
    let at = null;
    for (const one of data.series) {
      let best = -1, gap = Infinity;
      one.x.forEach((value, index) => {
        const distance = Math.abs(value - epoch);
        if (distance < gap) { gap = distance; best = index; }
      });
      if (best < 0) continue;
      rows.push({ name: one.name, colour: one.colour, dash: one.dash, value: one.y[best], main: one.main });
      if (at === null || one.main) at = one.x[best];
    }
    return { data, rows, at, box, scale };
  };
  const point = (chart, clientX) => {
    const { data, rows, at, box, scale } = readout(chart, clientX);
    if (at === null) return;
    const svg = chart.querySelector("svg");
    const place = data.left + ((at - data.from) / (data.to - data.from || 1)) * (data.right - data.left);
    let line = svg.querySelector(".cxr-cross");
    if (!line) {
      line = document.createElementNS("http://www.w3.org/2000/svg", "line");
      line.setAttribute("class", "cxr-cross");
      svg.append(line);
    }
    for (const [name, value] of Object.entries({ x1: place, x2: place, y1: data.top, y2: data.bottom })) {
      line.setAttribute(name, value);
    }
    let tip = chart.querySelector(".cxr-tip");
    if (!tip) {
      tip = document.createElement("div");
      tip.className = "cxr-tip";
      chart.append(tip);
    }
    rows.sort((a, b) => (b.main ? 1 : 0) - (a.main ? 1 : 0) || b.value - a.value);
    tip.replaceChildren();
    const head = document.createElement("b");
    head.textContent = `Epoch ${Number(at.toFixed(2))}`;
    tip.append(head);
    for (const row of rows.slice(0, 16)) {
      const entry = document.createElement("div");
      if (row.main) entry.className = "cxr-tip-main";
      const name = document.createElement("span");
      name.textContent = row.name;
      const value = document.createElement("span");
      value.textContent = row.value.toFixed(data.digits);
      const swatch = document.createElement("i");
      swatch.style.background = row.colour;
      entry.append(swatch, name, value);
      tip.append(entry);
    }
    const left = (place / scale) + svg.offsetLeft;
    const flip = left > box.width * 0.6;
    tip.style.left = flip ? "auto" : `${left + 12}px`;
    tip.style.right = flip ? `${box.width - left + 12}px` : "auto";
  };
  const clear = (chart) => chart.querySelectorAll(".cxr-cross, .cxr-tip").forEach((one) => one.remove());
  const emphasise = (chart, name) => chart.querySelectorAll("[data-finding]").forEach((one) => {
    one.classList.toggle("cxr-lit", name !== null && one.dataset.finding === name);
  });
  document.addEventListener("pointermove", (event) => {
    if (!(event.target instanceof Element)) return;
    const svg = event.target.closest(".cxr-chart svg[data-series]");
    document.querySelectorAll(".cxr-chart .cxr-tip").forEach((tip) => {
      if (!svg || !tip.parentElement.contains(svg)) clear(tip.parentElement);
    });
    hovered = svg ? { chart: svg.closest(".cxr-chart"), x: event.clientX } : null;
    if (hovered) point(hovered.chart, hovered.x);
  });
  document.addEventListener("pointerover", (event) => {
    if (!(event.target instanceof Element)) return;
    const finding = event.target.closest("[data-finding]");
    const scope = event.target.closest("[data-findings]");
    if (scope) emphasise(scope, finding ? finding.dataset.finding : null);
  });

  /* --- start ---------------------------------------------------------------------------------- */
  document.addEventListener("click", (event) => {
    if (event.target instanceof Element && event.target.closest("[data-theme-toggle]")) toggleTheme();
  });
  document.addEventListener("input", (event) => {
    const form = event.target instanceof Element && event.target.closest("[data-form], .cxr-form");
    if (form) document.querySelectorAll("#launch-cost .cxr-live").forEach((one) => one.setAttribute("data-stale", ""));
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
