// Single parts: search, detail, marks, export.

import { $, act, actor, badge, clock, draw, get, make, moment, number, raw, renew, shortened, toast, use, who } from "./dom.js";
import { t } from "./texts.js";

let before = null, selected = null, lastQuery = null;
// From here on the list and the part stand side by side.
const WIDE = matchMedia("(min-width: 1200px)"), NARROW = matchMedia("(max-width: 799px)");

export function start() {
  $("search").addEventListener("submit", (event) => { event.preventDefault(); search(); });
  $("search").addEventListener("change", showExport);
  $("older").addEventListener("click", () => search(true));
  $("found").addEventListener("click", (event) => { const row = event.target.closest("tr"); if (row) choose(row); });
  $("found").addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) { event.preventDefault(); go(step); }
  });
}

export async function open(seq) {
  if (!lastQuery) search();
  if (!seq) return;
  await show(seq);
  if (!WIDE.matches) $("detail").scrollIntoView({ block: "start" });
}

const rowOf = (seq) => $("found").querySelector(`[data-seq="${seq}"]`);

function choose(row) { location.hash = `#parts/${row.dataset.seq}`; }

// To the next older or newer part of the list; at its end more are fetched.
async function go(step) {
  const row = rowOf(selected);
  let next = row ? (step > 0 ? row.nextElementSibling : row.previousElementSibling) : $("found").firstElementChild;
  if (!next && step > 0 && before !== null) { await search(true); next = row.nextElementSibling; }
  if (!next) return toast(t(step > 0 ? "no_older" : "no_newer"));
  if ($("found").contains(document.activeElement)) next.querySelector("a").focus();
  next.scrollIntoView({ block: "nearest" });
  choose(next);
}

export function relabel() { if (lastQuery) search(); if (selected) show(selected); }

function parameters() {
  const found = new URLSearchParams();
  for (const [name, value] of new FormData($("search"))) if (value) found.set(name, value.trim());
  // The station's clock may be set to another zone than that of who looks.
  for (const name of ["from", "to"]) if (found.has(name)) found.set(name, new Date(found.get(name)).toISOString());
  return found;
}

function showExport() { $("export").href = `api/parts.csv?${parameters()}`; }

async function search(more = false) {
  const query = parameters();
  showExport();
  if (more && before) query.set("before", before);
  lastQuery = query;
  try {
    const found = await get(`api/parts?${query}`);
    if (lastQuery !== query) return; // a newer search is on its way
    before = found.before;
    const rows = found.parts.map(line);
    if (more) $("found").append(...rows); else $("found").replaceChildren(...rows);
    $("older").hidden = before === null;
    $("found-more").textContent = $("found").childElementCount ? "" : t("nothing_found");
  } catch (error) {
    $("found-more").textContent = error.message;
  }
}

function line(part) {
  const [day, time] = moment(part.utc).split(" "), name = part.part_id ?? part.image_name ?? "–";
  const today = moment(new Date()).startsWith(day);
  return make("tr", { "data-seq": part.seq, "aria-selected": part.seq === selected },
    make("td", { class: "small" }, part.image ? make("img", { src: `images/${part.id}/thumbnail`, alt: "", loading: "lazy", onerror: (event) => event.target.remove() }) : null),
    make("td", {}, make("a", { href: `#parts/${part.seq}` }, number(part.seq))), make("td", {}, today ? null : make("span", { class: "day" }, `${day} `), time), make("td", {}, badge(part.result)),
    make("td", {}, number(part.score, 2)), make("td", { class: "name", title: name }, shortened(name, NARROW.matches ? 11 : 16)), make("td", { class: "marked" }, part.mark ? t(part.mark) : ""));
}

async function show(seq) {
  selected = seq;
  for (const row of $("found").children) row.setAttribute("aria-selected", Number(row.dataset.seq) === seq);
  try {
    const found = await get(`api/parts/${seq}`);
    if (selected === seq) detail(found);
  } catch (error) {
    $("detail").replaceChildren(make("p", { class: "empty" }, error.message));
  }
}

