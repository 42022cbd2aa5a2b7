// Teaching: images are captured and struck out, a candidate is built, tried beside the line, released.

import * as align from "./align.js";
import { $, act, actor, badge, clock, make, number, percent, raw, renew, toast } from "./dom.js";
import { language, own, t } from "./texts.js";

let status = null, teaching = null, acting = false, part = null, shownBuild = null, loading = false;

export function start() {
  align.start();
  $("teach-begin").addEventListener("submit", (event) => { event.preventDefault(); carryOut("teach", { recipe: $("teach-recipe").value }, () => t("teach_begun")); });
  $("teach-learn").addEventListener("click", () => { if ($("teach-begin").reportValidity()) { toast(t("loading")); carryOut("teach", { recipe: $("teach-recipe").value, learn: true }, () => t("teach_learning")); } });
  $("teach-one").addEventListener("click", () => carryOut("teach_capture", {}));
  for (const button of $("teach-automatic").children) button.addEventListener("click", () => carryOut("teach_capture", { automatic: button.dataset.capturing }));
  $("teach-build").addEventListener("click", () => carryOut("teach_build", { views: $("teach-views").checked, alignment: align.choice() }));
  $("teach-try").addEventListener("click", () => { toast(t("loading")); carryOut("teach_trial", { running: !teaching?.trial?.running }, (done, running) => t(running ? "teach_trial_begun" : "teach_trial_over")); });
  $("teach-release").addEventListener("submit", (event) => { event.preventDefault(); toast(t("loading")); carryOut("teach_release", { comment: event.target.elements.comment.value }, (done) => { event.target.reset(); return t("teach_released", done); }); });
  $("teach-end").addEventListener("click", () => { if (confirm(t("teach_end_sure"))) carryOut("teach_end", {}, () => t("teach_ended")); });
}

export const possible = () => Boolean(teaching);

export function takeStatus(found) {
  status = found;
  teaching = found.teaching;
  $("teach-link").hidden = !teaching;
  if (!$("view-teach").hidden) show();
}

export function takePart(found) {
  part = found;
  if (!$("view-teach").hidden) showLive();
}

export function relabel() {
  const name = actor();
  $("teach-locked").className = name ? "note open" : "note";
  $("teach-locked").textContent = name ? t(name === "token" ? "teach_unnamed" : "unlocked", { by: name }) : t("locked");
  show();
}

function show() {
  if (!teaching) return;
  const going = teaching.phase !== "idle", building = teaching.phase === "building";
  $("teach-start").hidden = going;
  for (const card of document.querySelectorAll(".teach-on")) card.hidden = !going;
  const known = (status.recipes ?? []).map((one) => one.name);
  renew($("teach-recipes"), known, (name) => name, (name) => make("option", { value: name }));
  if (!going) { shownBuild = null; allow(); return; }
  const taught = teaching.images.filter((one) => !one.struck).length;
  $("teach-title").textContent = t("teach_of", { recipe: teaching.recipe, by: teaching.by });
  $("teach-count").textContent = [t("teach_count", { n: number(taught), most: number(teaching.most) }), teaching.waiting && t("teach_waiting", { n: teaching.waiting })].filter(Boolean).join(" · ");
  for (const button of $("teach-automatic").children) button.setAttribute("aria-pressed", String(button.dataset.capturing === teaching.capturing));
  $("teach-not-taken").replaceChildren(...(teaching.not_taken ? [t("teach_not_taken", { n: teaching.not_taken }), " ", whyNot()] : []));
  $("teach-contradicted").textContent = contradicted();
  $("teach-views-label").hidden = !teaching.may_view || taught > 8;
  if ($("teach-views-label").hidden) $("teach-views").checked = false;
  $("teach-step").textContent = building ? t("teach_step", { n: teaching.step }) : "";
  $("teach-refused").replaceChildren(...(teaching.refused.length ? [whyRefused()] : []));
  align.take(teaching);
  align.showPlaces();
  showResult();
  showOptions();
  showLine();
  showTrial();
  showThumbs(taught);
  showLive();
  allow();
}

// Marks on images that were taught as the opposite, the first few of them.
function contradicted() {
  const found = teaching.contradicted, shown = found.slice(0, 3);
  if (!found.length) return "";
  return [...shown.map((one) => t(`teach_contradicted_${one.mark}`, { seq: number(one.seq), n: number(one.number) })), found.length > shown.length && t("teach_contradicted_more", { n: number(found.length - shown.length) }), t("teach_contradicted_sure")].filter(Boolean).join(" ");
}

