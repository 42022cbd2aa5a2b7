// The line as it is now: the verdict, the live image, the station's state.

import { $, act, actor, ago, badge, bytes, clock, draw, kept, make, number, raw, renew, toast, use, who, withEnd } from "./dom.js";
import { regionsWord } from "./parts.js";
import { known, language, reasonText, t } from "./texts.js";

// Reasons for which no part is inspected now, whatever the last verdict was.
const HINDERING = ["camera_lost", "camera_failed", "journal_unwritable", "journal_full", "modbus_master_away", "output_module_away", "output_camera_away", "output_gpio_away", "output_encoder_away"];
// Shown where camera and journal are.
const SHOWN_ABOVE = ["camera_lost", "camera_failed", "journal_unwritable", "modbus_master_away", "output_module_away", "output_camera_away", "output_gpio_away", "output_encoder_away"];
// An image that has not come by then is given up for a newer one.
const IMAGE_MS = 5000;
const LOW_DISK_SHARE = 0.05;

const layers = { heat: true, contours: true, regions: true };
let part = null, status = null, numbers = null, shown = null, loading = false, next = null, old = false;

export function start() {
  for (const button of document.querySelectorAll("[data-layer]")) {
    const name = button.dataset.layer;
    layers[name] = kept.get(`layer-${name}`) !== "off";
    button.addEventListener("click", () => { layers[name] = !layers[name]; kept.set(`layer-${name}`, layers[name] ? "on" : "off"); showLayers(); });
  }
  showLayers();
  addEventListener("resize", place);
  setInterval(showAge, 1000);
}

export const currentStatus = () => status;

export function takeStatus(found) { status = found; showVerdict(); showState(); }
export function takeNumbers(found) { numbers = found; showState(); }
export function setOld(isOld) { if (old !== isOld) { old = isOld; showVerdict(); if (shown) caption(); } }

export function takePart(found) {
  part = found;
  showVerdict();
  if (found.image) { next = found; load(); } else if (!found.has_image) clear();
}

// A part without an image takes that of the one before away, too.
function clear() {
  next = shown = null;
  for (const name of ["image", "heat"]) $(name).removeAttribute("src");
  $("heat").hidden = true;
  $("no-image").hidden = false;
  $("no-image").dataset.text = "no_image";
  $("no-image").textContent = t("no_image");
  $("lines").replaceChildren();
  $("caption").replaceChildren();
}

export function relabel() { showVerdict(); if (status) showState(); if (shown) caption(); }

function showVerdict() {
  const hindrance = status && HINDERING.find((reason) => reason in status.reasons);
  let result = part?.result ?? "WAIT", reason = part ? t(part.reason) : t("waiting");
  if (status?.condition === "starting") { result = "WAIT"; reason = t("condition_starting"); }
  if (status?.condition === "stopped") { result = "WAIT"; reason = t("condition_stopped"); }
  if (old) { result = "WAIT"; reason = t("contact_lost"); }
  else if (hindrance) { result = "ERROR"; reason = t(`reason_${hindrance}`); }
  const box = $("verdict"), word = old ? "?" : t(result);
  box.className = `verdict ${result}`;
  Object.assign(box.dataset, { result, id: part?.id ?? "", decided: part?.decided_utc ?? "" });
  $("shape").setAttribute("href", `#shape-${result}`);
  if ($("word").textContent !== word) $("word").textContent = word;
  // A Korean letter is about as wide as two others.
  const width = [...word].reduce((sum, letter) => sum + (letter > "\u1100" ? 1.7 : 1), 0);
  $("word").className = `word${width > 5 ? " long" : width > 3 ? " five" : ""}`;
  $("reason").textContent = reason;
  $("score").textContent = part?.score === null || !part ? "–" : number(part.score, 2);
  // A part without an id goes by the number of its image, which its record has, too.
  $("part-word").textContent = [t(part && (part.part_id ?? part.image_name) === null ? "frame" : "part"), part?.recipe].filter(Boolean).join(" · ");
  $("part").replaceChildren(...withEnd(part ? part.part_id ?? part.image_name ?? number(part.frame) : "–"));
  $("part").title = part ? [part.part_id ?? part.image_name, part.id].filter(Boolean).join("\n") : "";
  $("decided").textContent = clock(part?.decided_utc);
  $("meter").firstElementChild.style.width = `${100 * (part?.score ?? 0)}%`;
}

// One image at a time; what comes meanwhile waits as the newest only.
function load() {
  if (loading || !next) return;
  const loaded = next, image = new Image();
  next = null;
  loading = true;
  const end = () => { clearTimeout(waiting); image.onload = image.onerror = null; loading = false; load(); };
  const waiting = setTimeout(() => { image.src = ""; end(); }, IMAGE_MS);
  image.onload = () => { if (part && !part.has_image) return end(); shown = loaded; $("image").src = image.src; $("no-image").hidden = true; showOverlay(); end(); };
  image.onerror = end;
  image.src = `live/${loaded.id}.jpg`;
}

