// What can be done: threshold, model, training images; and what was done.

import { $, act, actor, badge, get, kept, make, moment, number, percent, raw, renew, setActor, toast, who } from "./dom.js";
import { histogram, ofModel } from "./charts.js";
import { known, language, t } from "./texts.js";

let mayAct = false, acting = false, user = null, status = null, numbers = null, tried = null, waiting = null;

export function start(about, onUnlocked) {
  mayAct = about.may_act || about.may_unlock;
  user = about.user;
  setActor(user);
  $("unlock").hidden = !mayAct;
  $("unlock").addEventListener("click", () => {
    if (actor()) become(null, null, onUnlocked);
    else if (user) become(user, null, onUnlocked);
    else { $("name").value = kept.get("name") ?? ""; $("ask").showModal(); $("token").focus(); }
  });
  $("ask-cancel").addEventListener("click", () => $("ask").close());
  $("ask").addEventListener("close", () => { $("token").value = ""; $("ask-error").textContent = ""; });
  $("ask").querySelector("form").addEventListener("submit", (event) => { event.preventDefault(); unlock(onUnlocked); });
  $("threshold-slider").addEventListener("input", (event) => attempt(Number(event.target.value)));
  $("threshold-value").addEventListener("input", (event) => { if (event.target.value !== "") attempt(Number(event.target.value)); });
  $("threshold").addEventListener("submit", (event) => { event.preventDefault(); apply(Number($("threshold-value").value)); });
  $("threshold-bundle").addEventListener("click", () => apply(null));
  $("rollback").addEventListener("click", () => carryOut("rollback", {}, wentBack));
  $("recipe").addEventListener("submit", (event) => { event.preventDefault(); changeOver(event.target.elements); });
  $("capture").addEventListener("submit", (event) => { event.preventDefault(); carryOut("capture", { count: Number(event.target.elements.count.value) }, (done) => t("capture_done", done)); });
  relabel();
}

export function relabel() {
  const name = actor();
  $("locked").className = name ? "note open" : "note";
  $("locked").textContent = !mayAct ? t("read_only") : !name ? t("locked") : name === "token" ? t("unlocked_token") : t("unlocked", { by: name });
  allow();
  $("unlock").setAttribute("aria-label", t(name ? "locked_tool" : "unlock"));
  $("unlock").classList.toggle("open", Boolean(name));
  $("unlock").querySelector("use").setAttribute("href", name ? "#i-unlocked" : "#i-lock");
  if (status) { showModel(); showRecipes(); }
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
  showRecipes();
  if (changed) attempt(found.model.threshold);
}

export function takeNumbers(found) {
  numbers = found;
  if ($("view-control").hidden) return;
  if (tried !== null && document.activeElement !== $("threshold-slider")) range($("threshold-slider"), tried);
  chart();
  // A threshold set here is listed once; the exchange that put it in force is in the journal.
  const events = found.events.filter((one, i, all) => one.kind !== "decision_changed" || !["threshold_changed", "mask_changed"].includes(all[i - 1]?.kind));
  if (events.length) renew($("events"), events, (one) => `${one.seq} ${language()}`, event);
  else $("events").replaceChildren(make("li", { class: "empty" }, t("no_events")));
}

async function unlock(onUnlocked) {
  const token = $("token").value;
  kept.set("name", $("name").value.trim());
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
  const room = Math.abs(value) * 0.5 || 1, found = ofModel(numbers?.histogram, status?.model);
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
  const value = tried;
  try {
    const found = await get(`api/threshold/preview?image_threshold=${value}`);
    if (value === tried) showPreview(found);
  } catch (error) { $("preview").textContent = error.message; }
}

function showPreview(found) {
  const results = ["OK", "NOK", "NOT_DECIDABLE"].filter((r) => found.before[r] || found.after[r]);
  const marked = Object.entries(found.marks).filter(([, m]) => m.marked);
  $("preview").replaceChildren(
    make("div", {}, make("b", {}, number(found.parts)), make("small", {}, t("parts_tried"))),
    ...results.map((r) => make("div", { "data-result": r }, make("b", {}, `${number(found.before[r] ?? 0)} → ${number(found.after[r] ?? 0)}`), make("small", {}, badge(r)))),
    ...(found.nok_interval ? [make("div", { id: "nok-share" }, make("b", {}, percent((found.after.NOK ?? 0) / found.parts)), make("small", {}, t("nok_share", { low: percent(found.nok_interval[0]), high: percent(found.nok_interval[1]) })))] : []),
    make("div", { id: "changed" }, make("b", {}, number(found.changed)), make("small", {}, t(found.changed > found.flips.length ? "change_newest" : "change_count", { n: found.flips.length }))),
    ...marked.map(([mark, m]) => make("div", {}, make("b", {}, number(m.put_right)), make("small", {}, t("put_right", { n: m.marked, mark: t(mark) })))));
  $("flips").replaceChildren(...found.flips.map((flip) => make("li", {}, make("a", { href: `#parts/${flip.seq}` }, `${t("number")} ${number(flip.seq)}`, badge(flip.before), "→", badge(flip.after), raw(flip.raw_score)))));
}

