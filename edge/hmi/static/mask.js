// Mask and zones, drawn over the live or a kept image. All coordinates are those of what the mask
// is drawn on: the frame, or the reference image, in which a turned part is shown upright.

import { $, act, actor, draw, get, make, number, percent, raw, toast } from "./dom.js";
import { t } from "./texts.js";

// As many bytes as a request may have, with room for its other fields.
const MAX_BYTES = 15000;
// So near to the first corner, in pixels of the screen, a click closes the polygon.
const NEAR_PX = 14;
const MAX_LISTED = 30;
const EMPTY = { ignore: [], zones: [], strokes: [], keep: false };

let force = null, shape = EMPTY, past = [], begun = [], stroke = null, tool = "ignore", built = false, changed = false, saving = false, edits = 0;
let image = null, newest = null, kept = [], scored = [];

export function start() { addEventListener("keydown", keys); }

export function takePart(part) { if (part.image) newest = part; }

// The line of the card in Control.
export async function look() {
  try { force = await get("api/mask"); } catch { return; }
  const count = force.ignore.length + (force.painted ? 1 : 0);
  $("mask-now").textContent = force.origin === "none" ? t("mask_now_none") : t("mask_now", { ignored: number(count), zones: number(force.zones.length), origin: t(`origin_${force.origin}`) });
}

export async function open() {
  build();
  if (!changed) await load();
  await listParts();
  if (!image) await choose($("mask-image").value);
  show();
}

export function relabel() {
  if (force) look();
  if (!built) return;
  built = false;
  if (!$("view-mask").hidden) { build(); fillImages(); show(); }
}

function build() {
  if (built) return;
  built = true;
  const button = (id, word, onclick, more = {}) => make("button", { id, type: "button", onclick, ...more }, t(word));
  const tools = ["ignore", "zone", "brush", "erase"].map((name) => button(`tool-${name}`, `tool_${name}`, () => { tool = name; begun = []; show(); }));
  $("view-mask").replaceChildren(make("div", { class: "mask-split" },
    make("section", { class: "card" },
      make("div", { class: "mask-bar" },
        make("label", {}, make("span", {}, t("mask_image")), make("select", { id: "mask-image", onchange: (event) => choose(event.target.value).then(show) }))),
      make("div", { class: "mask-bar", role: "toolbar", "aria-label": t("mask_tools") }, ...tools,
        make("label", {}, make("span", {}, t("brush_width")), make("input", { id: "brush-width", type: "range", min: 1, max: 100, value: 20 })),
        button("mask-finish", "mask_finish", finish), button("mask-cancel", "mask_cancel", () => { begun = []; show(); }), button("mask-undo", "mask_undo", undo)),
      make("div", { id: "mask-stage", onpointerdown: down, onpointermove: move, onpointerup: up, onpointercancel: up }),
      make("p", { class: "explain" }, t("mask_help")), make("p", { id: "mask-trouble", class: "error", role: "alert" })),
    make("section", { class: "card" },
      make("h2", {}, t("mask")), make("ol", { id: "mask-shapes" }),
      make("div", { class: "row" }, button("mask-reload", "mask_reload", async () => { await load(); show(); }), button("mask-empty", "mask_empty", () => keep({ ...EMPTY }))),
      make("form", { id: "mask-save", onsubmit: (event) => { event.preventDefault(); save(); } },
        make("label", {}, make("span", {}, t("mask_threshold")), make("input", { id: "mask-threshold", type: "number", step: "any" })),
        make("p", { class: "explain" }, t("mask_threshold_explain")),
        make("label", {}, make("span", {}, t("comment")), make("input", { id: "mask-comment", maxlength: 200, autocomplete: "off" })),
        make("p", { id: "mask-unsaved", role: "status" }),
        make("button", { class: "primary", "data-acts": true, id: "mask-apply" }, t("mask_save")),
        button("mask-restore", "mask_restore", restore, { "data-acts": true })))));
}

// Takes what is in force, unless that is still what it was before; what is drawn meanwhile stays.
async function load(before = null) {
  const drawn = edits;
  const found = await get("api/mask");
  if (found.sha256 === before) return false;
  force = found;
  try { scored = (await get("api/zones")).zones; } catch { scored = []; }
  if (edits !== drawn) return true;
  shape = { ignore: force.ignore, zones: force.zones, strokes: [], keep: Boolean(force.painted) };
  past = []; begun = []; stroke = null; changed = false;
  return true;
}

