// Charts as plain SVG: trend, histogram, hours, causes.

import { clock, draw, make, number, percent, raw } from "./dom.js";
import { t } from "./texts.js";

const PAD = { left: 44, right: 10, top: 8, bottom: 20 };

function stage(host, label) {
  const width = Math.max(200, host.clientWidth), height = Math.max(120, host.clientHeight);
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": label });
  host.replaceChildren(svg);
  return { svg, width, height, right: width - PAD.right, bottom: height - PAD.bottom };
}

const empty = (host) => host.replaceChildren(make("p", { class: "empty" }, t("no_data")));

function goodBand(good) {
  const at = (p) => good.scores[good.probabilities.indexOf(p)];
  return [at(0.05) ?? good.scores[0], at(0.95) ?? good.scores.at(-1)];
}

export function trend(host, points, model) {
  const shown = points.filter((point) => point[3] !== null);
  if (!shown.length) return empty(host);
  const { svg, right, bottom } = stage(host, t("trend"));
  const scores = shown.map((p) => p[3]), limits = shown.map((p) => p[4]);
  const band = model?.good.scores.length ? goodBand(model.good) : null;
  const low = Math.min(...scores, ...limits, ...(band ?? [])), high = Math.max(...scores, ...limits, ...(band ?? []));
  const room = (high - low || 1) * 0.06;
  const x = (i) => PAD.left + ((right - PAD.left) * (i + 0.5)) / shown.length;
  const y = (v) => bottom - ((bottom - PAD.top) * (v - low + room)) / (high - low + 2 * room);
  if (band) svg.append(draw("rect", { class: "band", x: PAD.left, width: right - PAD.left, y: y(band[1]), height: Math.max(2, y(band[0]) - y(band[1])) }));
  for (const value of [low, (low + high) / 2, high]) {
    svg.append(draw("line", { class: "axis", x1: PAD.left, x2: right, y1: y(value), y2: y(value) }), draw("text", { x: PAD.left - 6, y: y(value) + 4, "text-anchor": "end" }, raw(Number(value.toPrecision(3)))));
  }
  const line = limits.map((v, i) => `${i ? "L" : "M"}${x(i).toFixed(1)} ${y(v).toFixed(1)}`).join("");
  svg.append(draw("path", { class: "limit", d: line, fill: "none" }));
  const size = shown.length > 200 ? 2 : 3;
  shown.forEach((p, i) => {
    const [cx, cy] = [x(i), y(p[3])];
    // Rejected parts are squares: shape, not colour alone.
    svg.append(p[2] === "OK" ? draw("circle", { class: "f-OK", cx, cy, r: size }) : draw("rect", { class: `f-${p[2]}`, x: cx - size, y: cy - size, width: 2 * size, height: 2 * size }));
  });
  svg.append(draw("text", { x: PAD.left, y: bottom + 15 }, `${t("number")} ${number(shown[0][0])}`), draw("text", { x: right, y: bottom + 15, "text-anchor": "end" }, number(shown.at(-1)[0])));
}

// Until its first part a new model has no scores; those of the model before say nothing of it.
export const ofModel = (found, model) => (found && (!model || found.model_sha256 === model.sha256) ? found : null);

