// How a taught part is found: the mode, the image that shows it, and a box around it there.
// Coordinates are those of the image as captured, whatever its size on the screen.

import { $, draw, make, number, renew } from "./dom.js";
import { language, t } from "./texts.js";

const FIELDS = ["x", "y", "width", "height"];
// A drag of fewer pixels of the image is a click.
const MIN_PX = 4;

// By this share a part may be larger or smaller, where that is chosen.
const SIZE_SHARE = 0.1;

let teaching = null, mode = "", reference = "", box = null, from = null, drawn = null, session = null;

export function start() {
  $("align-mode").addEventListener("change", (event) => { mode = event.target.value; show(); });
  $("align-reference").addEventListener("change", (event) => { reference = event.target.value; box = null; show(); });
  $("align-clear").addEventListener("click", () => { box = null; show(); });
  for (const name of FIELDS) $(`align-${name}`).addEventListener("change", typed);
  const stage = $("align-stage");
  stage.addEventListener("pointerdown", down);
  stage.addEventListener("pointermove", move);
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, up);
}

export function take(found) {
  teaching = found;
  if (session !== found.begun_utc) {
    session = found.begun_utc;
    box = from = drawn = null;
    mode = found.aligned ? "before" : "none";
    reference = "";
    $("align-scale").checked = false;
  }
  show();
}

// What a build is asked for; null as in the version in force.
export function choice() {
  if (mode === "before") return null;
  if (mode === "none") return { mode: null };
  const scale = $("align-scale").checked ? SIZE_SHARE : 0;
  return { mode, scale, reference: Number(reference) || null, roi: reference && box ? { ...box } : null };
}

const word = (one) => t(`align_${one.replace(/\W/, "_")}`);

function show() {
  if (!teaching) return;
  const modes = [teaching.aligned ? "before" : null, "none", "shift", "shift+rotation", "full-rotation"].filter(Boolean);
  renew($("align-mode"), modes, (one) => `${one} ${language()}`, (one) => make("option", { value: one }, one === "before" ? t("align_before", { mode: word(teaching.aligned) }) : word(one)));
  const images = teaching.images.filter((one) => !one.struck && !["missed_defect", "passed", "rejected"].includes(one.kind));
  renew($("align-reference"), [null, ...images.map((one) => one.number)], (one) => `${one} ${language()}`, (one) => make("option", { value: one ?? "" }, one === null ? t("align_typical") : t("teach_image", { n: one })));
  if (!images.some((one) => String(one.number) === reference)) { reference = ""; box = drawn = null; } // excluded since
  $("align-mode").value = mode;
  $("align-reference").value = reference;
  $("align-more").hidden = ["before", "none"].includes(mode);
  $("align-draw").hidden = !reference;
  if (!reference) $("align-stage").replaceChildren();
  else if (drawn !== reference) picture();
  drawBox();
}

function picture() {
  drawn = reference;
  $("align-stage").replaceChildren(draw("svg", { viewBox: `0 0 ${teaching.width_px} ${teaching.height_px}` },
    draw("image", { href: `teach/large/${reference}`, width: teaching.width_px, height: teaching.height_px, preserveAspectRatio: "none" }),
    draw("rect", { class: "box under" }), draw("rect", { class: "box" })));
}

function drawBox() {
  for (const rect of $("align-stage").querySelectorAll(".box")) {
    for (const name of FIELDS) rect.setAttribute(name, box?.[name] ?? 0);
  }
  for (const name of FIELDS) {
    const input = $(`align-${name}`);
    if (document.activeElement !== input) input.value = box ? box[name] : "";
  }
  $("align-box").textContent = box ? t("align_box", { width: number(box.width), height: number(box.height) }) : t("align_no_box");
  $("align-clear").disabled = !box;
}

function at(event) {
  const svg = $("align-stage").firstElementChild;
  if (!svg) return null;
  const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse());
  return [Math.min(Math.max(x, 0), teaching.width_px), Math.min(Math.max(y, 0), teaching.height_px)];
}

function down(event) {
  if (event.button !== 0) return;
  from = at(event);
  if (from) $("align-stage").setPointerCapture(event.pointerId);
}

function move(event) {
  if (!from) return;
  const [x, y] = at(event), left = Math.round(Math.min(x, from[0])), top = Math.round(Math.min(y, from[1]));
  const width = Math.round(Math.max(x, from[0])) - left, height = Math.round(Math.max(y, from[1])) - top;
  if (Math.min(width, height) < MIN_PX) return;
  box = { x: left, y: top, width, height };
  drawBox();
}

function up() { from = null; }

// Numbers are taken as they are typed; the station refuses what does not lie inside.
function typed() {
  const values = FIELDS.map((name) => Math.round(Number($(`align-${name}`).value)));
  if (values[2] > 0 && values[3] > 0) box = Object.fromEntries(FIELDS.map((name, i) => [name, Math.max(values[i], 0)]));
  drawBox();
}

// Where the last build found the part in each image, the strangest first.
export function showPlaces() {
  const found = teaching.result?.alignment, placed = teaching.images.filter((one) => one.place);
  $("align-result").hidden = !found || !placed.length;
  if (!found || !placed.length) return;
  const [x, y, width, height] = found.roi;
  const words = found.scale ? t("align_sized", { mode: word(found.mode), share: number(100 * found.scale) }) : word(found.mode);
  $("align-found").textContent = t(found.reference === null ? "align_found_before" : "align_found", { mode: words, n: found.reference, x, y, width, height, likeness: number(found.least_likeness, 2) });
  $("align-places-title").textContent = t("align_places", { n: number(placed.length) });
  placed.sort((a, b) => b.place.strangeness - a.place.strangeness || a.number - b.number);
  renew($("align-places"), placed, (one) => `${one.number} ${teaching.result.build} ${language()}`, (one) => place(one, found.roi));
}

function place(one, [, , width, height]) {
  const { x, y, angle_deg, scale, likeness } = one.place, [across, down] = [width / 2, height / 2];
  return make("li", {},
    draw("svg", { viewBox: `0 0 ${teaching.width_px} ${teaching.height_px}`, role: "img", "aria-label": t("teach_image", { n: one.number }) },
      draw("image", { href: `teach/images/${one.number}`, width: teaching.width_px, height: teaching.height_px, preserveAspectRatio: "none" }),
      draw("g", { transform: `translate(${x} ${y}) rotate(${angle_deg}) scale(${scale})` },
        ...["box under", "box"].map((kind) => draw("rect", { class: kind, x: -across, y: -down, width, height })),
        draw("line", { class: "top", x1: -across, y1: -down, x2: across, y2: -down }))),
    make("div", { class: "line" }, make("span", {}, `${one.number}`), make("span", {}, number(likeness, 2))),
    make("div", { class: "line" }, make("span", {}, `${number(x)}, ${number(y)}`), make("span", {}, [`${number(angle_deg, 1)}°`, scale === 1 ? null : `×${number(scale, 3)}`].filter(Boolean).join(" "))));
}