// What names images by their files, in what is known of a refusal.
const FILE_LISTS = ["images", "unreadable", "unsuitable", "other_size"];

// English has the cause in detail, other languages what kind of cause it is.
function whyNot() {
  if (language() === "en" || !teaching.why_kind) return make("span", { lang: "en" }, teaching.why_not);
  return make("span", { title: teaching.why_not }, t(`teach_why_${teaching.why_kind}`, teaching.why_data));
}

function whyRefused() {
  const sentences = teaching.refused.join("\n"), kind = `refused_${teaching.refused_kind}`;
  // Of a box that was drawn here the page has words of its own in English, too.
  if ((language() === "en" && !/^refused_(reference|part_not_found)/.test(kind)) || !own(kind)) return make("span", { lang: "en" }, sentences);
  const names = { ...teaching.refused_data };
  for (const list of FILE_LISTS) if (names[list]) names[list] = names[list].replace(/\b0+/g, ""); // files by number
  const causes = FILE_LISTS.filter((cause) => names[cause] && own(`${kind}_${cause}`)).map((cause) => t(`${kind}_${cause}`, names));
  return make("span", { title: sentences }, [t(kind, names), ...causes].join(" "));
}

function allow() {
  const busy = acting || !actor(), building = teaching?.phase === "building";
  for (const button of $("view-teach").querySelectorAll("[data-acts]")) button.disabled = busy;
  if (busy || !teaching) return;
  $("teach-build").disabled = building || !teaching.images.some((one) => !one.struck);
  $("teach-one").disabled = teaching.images.length >= teaching.most;
  for (const button of $("teach-trial").querySelectorAll("[data-acts]")) button.disabled = building;
}

// As fast as images come, and one at a time.
function showLive() {
  if (!teaching || teaching.phase === "idle" || !part?.image || loading) return;
  const shown = part, image = new Image();
  loading = true;
  image.onload = () => { loading = false; $("teach-image").src = image.src; $("teach-caption").replaceChildren(badge(shown.result), clock(shown.decided_utc)); };
  image.onerror = () => { loading = false; };
  image.src = `live/${shown.id}.jpg`;
}

function showResult() {
  const found = teaching.result, pairs = found ? [["teach_learned", t("teach_learned_of", { learned: number(found.learned), images: number(found.images) })], ["threshold", raw(found.threshold)], ["teach_left_out", found.left_out ? number(found.left_out) : "–"]] : [];
  $("teach-result").replaceChildren(...pairs.flatMap(([key, value]) => [make("dt", {}, t(key)), make("dd", {}, value)]));
  const compared = teaching.images.filter((one) => !one.struck && one.before && one.after), changed = compared.filter((one) => one.before !== one.after);
  $("teach-worth").textContent = !found ? t("teach_not_built") : [
    compared.length ? t("teach_compared", { n: number(compared.length), changed: number(changed.length) }) : null,
    found.max_false_rejects === null ? null : t("teach_between", { good: number(found.known_good), passed: number(found.passed), defective: number(found.defective), rate: percent(found.max_false_rejects) }),
    found.guaranteed_rate === null ? t("teach_no_guarantee") : t("teach_guarantee", { confidence: percent(found.confidence), rate: percent(found.guaranteed_rate), n: number(found.counted) }),
    found.left_out && t("teach_suspects", { n: number(found.left_out) }),
    found.images <= 8 && t("teach_few", { n: number(found.images) })].filter(Boolean).join(" ");
}

// What other allowances of false rejects would do; each is a build away.
function showOptions() {
  const found = teaching.result, options = found?.options ?? [];
  $("teach-choice").hidden = !options.length;
  renew($("teach-options"), options, (one) => `${one.rate} ${found.build} ${language()}`, (one) => make("li", {},
    make("button", { type: "button", "data-acts": true, "aria-pressed": String(one.rate === found.max_false_rejects), onclick: () => carryOut("teach_build", { max_false_rejects: one.rate, alignment: align.choice() }) },
      t("teach_option", { rate: percent(one.rate), rejected: number(one.rejected), good: number(found.known_good), missed: number(one.missed), defective: number(found.defective) }))));
}