export function histogram(host, found, model, tried = null) {
  if (!ofModel(found, model)) return empty(host);
  const { svg, right, bottom } = stage(host, t("histogram"));
  const most = Math.max(...found.counts);
  // The threshold in force; that of the newest part may be an older one.
  const limit = model?.threshold ?? found.threshold;
  const low = Math.min(found.low, limit), high = Math.max(found.high, limit);
  const x = (v) => PAD.left + ((right - PAD.left) * (v - low)) / (high - low);
  // Few rejected parts among many good ones have to be seen: the root of the count.
  const y = (n) => bottom - (bottom - PAD.top - 6) * Math.sqrt(n / most);
  if (model?.good.scores.length) {
    const [from, to] = goodBand(model.good).map((v) => Math.min(Math.max(v, low), high));
    svg.append(draw("rect", { class: "band", x: x(from), width: Math.max(2, x(to) - x(from)), y: PAD.top, height: bottom - PAD.top }));
  }
  const step = (found.high - found.low) / found.counts.length, threshold = tried ?? limit;
  found.counts.forEach((n, i) => {
    if (!n) return;
    const begin = found.low + i * step;
    svg.append(draw("rect", { class: begin + step / 2 >= threshold ? "f-NOK" : "f-OK", x: x(begin) + 0.5, width: Math.max(1, x(begin + step) - x(begin) - 1), y: y(n), height: bottom - y(n), rx: 1 }, draw("title", {}, `${raw(begin)} – ${raw(begin + step)}: ${n}`)));
  });
  svg.append(draw("line", { class: "axis", x1: PAD.left, x2: right, y1: bottom, y2: bottom }));
  svg.append(draw("line", { class: "limit", x1: x(limit), x2: x(limit), y1: PAD.top, y2: bottom }));
  if (tried !== null) {
    const at = x(Math.min(Math.max(tried, low), high));
    svg.append(draw("line", { class: "try", x1: at, x2: at, y1: PAD.top - 4, y2: bottom }));
    label(svg, at, right, `${t("tried_line")} ${raw(tried)}`);
  }
  svg.append(draw("text", { x: PAD.left - 6, y: y(most) + 8, "text-anchor": "end" }, number(most)));
  for (const [value, anchor] of [[low, "start"], [high, "end"]]) svg.append(draw("text", { x: x(value), y: bottom + 15, "text-anchor": anchor }, raw(Number(value.toPrecision(3)))));
  if (tried === null) label(svg, x(limit), right, `${t("threshold_line")} ${raw(limit)}`);
}

// Beside its line, on the side where there is room.
function label(svg, x, right, text) {
  const left = x > 0.7 * right;
  svg.append(draw("text", { class: "over", x: left ? x - 6 : x + 6, y: PAD.top + 8, "text-anchor": left ? "end" : "start" }, text));
}

const RESULTS = ["OK", "NOT_DECIDABLE", "NOK", "ERROR"];

export function hours(host, found) {
  if (!found.some((hour) => hour.total)) return empty(host);
  const { svg, right, bottom } = stage(host, t("hours"));
  const most = Math.max(...found.map((hour) => hour.total));
  const wide = (right - PAD.left) / found.length;
  found.forEach((hour, i) => {
    let top = bottom;
    const begin = clock(hour.begin).slice(0, 5);
    const bars = draw("g", {}, draw("title", {}, `${begin}  ${RESULTS.map((r) => `${t(r)} ${hour.counts[r] ?? 0}`).join("  ")}  ${percent(hour.yield)}`));
    for (const result of RESULTS) {
      const tall = ((bottom - PAD.top) * (hour.counts[result] ?? 0)) / most;
      if (!tall) continue;
      top -= tall;
      bars.append(draw("rect", { class: `f-${result}`, x: PAD.left + i * wide + 1.5, width: Math.max(2, wide - 3), y: top, height: tall, rx: 1 }));
    }
    svg.append(bars);
    if (i % 4 === 3) svg.append(draw("text", { x: PAD.left + (i + 0.5) * wide, y: bottom + 15, "text-anchor": "middle" }, begin));
  });
  svg.append(draw("line", { class: "axis", x1: PAD.left, x2: right, y1: bottom, y2: bottom }), draw("text", { x: PAD.left - 6, y: PAD.top + 8, "text-anchor": "end" }, number(most)));
}

export function causes(host, found) {
  if (!found.length) return host.replaceChildren(make("p", { class: "empty" }, t("none_rejected")));
  const most = Math.max(...found.map(([, n]) => n));
  host.replaceChildren(...found.map(([reason, n]) => {
    const bar = make("progress", { max: most, value: n, "aria-label": t(reason) });
    return make("div", { class: "bar" }, make("span", {}, t(reason)), make("b", {}, number(n)), bar);
  }));
}
