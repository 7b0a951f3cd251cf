// The radiograph viewer: save the views as a file, for a paper. The same steps write PNG, or SVG in
// which lines and text stay sharp.
const MIN_WIDTH = 1000; // pixels per view in a saved figure

// The part of a canvas context that drawLines and the panel use; collects SVG.
function drawing(canvas) {
  const out = [], measure = make("canvas").getContext("2d");
  const safe = (text) => String(text).replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);
  let path = "", dash = [];
  const words = (text, x, y, paint) => {
    const [, weight, size] = ink.font.match(/(\d+ )?(\d*\.?\d+)px/), anchor = { center: "middle", right: "end" }[ink.textAlign] || "start";
    const middle = ink.textBaseline === "middle" ? 0.36 * size : 0;
    out.push(`<text x="${x.toFixed(1)}" y="${(y + middle).toFixed(1)}" font-size="${size}" font-weight="${(weight || "400").trim()}" text-anchor="${anchor}" ${paint}>${safe(text)}</text>`);
  };
  const ink = {
    canvas, out, font: "13px system-ui", fillStyle: "#fff", strokeStyle: "#fff", lineWidth: 1, textAlign: "left", textBaseline: "alphabetic",
    beginPath() { path = ""; },
    moveTo(x, y) { path += `M${x.toFixed(1)} ${y.toFixed(1)}`; },
    lineTo(x, y) { path += `L${x.toFixed(1)} ${y.toFixed(1)}`; },
    rect(x, y, w, h) { path += `M${x.toFixed(1)} ${y.toFixed(1)}h${w.toFixed(1)}v${h.toFixed(1)}h${(-w).toFixed(1)}Z`; },
    setLineDash(next) { dash = next; },
    stroke() { if (path) out.push(`<path d="${path}" fill="none" stroke="${ink.strokeStyle}" stroke-width="${ink.lineWidth}" stroke-linejoin="round"${dash.length ? ` stroke-dasharray="${dash}"` : ""}/>`); },
    measureText(text) { measure.font = ink.font; return measure.measureText(text); },
    strokeText(text, x, y) { words(text, x, y, `fill="none" stroke="${ink.strokeStyle}" stroke-width="${ink.lineWidth}" stroke-linejoin="round"`); },
    fillText(text, x, y) { words(text, x, y, `fill="${ink.fillStyle}"`); },
    fillRect(x, y, w, h) { out.push(`<rect x="${x}" y="${y}" width="${w}" height="${h}" fill="${ink.fillStyle}"/>`); },
  };
  return ink;
}
// Lay out the figure: text on an ink (a canvas context or `drawing`), images by `put`.
function panel(paint) {
  const shown = cells[0].canvas, factor = Math.max(1, MIN_WIDTH / shown.width), ratio = (window.devicePixelRatio || 1) * factor;
  const wide = Math.round(shown.width * factor), tall = Math.round(Math.max(...cells.map((cell) => cell.canvas.height)) * factor);
  const dark = document.documentElement.classList.contains("dark") || document.body.classList.contains("dark") || document.documentElement.dataset.cxr !== "light";
  const [ground, inkColour] = dark ? ["#0b0d10", "#e8eaed"] : ["#ffffff", "#18212d"];
  const columns = Math.min(cells.length, cells.length === 4 ? 2 : 3), rows = Math.ceil(cells.length / columns);
  const size = 13 * ratio, line = 1.4 * size, gap = 12 * ratio, tester = make("canvas").getContext("2d");
  const wrapped = (text, most, font = "") => {
    tester.font = `${font} ${size}px system-ui, sans-serif`;
    const lines = [""];
    for (const word of text.split(" ")) {
      const longer = `${lines.at(-1)} ${word}`.trim();
      if (lines.at(-1) && tester.measureText(longer).width > most) lines.push(word);
      else lines[lines.length - 1] = longer;
    }
    return lines;
  };
  const under = cells.map(({ view }) => view.facts.flatMap(([name, text]) => wrapped(`${name}: ${text}`, wide)));
  const titles = cells.map(({ view }) => wrapped(view.title, wide, "600"));
  const scales = cells.map(({ view }) => (view.map && state.overlay ? wrapped(scaleWords(view).unit, wide) : []));
  const most = (counts) => Math.max(0, ...counts);
  const tallest = most(scales.map((lines) => (lines.length ? lines.length + 1 : 0)));
  const head = wrapped(state.value.heading || "", columns * (wide + gap) - gap, "600"), foot = wrapped(state.value.disclaimer, columns * (wide + gap) - gap, "600");
  const step = (most(titles.map((lines) => lines.length)) + 0.4 + tallest + 0.3 + most(under.map((lines) => lines.length))) * line + tall + gap;
  const start = gap + (state.value.heading ? head.length * line + gap / 2 : 0);
  const width = columns * (wide + gap) + gap, height = Math.round(start + rows * step + foot.length * line + gap);
  const { ink, put, gradient } = paint(width, height);
  const write = (lines, x, y, font = "") => {
    Object.assign(ink, { font: `${font} ${size}px system-ui, sans-serif`, fillStyle: inkColour, textAlign: "left", textBaseline: "alphabetic" });
    lines.forEach((text, i) => ink.fillText(text, x, y + (i + 0.8) * line));
  };
  ink.fillStyle = ground;
  ink.fillRect(0, 0, width, height);
  if (state.value.heading) write(head, gap, gap, "600");
  cells.forEach((cell, i) => {
    const x = gap + (i % columns) * (wide + gap);
    let y = start + Math.floor(i / columns) * step;
    write(titles[i], x, y, "600");
    y += (most(titles.map((text) => text.length)) + 0.2) * line;
    put(cell, x, y, wide, tall, ratio);
    y += tall + 0.3 * line;
    if (scales[i].length) {
      const { low, high } = scaleWords(cell.view), lead = tester.measureText(`${low} `).width;
      write([low], x, y);
      gradient(ramp(cell.view.map), x + lead, y + 0.15 * line, wide / 4, 0.7 * line);
      write([high], x + lead + wide / 4 + gap / 2, y);
      write(scales[i], x, y + line);
    }
    write(under[i], x, y + tallest * line);
  });
  write(foot, gap, height - gap / 2 - foot.length * line, "600");
  return { width, height };
}
function pixels(cell, wide, tall) {
  const canvas = make("canvas", { width: wide, height: tall });
  drawPixels(cell, canvas.getContext("2d", { alpha: false }));
  return canvas;
}
function fileName(kind) {
  return `${(state.value.study || "radiograph").replace(/\.\w{3,4}$/, "").replace(/[^\w.-]+/g, "_")}.${kind}`;
}
function hand(blob, kind) {
  const link = make("a", { download: fileName(kind), href: URL.createObjectURL(blob) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  announce(`Saved as ${fileName(kind)}`);
}
function savePng() {
  let sheet = null;
  panel((width, height) => {
    sheet = make("canvas", { width, height });
    const paper = sheet.getContext("2d");
    const put = (cell, x, y, wide, tall, ratio) => {
      const part = pixels(cell, wide, tall);
      drawLines(cell, part.getContext("2d"), ratio);
      paper.drawImage(part, x, y);
    };
    const gradient = (stops, x, y, wide, tall) => {
      const colour = paper.createLinearGradient(x, 0, x + wide, 0);
      stops.forEach((stop, at) => colour.addColorStop(at / (stops.length - 1), stop));
      paper.fillStyle = colour;
      paper.fillRect(x, y, wide, tall);
    };
    return { ink: paper, put, gradient };
  });
  sheet.toBlob((blob) => hand(blob, "png"));
}
function saveSvg() {
  let ink = null, count = 0;
  const { width, height } = panel((wide, tall) => {
    ink = drawing({ width: wide, height: tall });
    const put = (cell, x, y, w, h, ratio) => {
      const part = drawing({ width: w, height: h });
      drawLines(cell, part, ratio);
      ink.out.push(`<svg x="${x}" y="${y}" width="${w}" height="${h}" viewBox="0 0 ${w} ${h}" overflow="hidden"><image width="${w}" height="${h}" href="${pixels(cell, w, h).toDataURL("image/png")}"/>${part.out.join("")}</svg>`);
    };
    const gradient = (stops, x, y, w, h) => {
      const id = `scale${count++}`, last = stops.length - 1;
      ink.out.push(`<linearGradient id="${id}">${stops.map((stop, at) => `<stop offset="${at / last}" stop-color="${stop}"/>`).join("")}</linearGradient><rect x="${x}" y="${y}" width="${w}" height="${h}" fill="url(#${id})"/>`);
    };
    return { ink, put, gradient };
  });
  const text = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="system-ui, sans-serif">${ink.out.join("")}</svg>`;
  hand(new Blob([text], { type: "image/svg+xml" }), "svg");
}

watch("value", load);
load();