function showOverlay() {
  const { image } = shown, lines = $("lines");
  if (image.heat) $("heat").src = image.heat;
  lines.setAttribute("viewBox", `0 0 ${image.width_px} ${image.height_px}`);
  lines.replaceChildren(
    ...(layers.contours ? image.contours.map((line) => draw("polygon", { class: "contour", points: line.join(" ") })) : []),
    ...(layers.regions ? image.regions.map(([x, y, width, height]) => draw("rect", { class: "region", x: x - 4, y: y - 4, width: width + 8, height: height + 8, rx: 3 })) : []),
  );
  place();
  caption();
}

function caption() {
  const word = regionsWord(shown.result, shown.reason, shown.image.regions.length, "_short");
  $("caption").replaceChildren(old ? "" : badge(shown.result), clock(shown.decided_utc), old ? "" : word);
}

function place() {
  if (!shown) return;
  const { image } = shown, frame = $("frame");
  const scale = Math.min(frame.clientWidth / image.width_px, frame.clientHeight / image.height_px);
  const width = image.width_px * scale, height = image.height_px * scale;
  const left = (frame.clientWidth - width) / 2, top = (frame.clientHeight - height) / 2;
  for (const node of [$("image"), $("lines")]) put(node, left, top, width, height);
  $("heat").hidden = !(layers.heat && image.heat);
  if (image.heat) { const [x, y, w, h] = image.placement; put($("heat"), left + x * scale, top + y * scale, w * scale, h * scale); }
}

