// What can be done: threshold, model, training pictures; and what was done.

import { $, act, actor, badge, get, make, moment, number, raw, renew, setActor, toast } from "./dom.js";
import { histogram } from "./charts.js";
import { t } from "./texts.js";

let mayAct = false, acting = false, user = null, status = null, numbers = null, tried = null, waiting = null;

export function start(about, onUnlocked) {
  mayAct = about.may_act;
  user = about.user;
  setActor(user);
  $("unlock").hidden = !mayAct;
  $("unlock").addEventListener("click", () => {
    if (actor()) become(null, null, onUnlocked);
    else if (user) become(user, null, onUnlocked);
    else $("ask").showModal();
  });
  $("ask-cancel").addEventListener("click", () => $("ask").close());
  $("ask").addEventListener("close", () => { $("token").value = ""; $("ask-error").textContent = ""; });
  $("ask").querySelector("form").addEventListener("submit", (event) => { event.preventDefault(); unlock(onUnlocked); });
  $("threshold-slider").addEventListener("input", (event) => attempt(Number(event.target.value)));
  $("threshold-value").addEventListener("input", (event) => { if (event.target.value !== "") attempt(Number(event.target.value)); });
  $("threshold").addEventListener("submit", (event) => { event.preventDefault(); apply(Number($("threshold-value").value)); });
  $("threshold-bundle").addEventListener("click", () => apply(null));
  $("rollback").addEventListener("click", () => carryOut("rollback", {}, (done) => t("rollback_done", done)));
  $("capture").addEventListener("submit", (event) => { event.preventDefault(); carryOut("capture", { count: Number(event.target.elements.count.value) }, (done) => t("capture_done", done)); });
  relabel();
}

export function relabel() {
  const who = actor();
  $("locked").className = who ? "note open" : "note";
  $("locked").textContent = !mayAct ? t("read_only") : !who ? t("locked") : who === "token" ? t("unlocked_token") : t("unlocked", { by: who });
  allow();
  $("unlock").setAttribute("aria-label", t(who ? "locked_tool" : "unlock"));
  $("unlock").classList.toggle("open", Boolean(who));
  $("unlock").querySelector("use").setAttribute("href", who ? "#i-unlocked" : "#i-lock");
  if (status) showModel();
  if (tried !== null) preview();
}

// What can be done now by whoever looks, as long as nothing else is being done.
function allow() {
  for (const button of document.querySelectorAll("[data-acts]")) button.disabled = acting || !actor();
  if (!status?.model.before) $("rollback").disabled = true;
}

export function takeStatus(found) {
  const changed = found.model.threshold !== status?.model.threshold;
  status = found;
  $("capturing").textContent = found.to_capture ? t("capturing", { n: found.to_capture }) : "";
  showModel();
  if (changed) attempt(found.model.threshold);
}

export function takeNumbers(found) {
  numbers = found;
  if ($("view-control").hidden) return;
  if (tried !== null && document.activeElement !== $("threshold-slider")) range($("threshold-slider"), tried);
  chart();
  if (found.events.length) renew($("events"), found.events, (one) => String(one.seq), event);
  else $("events").replaceChildren(make("li", { class: "empty" }, t("no_events")));
}

async function unlock(onUnlocked) {
  const token = $("token").value;
  try {
    const { by } = await act("unlock", {}, token);
    $("ask").close();
    become(by, token, onUnlocked);
  } catch (error) { $("ask-error").textContent = error.message; }
}

function become(name, token, then) { setActor(name, token); relabel(); then(); }

function attempt(value) {
  if (!Number.isFinite(value)) return;
  tried = value;
  const slider = $("threshold-slider"), field = $("threshold-value");
  if (document.activeElement !== field) field.value = Number(value.toPrecision(7));
  if (document.activeElement !== slider) range(slider, value);
  chart();
  clearTimeout(waiting);
  waiting = setTimeout(preview, 150);
}

function range(slider, value) {
  const room = Math.abs(value) * 0.5 || 1, found = numbers?.histogram;
  const low = Math.min(found?.low ?? value - room, value), high = Math.max(found?.high ?? value + room, value);
  Object.assign(slider, { min: low, max: high, step: (high - low) / 1000 });
  slider.value = value;
}

function chart() {
  if ($("view-control").hidden || !numbers) return;
  histogram($("threshold-chart"), numbers.histogram, status?.model, tried === status?.model.threshold ? null : tried);
}

async function preview() {
  if ($("view-control").hidden || tried === null) return;
  const wanted = tried;
  try {
    const found = await get(`api/threshold/preview?image_threshold=${wanted}`);
    if (wanted === tried) showPreview(found);
  } catch (error) { $("preview").textContent = error.message; }
}

function showPreview(found) {
  const results = ["OK", "NOK", "NOT_DECIDABLE"].filter((r) => found.before[r] || found.after[r]);
  const marked = Object.entries(found.marks).filter(([, m]) => m.marked);
  $("preview").replaceChildren(
    make("div", {}, make("b", {}, number(found.parts)), make("small", {}, t("parts_tried"))),
    ...results.map((r) => make("div", { "data-result": r }, make("b", {}, `${number(found.before[r] ?? 0)} → ${number(found.after[r] ?? 0)}`), make("small", {}, badge(r)))),
    make("div", { id: "changed" }, make("b", {}, number(found.changed)), make("small", {}, t(found.changed > found.flips.length ? "change_newest" : "change_count", { n: found.flips.length }))),
    ...marked.map(([mark, m]) => make("div", {}, make("b", {}, number(m.put_right)), make("small", {}, t("put_right", { n: m.marked, mark: t(mark) })))));
  $("flips").replaceChildren(...found.flips.map((flip) => make("li", {}, make("a", { href: `#parts/${flip.seq}` }, `${t("number")} ${number(flip.seq)}`, badge(flip.before), "→", badge(flip.after), raw(flip.raw_score)))));
}

function apply(value) {
  const comment = $("threshold").elements.comment.value;
  toast(t("loading"));
  return carryOut("threshold", { image_threshold: value, comment }, (done) => t("threshold_done", { now: raw(done.now), before: raw(done.before) }));
}

async function carryOut(name, asked, said) {
  acting = true;
  allow();
  try {
    toast(said(await act(name, asked)));
  } catch (error) {
    toast(t("failed", { why: error.message }), true);
  } finally {
    acting = false;
    allow();
  }
}

function showModel() {
  const m = status.model, before = m.before;
  $("before").textContent = before ? t("before_is", { name: before.name, hash: before.sha256.slice(0, 12), threshold: raw(before.threshold) }) : t("before_none");
  allow();
  const pairs = [["name", m.name], ["version", m.version], ["algorithm", `${m.algorithm}, ${m.backbone}`], ["precision", `${m.precision}, ${m.device}`], ["threshold", `${raw(m.threshold)} (${t(m.threshold === m.bundle_threshold ? "bundle_own" : "own_threshold")})`], ["method", m.threshold_method], ["model_hash", m.sha256]];
  $("model").replaceChildren(...pairs.flatMap(([key, value]) => [make("dt", {}, t(key)), make("dd", {}, value)]));
}

function event(found) {
  const by = found.data?.by ? ` (${found.data.by})` : "";
  return make("li", { class: found.severity }, make("time", {}, moment(found.utc)), make("b", {}, found.kind.replaceAll("_", " ")), make("p", {}, `${found.detail}${by}`));
}