function detail(found) {
  const { verdict, images, feedback } = found;
  $("detail").replaceChildren(...[
    make("div", { class: "row steps" },
      make("button", { type: "button", id: "newer-part", onclick: () => go(-1) }, t("newer_part")),
      make("button", { type: "button", id: "older-part", onclick: () => go(1) }, t("older_part")),
      make("button", { type: "button", id: "to-list", onclick: () => (rowOf(selected) ?? $("search")).scrollIntoView({ block: "center" }) }, t("to_list"))),
    make("div", { class: "head" }, badge(verdict.result), make("strong", {}, `${t("number")} ${number(found.seq)}`), make("span", {}, moment(verdict.time.decided_utc))),
    marks(found, feedback), explained(verdict), keptImage(verdict, images), facts(found, verdict),
    make("details", {}, make("summary", {}, t("everything")), make("pre", { tabindex: 0 }, JSON.stringify(found, null, 1)))].filter(Boolean));
}

function explained({ result, reason, regions }) {
  const word = regionsWord(result, reason, regions.length);
  return word ? make("p", { class: "explain regions-word" }, word) : null;
}

// A part is decided by its image score, regions are found by the scores of places: both have a
// threshold of their own, so one may be reached without the other.
export function regionsWord(result, reason, count, short = "") {
  if (result === "OK" && count) return t(`regions_but_ok${short}`);
  return result === "NOK" && reason === "score_above" && !count ? t(`nok_without_region${short}`) : "";
}

function keptImage(verdict, kinds) {
  if (!kinds.length) return make("p", { class: "empty" }, t("no_snapshot"));
  const words = { overlay: "overlay", image: "plain", thumbnail: "thumbnail" };
  const image = make("img", { alt: `${t("part")} ${verdict.seq}: ${t(verdict.result)}` });
  const buttons = kinds.map((kind) => make("button", { type: "button", onclick: () => choose(kind) }, t(words[kind])));
  function choose(kind) {
    image.src = `images/${verdict.id}/${kind}`;
    kinds.forEach((other, i) => buttons[i].setAttribute("aria-pressed", other === kind));
  }
  choose(kinds.includes("overlay") ? "overlay" : kinds[0]);
  return make("div", {}, framed(image, verdict, !kinds.includes("overlay")), kinds.length > 1 ? make("div", { class: "row layers" }, ...buttons) : null);
}

// The whole image in sight; one without an overlay of its own gets its regions drawn over it.
function framed(image, { image: { width_px: width, height_px: height }, regions }, outline) {
  const frame = make("div", { class: "framed" }, image);
  if (width && height) frame.style.maxWidth = `calc(64vh * ${width / height})`;
  if (outline && width && height && regions.length) {
    frame.append(draw("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" }, ...regions.map(({ bbox: [x, y, w, h] }) =>
      draw("rect", { class: "region", x: x - 4, y: y - 4, width: w + 8, height: h + 8, rx: 3 }))));
  }
  return frame;
}

function marks(found, feedback) {
  const box = make("div", { class: "row" });
  if (feedback) box.append(make("strong", {}, t("marked", { mark: t(feedback.mark), by: who(feedback.by) })));
  if (!actor()) return box;
  const { result } = found.verdict;
  const offered = feedback ? ["none"] : result === "OK" ? ["missed_defect"] : result === "ERROR" ? [] : ["false_reject"];
  for (const mark of offered) box.append(make("button", { type: "button", onclick: () => markPart(found.seq, mark) }, t(`mark_${mark}`)));
  return box;
}

async function markPart(seq, mark) {
  let done;
  try {
    done = await act("feedback", { seq, mark });
  } catch (error) {
    toast(t("failed", { why: error.message }), true);
    return;
  }
  toast(t(mark === "none" ? "mark_taken_back" : done.image_kept ? "mark_done" : "mark_done_no_image"));
  await recorded(seq, mark);
  // The list stays as it is: whoever goes through it goes on from here.
  const cell = rowOf(seq)?.querySelector(".marked");
  if (cell) cell.textContent = mark === "none" ? "" : t(mark);
  if (selected === seq) show(seq);
}