function apply(value) {
  const comment = $("threshold").elements.comment.value;
  toast(t("loading"));
  return carryOut("threshold", { image_threshold: value, comment }, (done) => t("threshold_done", { now: raw(done.now), before: raw(done.before) }));
}

async function carryOut(name, body, message) {
  acting = true;
  allow();
  try {
    toast(message(await act(name, body)));
  } catch (error) {
    toast(t("failed", { why: error.message }), true);
  } finally {
    acting = false;
    allow();
  }
}

function wentBack(done) {
  if (!done.same_model) return t("rollback_done", done);
  return done.before !== null ? t("rollback_threshold_done", { threshold: raw(done.threshold) }) : t("rollback_decision_done", done);
}

function guaranteed(found) {
  if (!found) return t("guaranteed_nothing");
  return t(`guaranteed_${found.of}`, { rate: percent(found.rate), confidence: percent(found.confidence), n: number(found.count) });
}

function showModel() {
  const m = status.model, before = m.before;
  const same = before?.sha256 === m.sha256, decision = same && before.threshold === m.threshold;
  $("before").textContent = before ? t(decision ? "before_decision" : same ? "before_same" : "before_is", { changes: before.changes, name: before.name, hash: before.sha256.slice(0, 12), threshold: raw(before.threshold) }) : t("before_none");
  $("rollback-explain").hidden = !before || same;
  $("rollback").textContent = decision ? t("rollback_decision") : same ? t("rollback_threshold", { threshold: raw(before.threshold) }) : t("rollback");
  allow();
  const pairs = [["name", m.name], ["version", m.version], ["algorithm", `${m.algorithm}, ${m.backbone}`], ["precision", `${m.precision}, ${m.device}`], ["threshold", `${raw(m.threshold)} (${t(m.threshold === m.bundle_threshold ? "bundle_own" : "own_threshold")})`], ["method", t(`method_${m.threshold_method}`)], ["guaranteed", guaranteed(m.guarantee)], ["model_hash", m.sha256]];
  $("model").replaceChildren(...pairs.flatMap(([key, value]) => [make("dt", {}, t(key)), make("dd", {}, value)]));
}

function showRecipes() {
  const { recipe, recipes } = status, select = $("recipe-choice");
  $("recipe-card").hidden = !recipes;
  if (!recipes) return;
  $("recipe-now").textContent = recipe ? t("recipe_now", { recipe: recipe.id, version: recipe.version }) : t("recipe_none");
  const choices = recipes.flatMap((one) => [...one.versions].reverse().map((version) => [JSON.stringify([one.name, version]), t(version === one.in_force ? "recipe_in_force" : "recipe_version", { recipe: one.name, version })]));
  const listed = JSON.stringify(choices);
  if (select.dataset.listed === listed) return;
  const chosen = select.value;
  select.replaceChildren(...choices.map(([value, label]) => make("option", { value }, label)));
  select.dataset.listed = listed;
  const now = recipe && JSON.stringify([recipe.id, recipe.version]);
  select.value = choices.some(([value]) => value === chosen) ? chosen : choices.some(([value]) => value === now) ? now : choices[0]?.[0] ?? "";
}

// What somebody set here for the version before stays with that version.
const leftBehind = (done) => done.left_behind && t("left_behind", { what: done.left_behind });

function changeOver(fields) {
  const [id, version] = JSON.parse(fields.recipe.value);
  toast(t("loading"));
  return carryOut("recipe", { id, version, comment: fields.comment.value }, (done) => [t("recipe_done", done), leftBehind(done)].filter(Boolean).join(" "));
}

function event(found) {
  const { kind, data, detail } = found;
  const own = kind === "decision_changed" && !data?.changed ? "" : `event_text_${kind}`;
  const words = { ...data, mark: data?.mark && t(data.mark), reason: data?.reason && t(`reason_${data.reason}`) };
  for (const key of ["before", "now", "threshold"]) if (typeof words[key] === "number") words[key] = raw(words[key]);
  for (const key of ["ignored_before", "ignored_now"]) if (typeof words[key] === "number") words[key] = percent(words[key]);
  // Events of the page are shown in its language, others in the station's English.
  const text = known(own) ? make("p", {}, t(own, words)) : make("p", { lang: "en" }, detail);
  const more = [data && leftBehind(data), data?.comment && t("event_why", { why: data.comment }), data?.by && t("event_by", { by: who(data.by) })].filter(Boolean);
  const body = make("div", {}, text, ...more.map((line) => make("p", { class: "seen" }, line)));
  return make("li", { class: found.severity, "data-kind": kind }, make("time", {}, moment(found.utc)), make("b", {}, t(known(`event_${kind}`) ? `event_${kind}` : kind)), body);
}