function put(node, left, top, width, height) { Object.assign(node.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` }); }

function showLayers() {
  for (const button of document.querySelectorAll("[data-layer]")) button.setAttribute("aria-pressed", layers[button.dataset.layer]);
  if (shown) showOverlay();
}

function showAge() { if (part) $("rate-more").textContent = t("last_part", { ago: ago(part.decided_utc) }); }

// The station's state in plain words, each with what to do about it.
function showState() {
  if (!status) return;
  const open = status.condition === "online" ? "good" : status.condition === "degraded" ? "warn" : "bad";
  $("condition").className = `chip ${open}`;
  const word = t(`condition_${status.condition}`);
  if ($("condition").textContent !== word) $("condition").textContent = word;
  $("simulated").hidden = !status.simulated;
  const others = Object.keys(status.reasons).filter((reason) => !SHOWN_ABOVE.includes(reason));
  const rows = [camera(), broker(), ...(status.modbus ? [plc()] : []), ...(status.sparkplug ? [sparkplug()] : []), ...(status.opcua ? [opcua()] : []), ...(status.outputs.length ? [outputs()] : []), journal(), disk(), model(), speed(), ...others.map(trouble)];
  for (const row of rows) {
    row.seen = row.reason ? status.acknowledged[row.reason] ?? null : null;
    row.offered = Boolean(row.reason && !row.seen && actor());
  }
  renew($("state"), rows, (row) => JSON.stringify([language(), row]), line);
}

function trouble(reason) {
  const icon = reason.startsWith("journal") ? "journal" : ["drift", "challenge_overdue"].includes(reason) ? "model" : "disk";
  return { icon, kind: HINDERING.includes(reason) ? "bad" : "warn", title: reasonText(reason), reason, ...explained(reason, status.reasons[reason]) };
}

// The station explains a reason in English; in another language the next step comes first, and
// the English text below it.
function explained(reason, detail) {
  const next = known(`next_${reason}`) ? t(`next_${reason}`) : "";
  if (language() === "en") return { more: detail || next };
  return next ? { more: next, detail } : { more: detail };
}

function line({ icon, kind, title, more, detail, reason, seen, offered }) {
  const body = make("div", {}, make("strong", {}, title), make("p", {}, more));
  if (detail) body.append(make("p", { lang: "en" }, detail));
  if (seen) body.append(make("span", { class: "seen" }, t("acknowledged_by", { by: who(seen) })));
  if (offered) body.append(make("button", { type: "button", onclick: () => acknowledge(reason) }, t("acknowledge")));
  return make("li", { class: kind }, use(`i-${icon}`), body);
}

async function acknowledge(reason) {
  try { await act("acknowledge", { reason }); toast(t("ack_done")); } catch (error) { toast(t("failed", { why: error.message }), true); }
}

function camera() {
  const { state, id, detail, model: name, temperature_c } = status.camera;
  if (state === "files") return { icon: "camera", kind: "off", title: t("camera_files"), more: t("camera_files_more") };
  if (state === "lost" || state === "failed") return { icon: "camera", kind: "bad", title: t(`reason_camera_${state}`), reason: `camera_${state}`, ...explained(`camera_${state}`, detail) };
  const kind = state === "connecting" ? "warn" : "good";
  return { icon: "camera", kind, title: t(`camera_${state}`), more: [name ?? id, temperature_c === null ? null : `${number(temperature_c)} °C`].filter(Boolean).join(", ") };
}

function plc() {
  const { master, address, last_trigger } = status.modbus, reason = "modbus_master_away";
  if (reason in status.reasons) return { icon: "broker", kind: "bad", title: t(`reason_${reason}`), reason, ...explained(reason, status.reasons[reason]) };
  return { icon: "broker", kind: "good", title: t(master ? "plc_there" : "plc_watched"), more: last_trigger === null ? address : t("plc_trigger", { address, id: last_trigger }) };
}

function outputs() {
  const reason = Object.keys(status.reasons).find((one) => /^output_\w+_away$/.test(one));
  if (reason) return { icon: "broker", kind: "bad", title: t(`reason_${reason}`), reason, ...explained(reason, status.reasons[reason]) };
  const missed = status.outputs.reduce((sum, one) => sum + one.missed, 0);
  const edges = status.outputs.filter((one) => one.last_edge_utc).map((one) => t("output_last", { name: one.name, at: clock(one.last_edge_utc) }));
  return { icon: "broker", kind: missed ? "warn" : "good", title: t("outputs_fine"), more: [...edges, t("outputs_missed", { missed: number(missed) })].join(", ") };
}

function opcua() {
  const { serving, address, connections } = status.opcua;
  return { icon: "broker", kind: serving ? "good" : "warn", title: t(serving ? "opcua_serving" : "opcua_starting"), more: t("opcua_clients", { address, count: connections }) };
}

function sparkplug() {
  const { phase, node, waiting } = status.sparkplug;
  const more = waiting && phase !== "born" ? t("sparkplug_waiting", { node, count: waiting }) : node;
  return { icon: "broker", kind: phase === "born" ? "good" : "warn", title: t(`sparkplug_${phase}`), more };
}

function broker() {
  const found = status.broker;
  if (!found) return { icon: "broker", kind: "off", title: t("broker_none"), more: t("broker_none_more") };
  if (!found.connected) return { icon: "broker", kind: "warn", title: t("broker_away"), more: t("broker_away_more") };
  if (found.refusing) return { icon: "broker", kind: "warn", title: t("broker_refusing"), more: t("broker_away_more") };
  if (found.nobody_listens) return { icon: "broker", kind: "warn", title: t("broker_nobody"), more: t("broker_nobody_more") };
  const hint = found.hints?.find((one) => known(`broker_${one}`));
  if (hint) return { icon: "broker", kind: "warn", title: t(`broker_${hint}`), more: t(`broker_${hint}_more`) };
  return { icon: "broker", kind: "good", title: t("broker_connected"), more: found.url };
}

function journal() {
  if (!status.journal.writable) return { icon: "journal", kind: "bad", title: t("journal_bad"), reason: "journal_unwritable" in status.reasons ? "journal_unwritable" : null, ...explained("journal_unwritable", status.reasons.journal_unwritable) };
  const last = numbers?.trend.at(-1)?.[0];
  return { icon: "journal", kind: "good", title: t("journal_fine"), more: last ? `${t("number")} ${number(last)}` : "" };
}

function disk() {
  const { free_bytes, total_bytes } = status.disk, share = free_bytes / total_bytes;
  const free = t("disk_free", { free: bytes(free_bytes), share: number(100 * share) });
  if (share < LOW_DISK_SHARE) return { icon: "disk", kind: "warn", title: t("disk_low"), more: `${free}. ${t("disk_next")}` };
  return { icon: "disk", kind: "good", title: t("disk_fine"), more: free };
}

function model() {
  const { name, algorithm, backbone, threshold, bundle_threshold } = status.model;
  const own = threshold === bundle_threshold ? t("bundle_own") : t("own_threshold");
  return { icon: "model", kind: "good", title: t("model_fine", { name }), more: t("model_more", { algorithm: `${algorithm} (${backbone})`, threshold: raw(threshold), own }) };
}

function speed() {
  const { late, parts } = numbers?.deadlines ?? { late: 0 }, p99 = numbers?.latency?.p99, skipped = status.skipped;
  const more = late ? [t("speed_late", { late: number(late), parts: number(parts) }), t("speed_next")] : [];
  if (skipped) more.push(t("speed_skipped", { skipped: number(skipped) }));
  if (p99 !== undefined) more.push(t("speed_more", { p99: number(p99, 1) }));
  return { icon: "speed", kind: late ? "warn" : "good", title: t(late ? "speed_bad" : "speed_fine"), more: more.join(" ") };
}
