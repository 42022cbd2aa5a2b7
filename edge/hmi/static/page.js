// Puts the page together: language, theme, views, the stream of news, and the numbers once a second.

import * as charts from "./charts.js";
import * as control from "./control.js";
import { $, badge, get, kept, moment, number, percent } from "./dom.js";
import * as live from "./live.js";
import * as mask from "./mask.js";
import * as parts from "./parts.js";
import * as teach from "./teach.js";
import { browsers, language, setLanguage, t } from "./texts.js";

const NUMBERS_MS = 1000;
// The station sends its status every second, the page's process an event at least every other.
const SILENCE_MS = 6000;
const STATION_SILENCE_S = 4;

let stream = null, lastHeard = performance.now(), trouble = null, numbers = null, counted = performance.now(), busy = false;

async function main() {
  let about = { title: "", language: "en", may_act: false, may_unlock: false, user: null }, reached = true;
  try { about = await get("api/status"); } catch { reached = false; }
  setLanguage(kept.get("language") ?? browsers() ?? about.language);
  document.documentElement.dataset.theme = kept.get("theme") ?? "dark";
  $("title").textContent = document.title = about.title || document.title;
  live.start();
  parts.start();
  teach.start();
  mask.start();
  control.start(about, () => { live.relabel(); parts.relabel(); teach.relabel(); mask.relabel(); });
  $("theme").addEventListener("click", switchTheme);
  $("language").addEventListener("click", switchLanguage);
  addEventListener("hashchange", show);
  document.querySelector(".skip").addEventListener("click", (event) => { event.preventDefault(); $("main").focus(); });
  document.addEventListener("visibilitychange", () => (document.hidden ? lookAway() : listen()));
  labelLanguage();
  show();
  if (!reached) showTrouble("no_contact");
  listen();
  setInterval(watch, NUMBERS_MS);
  watch();
}

function listen() {
  hangUp();
  if (document.hidden) return;
  lastHeard = performance.now();
  stream = new EventSource("api/stream");
  stream.addEventListener("status", (event) => { onNews(); const found = JSON.parse(event.data); live.takeStatus(found); control.takeStatus(found); teach.takeStatus(found); subtitle(found); if (location.hash === "#teach" && $("view-teach").hidden) show(); });
  stream.addEventListener("part", (event) => { onNews(); const found = JSON.parse(event.data); live.takePart(found); teach.takePart(found); mask.takePart(found); });
  stream.addEventListener("alive", (event) => { lastHeard = performance.now(); showTrouble(JSON.parse(event.data).silent_s > STATION_SILENCE_S ? "station_silent" : null); });
  stream.onerror = () => { showTrouble("no_contact"); if (stream?.readyState === EventSource.CLOSED) setTimeout(listen, 2000); };
}

// A hidden page costs the station nothing.
function hangUp() { stream?.close(); stream = null; }

// A viewer who comes back sees no old verdict.
function lookAway() { hangUp(); live.setOld(true); }

function onNews() { lastHeard = performance.now(); showTrouble(null); }

function showTrouble(what) {
  live.setOld(what !== null);
  if (what === trouble) return;
  trouble = what;
  $("contact").hidden = what === null;
  $("contact").textContent = what ? t(what) : "";
}

// Whether there is contact is looked at also while an answer is waited for: a cable that is pulled
// ends nothing, it only makes everything wait.
function watch() {
  if (document.hidden) return;
  if (performance.now() - lastHeard > SILENCE_MS) showTrouble("no_contact");
  look();
}

async function look() {
  if (busy) return;
  busy = true;
  try { numbers = await get("api/numbers"); counted = performance.now(); showNumbers(); } catch { /* shown below, once they are old */ } finally { busy = false; }
  const old = performance.now() - counted > SILENCE_MS;
  $("view-line").classList.toggle("old", old && numbers !== null);
  if (old && numbers) $("rejected-more").textContent = t("numbers_old", { at: moment(numbers.now) });
}

function showNumbers() {
  if (!numbers) return;
  live.takeNumbers(numbers);
  control.takeNumbers(numbers);
  if ($("view-line").hidden) return;
  const { shift, hours, shift_before: past, latency } = numbers, hour = hours.at(-1), model = live.currentStatus()?.model;
  $("yield-shift").textContent = percent(shift.yield);
  $("yield-shift-more").textContent = `${t("of_parts", { ok: number(shift.counts.OK ?? 0), total: number(shift.total) })}${past.yield === null ? "" : `, ${t("before", { yield: percent(past.yield) })}`}`;
  $("yield-hour").textContent = percent(hour.yield);
  $("yield-hour-more").textContent = t("of_parts", { ok: number(hour.counts.OK ?? 0), total: number(hour.total) });
  $("rate").textContent = number(numbers.rate_per_minute);
  $("latency").textContent = latency ? `${number(latency.p50, 1)} ms` : "–";
  $("latency-more").textContent = latency ? t("p99", { p95: number(latency.p95, 1), p99: number(latency.p99, 1) }) : "";
  $("rejected-more").textContent = numbers.complete ? "" : t("since", { since: moment(numbers.since) });
  parts.strip($("strip"), numbers.strip);
  charts.trend($("trend"), numbers.trend, model);
  charts.histogram($("histogram"), numbers.histogram, model);
  charts.hours($("hours"), hours);
  charts.causes($("causes"), numbers.reasons);
}

function subtitle(status) {
  $("subtitle").textContent = [status.station, status.recipe && `${status.recipe.id} ${status.recipe.version}`, status.camera.id].filter(Boolean).join(" · ");
  $("foot").textContent = t("trace", { config: status.config_sha256.slice(0, 12), model: status.model.sha256.slice(0, 12), software: status.software });
}

function show() {
  const [view, seq] = (location.hash.slice(1) || "line").split("/");
  const name = ["line", "parts", "control", "mask", ...(teach.possible() ? ["teach"] : [])].includes(view) ? view : "line";
  for (const section of document.querySelectorAll(".view")) section.hidden = section.id !== `view-${name}`;
  for (const link of document.querySelectorAll("nav a")) {
    if (link.getAttribute("href") === (name === "mask" ? "#control" : `#${name}`)) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
  }
  if (name === "parts") parts.open(/^\d+$/.test(seq ?? "") ? Number(seq) : null);
  if (name === "control") { control.relabel(); mask.look(); }
  if (name === "teach") teach.relabel();
  if (name === "mask") mask.open();
  dispatchEvent(new Event("resize"));
  showNumbers();
}

function switchTheme() {
  const root = document.documentElement;
  root.dataset.theme = root.dataset.theme === "dark" ? "light" : "dark";
  kept.set("theme", root.dataset.theme);
}

function switchLanguage() {
  setLanguage(language() === "en" ? "ko" : "en");
  kept.set("language", language());
  labelLanguage();
  $("strip").replaceChildren();
  live.relabel();
  parts.relabel();
  control.relabel();
  teach.relabel();
  mask.relabel();
  if (live.currentStatus()) subtitle(live.currentStatus());
  if (trouble) $("contact").textContent = t(trouble);
  showNumbers();
}

function labelLanguage() {
  const other = language() === "en" ? "ko" : "en";
  $("language").textContent = other === "ko" ? "한국어" : "English";
  $("language").lang = other;
  $("hours-legend").replaceChildren(...["OK", "NOK", "NOT_DECIDABLE", "ERROR"].map(badge));
}

main();