async function listParts() {
  try { kept = (await get(`api/parts?limit=${MAX_LISTED}`)).parts.filter((part) => part.image); } catch { kept = []; }
  fillImages();
}

function fillImages() {
  const select = $("mask-image"), chosen = select.value || image?.key;
  const live = force?.reference ? [] : [make("option", { value: "live" }, t("mask_live"))];
  select.replaceChildren(...live, ...kept.map((part) => make("option", { value: part.seq }, t("mask_part", { seq: part.seq, result: t(part.result) }))));
  if (chosen && [...select.options].some((option) => option.value === String(chosen))) select.value = chosen;
}

// The newest live image, held still, or a kept one; with a locator, as it lies in the reference.
async function choose(key) {
  if (key === "live" && newest) {
    const { id, image: { width_px: width, height_px: height } } = newest;
    image = { key, href: await held(`live/${id}.jpg`), width, height, turned: null };
  } else if (key && key !== "live") {
    const { verdict } = await get(`api/parts/${key}`), { width_px: width, height_px: height } = verdict.image;
    image = { key, href: `images/${verdict.id}/image`, width, height, turned: force?.reference && verdict.locator ? turned(verdict.locator) : null };
  }
}

// A live image leaves the station's memory soon.
async function held(path) {
  const content = await (await fetch(path)).blob();
  return new Promise((done) => { const reader = new FileReader(); reader.onload = () => done(reader.result); reader.readAsDataURL(content); });
}

// From the frame to the reference: back by the place where the part was found, its angle and size.
function turned({ x, y, angle_deg, scale = 1 }) {
  const [px, py] = force.pivot;
  return `translate(${px} ${py}) rotate(${-angle_deg}) scale(${1 / scale}) translate(${-x} ${-y})`;
}

const size = () => force?.reference ?? (image ? [image.width, image.height] : [4, 3]);
const fits = () => !force || force.width_px === null || (shape.ignore.length + shape.zones.length === 0 && !shape.keep) || (force.width_px === size()[0] && force.height_px === size()[1]);

export function show() {
  if (!built) return;
  const [width, height] = size(), points = (polygon) => polygon.map((point) => point.join(",")).join(" ");
  const lines = [...shape.strokes, ...(stroke ? [stroke] : [])];
  const white = draw("mask", { id: "painted", maskUnits: "userSpaceOnUse", x: 0, y: 0, width, height },
    shape.keep && force?.painted ? draw("image", { href: force.painted, x: 0, y: 0, width, height }) : null,
    ...lines.map((one) => draw("polyline", { points: points(one.points.length > 1 ? one.points : [one.points[0], one.points[0]]), fill: "none", stroke: one.erase ? "#000" : "#fff", "stroke-width": one.width_px, "stroke-linecap": "round", "stroke-linejoin": "round" })));
  const svg = draw("svg", { viewBox: `0 0 ${width} ${height}` },
    image ? draw("image", { href: image.href, width: image.width, height: image.height, preserveAspectRatio: "none", transform: image.turned }) : null,
    white, draw("rect", { class: "paint", width, height, mask: "url(#painted)" }),
    ...shape.ignore.map((polygon) => draw("polygon", { class: "ignored", points: points(polygon) })),
    ...shape.zones.map((zone) => draw("polygon", { class: "zone", points: points(zone.polygon) })),
    begun.length ? draw("polyline", { class: "begun", points: points(begun) }) : null,
    ...begun.map(([x, y]) => draw("circle", { class: "corner", cx: x, cy: y, r: 6 / scale() })));
  $("mask-stage").replaceChildren(svg);
  for (const name of ["ignore", "zone", "brush", "erase"]) $(`tool-${name}`).setAttribute("aria-pressed", name === tool);
  $("mask-finish").disabled = begun.length < 3;
  $("mask-cancel").disabled = begun.length === 0;
  $("mask-undo").disabled = past.length === 0 && begun.length === 0;
  $("mask-unsaved").textContent = changed ? t("mask_unsaved") : "";
  $("mask-threshold").placeholder = t("mask_threshold_keep", { threshold: raw(force?.threshold) });
  $("mask-trouble").textContent = force?.refused || (force?.reference && !kept.length ? t("mask_needs_kept") : fits() ? "" : t("mask_other_size", { width: force.width_px, height: force.height_px, other: size().join("×") }));
  for (const id of ["mask-apply", "mask-restore"]) $(id).disabled = saving || !actor();
  if (!fits() || force?.refused) $("mask-apply").disabled = true;
  if (force?.origin !== "page") $("mask-restore").disabled = true;
  list();
}