// Parts of the line that the candidate would judge otherwise.
function showLine() {
  const line = teaching.result?.line;
  $("teach-line").hidden = !line?.kept;
  if (!line?.kept) return;
  $("teach-line-title").textContent = t("teach_line", { n: number(line.parts), kept: number(line.kept), rejected: number(line.rejected), passed: number(line.passed) });
  renew($("teach-line-parts"), line.changed, (one) => `${one.seq} ${teaching.result.build} ${language()}`, (one) => make("li", {},
    make("img", { src: `images/${one.id}/thumbnail`, alt: "", loading: "lazy", onerror: (event) => event.target.remove() }),
    make("div", { class: "line" }, make("a", { href: `#parts/${one.seq}` }, number(one.seq)), make("span", {}, badge(one.before), " → ", badge(one.after)))));
}

function showTrial() {
  $("teach-trial").hidden = !teaching.result;
  const trial = teaching.trial;
  $("teach-try").textContent = t(trial?.running ? "teach_trial_stop" : "teach_trial_start");
  const results = trial ? ["OK", "NOK", "NOT_DECIDABLE", "ERROR"].filter((one) => trial.live[one] || trial.trial[one]) : [];
  $("teach-trial-counts").replaceChildren(...(trial ? [
    make("div", {}, make("b", {}, number(trial.parts)), make("small", {}, t("teach_trial_parts"))),
    ...results.map((one) => make("div", {}, make("b", {}, `${number(trial.live[one] ?? 0)} → ${number(trial.trial[one] ?? 0)}`), make("small", {}, badge(one)))),
    make("div", {}, make("b", {}, number(trial.parts - trial.alike)), make("small", {}, t("teach_trial_differ"))),
    trial.missed ? make("div", {}, make("b", {}, number(trial.missed)), make("small", {}, t("teach_trial_missed"))) : null].filter(Boolean) : []));
  renew($("teach-trial-parts"), trial?.newest ?? [], (one) => `${one.id} ${language()}`, (one) => make("li", { class: one.live === one.trial ? null : "differs" }, make("time", {}, clock(one.utc)), badge(one.live), "→", badge(one.trial), make("span", {}, one.score === null ? "–" : number(one.score, 2))));
}

// What changes first, then the strangest, once there are scores; before that the newest.
const changes = (one) => Number(Boolean(one.before && one.after && one.before !== one.after));

function showThumbs(taught) {
  const images = [...teaching.images].sort((a, b) => changes(b) - changes(a) || (b.score ?? -Infinity) - (a.score ?? -Infinity) || b.number - a.number), build = teaching.result?.build ?? 0;
  $("teach-images-more").textContent = t(teaching.result ? "teach_strangest" : "teach_newest", { n: number(taught) });
  if (shownBuild !== build) { $("teach-thumbs").replaceChildren(); shownBuild = build; }
  renew($("teach-thumbs"), images, (one) => `${one.number} ${one.struck} ${build} ${one.doubtful} ${language()}`, (one) => thumb(one, build));
}

function thumb(one, build) {
  const picture = make("img", { src: `teach/${one.has_map ? "maps" : "images"}/${one.number}?${build}`, alt: t("teach_image", { n: one.number }), loading: "lazy" });
  const score = one.score === null ? "" : raw(one.score), limit = teaching.result?.threshold;
  return make("li", { class: [one.struck && "struck", one.doubtful && "doubtful"].filter(Boolean).join(" ") || null },
    picture,
    make("div", { class: "line" }, make("span", {}, `${one.number}`), make("span", { class: one.score !== null && one.score >= limit ? "t-NOK" : null }, score)),
    one.doubtful ? make("p", {}, t("teach_doubtful")) : null,
    one.kind === "captured" ? null : make("div", { class: "line" }, one.seq === null ? t(`teach_kind_${one.kind}`) : make("a", { href: `#parts/${one.seq}` }, `${t(`teach_kind_${one.kind}`)} ${number(one.seq)}`)),
    one.before ? make("div", { class: "line" }, make("span", {}, badge(one.before), " → ", badge(one.after))) : null,
    make("button", { type: "button", "data-acts": true, "aria-pressed": String(one.struck), onclick: () => carryOut("teach_strike", { number: one.number, struck: !one.struck }) }, t(one.struck ? "teach_take" : "teach_strike")));
}

async function carryOut(name, body, message = null) {
  acting = true;
  allow();
  try {
    const done = await act(name, body);
    if (message) toast(message(done, body.running));
  } catch (error) {
    toast(t("failed", { why: error.message }), true);
  } finally {
    acting = false;
    allow();
  }
}