// The mark is shown from the journal, which has it after its next commit; a busy disk takes longer.
async function recorded(seq, mark) {
  for (let pause_ms = 100; selected === seq && pause_ms < 10000; pause_ms *= 1.3) {
    await new Promise((done) => setTimeout(done, pause_ms));
    const found = await get(`api/parts/${seq}`).catch(() => null);
    if (found && (found.feedback?.mark ?? "none") === mark) return;
  }
}

function facts(found, verdict) {
  const { duration_ms: d } = verdict;
  const stages = ["trigger_to_frame", "queue", "preprocess", "inference", "postprocess"].filter((s) => d[s] !== null).map((s) => `${t(`stage_${s}`)} ${d[s]} ms`).join(", ");
  const kept = verdict.deadline_ms === null ? null : `${verdict.deadline_ms} ms, ${t(verdict.deadline_met ? "deadline_met" : "deadline_missed")}`;
  const pairs = [
    ["reason", t(verdict.reason) + (verdict.detail ? `: ${verdict.detail}` : "")],
    ["raw_score", `${raw(verdict.raw_score)} (${t("threshold_line")} ${raw(verdict.raw_threshold)})`],
    ["score", verdict.anomaly_score === null ? "–" : number(verdict.anomaly_score, 4)],
    ["part_id", verdict.part_id], ["recipe", verdict.recipe && `${verdict.recipe.id} ${verdict.recipe.version}`], ["image_file", found.image_name], ["trigger", [t(`source_${verdict.trigger_source}`), verdict.trigger_id].filter(Boolean).join(" ")],
    ["located", place(verdict.locator)], ["zones", zones(verdict.zones)],
    ["regions_found", number(verdict.regions.length) + (verdict.regions_truncated ? "+" : "")],
    ["frame", `${verdict.frame.id}, ${t(`status_${verdict.frame.status}`)}, ${verdict.image.width_px ?? "–"} × ${verdict.image.height_px ?? "–"}`],
    ["total", `${d.total} ms`], ["latency_stages", stages], ["deadline", kept], ["recorded", moment(found.recorded_utc)],
    ["model", `${verdict.model.name} ${verdict.model.version}, ${verdict.model.precision}`],
    ["image_hash", verdict.image.sha256], ["model_hash", verdict.model.sha256], ["config_hash", verdict.config_sha256],
  ];
  return make("dl", { class: "pairs" }, ...pairs.filter(([, value]) => value).flatMap(([key, value]) => [make("dt", {}, t(key)), make("dd", {}, value)]));
}

function place(locator) {
  return locator && `${number(locator.x, 1)}, ${number(locator.y, 1)}, ${number(locator.angle_deg, 1)}°${locator.scale ? ` ×${number(locator.scale, 3)}` : ""} (${number(locator.score, 2)})`;
}

function zones(all) {
  return all && all.map((zone) => `${zone.name}: ${t(zone.result)}, ${raw(zone.raw_score)} (${t("threshold_line")} ${raw(zone.raw_threshold)})`).join("; ");
}

export function strip(host, parts) {
  if (!parts.length) return host.replaceChildren(make("li", {}, make("p", { class: "empty" }, t("none_rejected"))));
  renew(host, parts, (part) => part.id, card);
}

// The record of a part may come before its image, so the image is requested more than once.
const TRIES = 3, TRY_AGAIN_MS = 1500;

function card(part) {
  const thumb = make("div", { class: "thumb" });
  const shape = use(`shape-${part.result}`, { class: `t-${part.result}` });
  let tries = 0;
  const failed = () => {
    thumb.replaceChildren(shape);
    if ((tries += 1) < TRIES) setTimeout(ask, TRY_AGAIN_MS);
  };
  const ask = () => {
    const image = make("img", { alt: "", onerror: failed, onload: () => thumb.replaceChildren(image) });
    if (!tries) thumb.append(image);
    image.src = `images/${part.id}/thumbnail`;
  };
  ask();
  const label = `${t("number")} ${part.seq}: ${t(part.result)}, ${t(part.reason)}`;
  return make("li", {}, make("a", { href: `#parts/${part.seq}`, "aria-label": label, title: label }, thumb,
    make("div", { class: "line" }, badge(part.result), make("span", {}, part.score === null ? "" : number(part.score, 2)), make("time", {}, clock(part.utc)))));
}