const scale = () => { const box = $("mask-stage").getBoundingClientRect(); return box.width ? Math.min(box.width / size()[0], 0.72 * innerHeight / size()[1]) : 1; };

function list() {
  const drop = (name, at) => make("button", { type: "button", onclick: () => keep({ ...shape, [name]: shape[name].filter((_, i) => i !== at) }) }, t("mask_delete"));
  const head = (word, button) => make("div", { class: "head" }, make("strong", {}, word), button);
  const field = (zone, at, name, word, more) => make("label", {}, make("span", {}, t(word)), make("input", { value: zone[name] ?? "", placeholder: t("zone_as_part"), ...more, onchange: (event) => limit(at, name, event.target.value, more.type) }));
  const rows = [
    ...shape.ignore.map((_, i) => make("li", {}, head(t("ignored_area", { n: i + 1 }), drop("ignore", i)))),
    ...(shape.keep || shape.strokes.length ? [make("li", {}, head(t("painted_area"), make("button", { type: "button", onclick: () => keep({ ...shape, strokes: [], keep: false }) }, t("mask_delete"))))] : []),
    ...shape.zones.map((zone, i) => make("li", { class: "zone" }, head(zone.name, drop("zones", i)), make("div", { class: "limits" },
      field(zone, i, "name", "zone_name", { type: "text", maxlength: 40 }), field(zone, i, "threshold", "zone_threshold", { type: "number", step: "any" }),
      field(zone, i, "guard_band", "zone_guard", { type: "number", step: "any", min: 0, max: 0.49 }), field(zone, i, "smallest_region_px", "zone_smallest", { type: "number", step: 1, min: 0 })), advice(zone, i))),
  ];
  $("mask-shapes").replaceChildren(...(rows.length ? rows : [make("li", { class: "empty" }, t("mask_nothing"))]));
}

// What good parts scored in a zone; of one that was changed since nobody knows.
function advice(zone, at) {
  const same = force?.zones.some((one) => one.name === zone.name && String(one.polygon) === String(zone.polygon));
  const found = same && scored.find((one) => one.name === zone.name);
  if (!found) return null;
  const [low, high] = found.rejected_interval.map(percent);
  return make("p", { class: "explain" }, t("zone_scores", { parts: number(found.parts), median: raw(found.median), highest: raw(found.highest), threshold: raw(found.threshold), rejected: number(found.rejected), low, high }), " ",
    make("button", { type: "button", onclick: () => limit(at, "threshold", String(found.threshold), "number") }, t("zone_use", { threshold: raw(found.threshold) })));
}

function limit(at, name, text, type) {
  const value = type === "number" ? (text === "" ? null : Number(text)) : text.trim();
  if (name === "name" && !value) return list();
  keep({ ...shape, zones: shape.zones.map((zone, i) => (i === at ? { ...zone, [name]: value } : zone)) });
}

function keep(next) { edits += 1; past.push(shape); shape = next; changed = true; show(); }

function undo() {
  edits += 1;
  if (begun.length) begun = begun.slice(0, -1);
  else if (past.length) shape = past.pop();
  changed = changed && (past.length > 0 || begun.length > 0);
  show();
}

function keys(event) {
  if ($("view-mask").hidden || ["INPUT", "SELECT"].includes(event.target.tagName)) return;
  if (event.key === "Escape") { begun = []; show(); }
  if (event.key === "Enter" && begun.length >= 3 && event.target.tagName !== "BUTTON") { event.preventDefault(); finish(); }
  if (event.key === "z" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); undo(); }
}

function place(event) {
  const [width, height] = size(), at = new DOMPoint(event.clientX, event.clientY).matrixTransform($("mask-stage").firstChild.getScreenCTM().inverse());
  const inside = (value, most) => Math.round(10 * Math.min(Math.max(value, 0), most)) / 10;
  return [inside(at.x, width), inside(at.y, height)];
}

function down(event) {
  if (event.button || !image) return;
  event.preventDefault();
  edits += 1;
  const at = place(event);
  if (tool === "brush" || tool === "erase") {
    $("mask-stage").setPointerCapture(event.pointerId);
    stroke = { width_px: Math.max(1, Math.round(Number($("brush-width").value) / 500 * size()[0])), erase: tool === "erase", points: [at.map(Math.round)] };
    return show();
  }
  const first = begun[0];
  if (begun.length >= 3 && Math.hypot(at[0] - first[0], at[1] - first[1]) * scale() < NEAR_PX) return finish();
  const last = begun.at(-1);
  if (!last || last[0] !== at[0] || last[1] !== at[1]) begun = [...begun, at];
  show();
}

function move(event) {
  if (!stroke) return;
  const at = place(event).map(Math.round), last = stroke.points.at(-1);
  if (Math.hypot(at[0] - last[0], at[1] - last[1]) < Math.max(2, stroke.width_px / 6)) return;
  stroke.points.push(at);
  show();
}

function up() {
  if (!stroke) return;
  const done = { ...stroke, points: simplified(stroke.points, Math.max(1, stroke.width_px / 12)).slice(0, 400) };
  stroke = null;
  keep({ ...shape, strokes: [...shape.strokes, done] });
}

// Douglas and Peucker, 1973: corners that lie within a distance of the line without them go.
function simplified(points, most) {
  if (points.length < 3) return points;
  const [a, b] = [points[0], points.at(-1)], length = Math.hypot(b[0] - a[0], b[1] - a[1]);
  let far = 0, at = 0;
  points.forEach(([x, y], i) => {
    const away = length ? Math.abs((b[0] - a[0]) * (a[1] - y) - (a[0] - x) * (b[1] - a[1])) / length : Math.hypot(x - a[0], y - a[1]);
    if (away > far) { far = away; at = i; }
  });
  if (far <= most) return [a, b];
  return [...simplified(points.slice(0, at + 1), most).slice(0, -1), ...simplified(points.slice(at), most)];
}

function finish() {
  if (begun.length < 3) return;
  const polygon = begun;
  begun = [];
  if (tool !== "zone") return keep({ ...shape, ignore: [...shape.ignore, polygon] });
  const names = shape.zones.map((zone) => zone.name);
  let n = 1;
  while (names.includes(t("zone_new", { n }))) n += 1;
  keep({ ...shape, zones: [...shape.zones, { name: t("zone_new", { n }), polygon, threshold: null, pixel_threshold: null, guard_band: null, smallest_region_px: null }] });
}

async function save() {
  const [width_px, height_px] = size(), { ignore, zones, strokes, keep: keep_painted } = shape;
  const wanted = $("mask-threshold").value;
  const body = { before: force.sha256, comment: $("mask-comment").value, image_threshold: wanted === "" ? null : Number(wanted), drawing: { width_px, height_px, ignore, zones, strokes, keep_painted } };
  if (new TextEncoder().encode(JSON.stringify(body)).length > MAX_BYTES) return toast(t("mask_too_long"), true);
  await send(body);
}

const restore = () => send({ before: force.sha256, comment: $("mask-comment").value, drawing: null });

async function send(body) {
  const before = force.sha256;
  saving = true;
  show();
  toast(t("loading"));
  try {
    const done = await act("mask", body);
    toast(t("mask_done", { ignored: number(100 * done.ignored_now, 1), zones: done.zones.join(", ") || t("mask_no_zones"), threshold: raw(done.threshold) }));
    $("mask-comment").value = $("mask-threshold").value = "";
    await inForce(before);
  } catch (error) {
    toast(t("failed", { why: error.message }), true);
  } finally {
    saving = false;
    show();
  }
}

// The page's process hears of it within a second.
async function inForce(before) {
  for (let tries = 0; tries < 20; tries += 1) {
    if (await load(before)) return;
    await new Promise((done) => setTimeout(done, 250));
  }
  await load(); // nothing has changed
}
