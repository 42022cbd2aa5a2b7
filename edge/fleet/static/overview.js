// All stations: what the broker has of each, every two seconds; read-only.

import { $, get, kept, make, number, percent } from "./dom.js";
import { browsers, filled, language, reasonText, setLanguage } from "./texts.js";

const EVERY_MS = 2000;

const words = {
  en: {
    skip: "Skip to content", theme: "Light or dark", title: "Inspection stations", stations: "Stations", inspecting: "Inspecting",
    alarms: "Alarms", backlog: "Records that wait", search: "Search", trouble: "Only with something to do",
    station: "Station", state: "State", product: "Product", version: "Version", release: "Release", yield: "Yield", none: "No station.",
    shown: "{n} shown", away: "{n} away", of_parts: "of {n} {n|part|parts}",
    no_page: "This page is out of date: its server does not answer.", no_broker: "This page is out of date: the broker is away.",
    online: "Inspecting", degraded: "Degraded", starting: "Starting", stopped: "Stopped", offline: "Away", silent: "Silent", unknown: "Unknown",
    idle: "None yet", fetching: "Fetching", verifying: "Verifying", activating: "Putting in force", in_force: "In force", returned: "Back to before",
    kept: "As it was", refused: "Refused", failed: "Failed", fell_back: "Fell back",
    rollout: "Roll-out of {name} version {version}: {stage}, wave {wave} of {waves}",
    running: "running", paused: "paused", done: "done", aborted: "aborted", rolling_back: "rolling back", rolled_back: "rolled back",
  },
  ko: {
    skip: "본문으로 이동", theme: "밝게 또는 어둡게", title: "검사 스테이션", stations: "스테이션", inspecting: "검사 중",
    alarms: "알람", backlog: "대기 중인 기록", search: "검색", trouble: "조치가 필요한 것만",
    station: "스테이션", state: "상태", product: "제품", version: "버전", release: "릴리스", yield: "양품률", none: "스테이션이 없습니다.",
    shown: "{n}개 표시", away: "{n}개 연결 끊김", of_parts: "부품 {n}개 중",
    no_page: "화면이 지난 정보입니다. 페이지 서버가 응답하지 않습니다.", no_broker: "화면이 지난 정보입니다. 브로커와 연결이 끊겼습니다.",
    online: "검사 중", degraded: "성능 저하", starting: "시작 중", stopped: "정지됨", offline: "연결 끊김", silent: "응답 없음", unknown: "알 수 없음",
    idle: "아직 없음", fetching: "받는 중", verifying: "확인 중", activating: "적용 중", in_force: "적용됨", returned: "이전 상태로 복귀",
    kept: "변경 없음", refused: "거부됨", failed: "실패", fell_back: "스스로 복귀",
    rollout: "{name} 버전 {version} 배포: {stage}, {waves}단계 중 {wave}단계",
    running: "진행 중", paused: "일시 중지", done: "완료", aborted: "중단됨", rolling_back: "되돌리는 중", rolled_back: "되돌림",
  },
};
const word = (key, values = {}) => filled((words[language()] ?? words.en)[key], values);

const GOOD = new Set(["online"]), AWAY = new Set(["offline", "stopped", "silent", "unknown"]);
const BAD = new Set(["refused", "failed", "fell_back"]);
let found = null, shownKey = "";

function label() {
  setLanguage(language());
  for (const node of document.querySelectorAll("[data-word]")) node.textContent = word(node.dataset.word);
  for (const node of document.querySelectorAll("[data-name]")) node.setAttribute("aria-label", word(node.dataset.name));
  $("language").textContent = language() === "ko" ? "English" : "한국어";
  $("language").lang = language() === "ko" ? "en" : "ko";
}

const needs = (one) => !GOOD.has(one.state) || one.alarms.length > 0 || BAD.has(one.phase);
const text = (one) => [one.station, one.product, one.version, one.release, one.settings, one.state, word(one.state), one.phase, one.reason, ...one.alarms, ...one.alarms.map(reasonText)].join(" ").toLowerCase();

function show() {
  if (found === null) return;
  const all = found.stations, sought = $("search").value.trim().toLowerCase().split(/\s+/);
  const some = all.filter((one) => (!$("trouble").checked || needs(one)) && sought.every((part) => text(one).includes(part)));
  $("title").textContent = document.title = found.title || word("title");
  $("count").textContent = number(all.length);
  $("shown").textContent = word("shown", { n: number(some.length) });
  $("inspecting").textContent = number(all.filter((one) => !AWAY.has(one.state) && one.state !== "starting").length);
  $("away").textContent = word("away", { n: number(all.filter((one) => AWAY.has(one.state)).length) });
  $("alarms").textContent = number(all.filter((one) => one.alarms.length > 0).length);
  $("backlog").textContent = number(all.reduce((sum, one) => sum + (one.backlog ?? 0), 0));
  const out = found.rollout;
  $("rollout").textContent = out === null ? "" : word("rollout", { name: out.release.name, version: out.release.version, stage: word(out.stage), wave: out.wave, waves: out.waves }) + (out.reason ? ` – ${out.reason}` : "");
  const key = JSON.stringify([language(), some]);
  if (key === shownKey) return;
  shownKey = key;
  $("rows").replaceChildren(...some.map(row));
  $("none").hidden = some.length > 0;
}

function row(one) {
  const kind = GOOD.has(one.state) ? "good" : one.state === "degraded" || one.state === "starting" ? "warn" : "bad";
  const phase = one.phase === null || one.phase === "idle" ? [] : [make("small", { class: BAD.has(one.phase) ? "bad" : null, title: one.detail }, word(one.phase) + (one.reason ? `: ${one.reason.replaceAll("_", " ")}` : ""))];
  const cell = (name, ...content) => make("td", { class: name + (content.length ? "" : " nothing"), "data-head": word(name.split(" ")[0]) }, ...content);
  const some = (value) => (value === null ? [] : [String(value)]);
  return make(
    "tr", {},
    cell("station", one.station),
    cell("state", make("span", { class: `chip ${kind}` }, word(one.state))),
    cell("product", ...some(one.product)),
    cell("version", ...some(one.version)),
    cell("release", ...some(one.release), ...(one.settings === null ? [] : [make("small", {}, one.settings)]), ...phase),
    one.ok_rate === null ? cell("yield number") : cell("yield number", percent(one.ok_rate), make("small", {}, word("of_parts", { n: number(one.parts) }))),
    cell("backlog number", ...(one.backlog === null ? [] : [number(one.backlog)])),
    cell("alarms", ...(one.alarms.length ? [make("span", { class: "warn" }, one.alarms.map(reasonText).join(", "))] : [])),
  );
}

function trouble(what) {
  $("main").classList.toggle("old", what !== null);
  $("contact").hidden = what === null;
  if (what !== null) $("contact").textContent = word(what);
}

async function look() {
  try {
    found = await get("api/stations");
    trouble(found.connected ? null : "no_broker");
    show();
  } catch { trouble("no_page"); }
  setTimeout(look, EVERY_MS);
}

setLanguage(kept.get("language") ?? browsers() ?? "en");
document.documentElement.dataset.theme = kept.get("theme") ?? "dark";
label();
$("theme").addEventListener("click", () => {
  const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  kept.set("theme", next);
});
$("language").addEventListener("click", () => { setLanguage(language() === "ko" ? "en" : "ko"); kept.set("language", language()); label(); show(); });
$("search").addEventListener("input", show);
$("trouble").addEventListener("change", show);
$("filter").addEventListener("submit", (event) => event.preventDefault());
look();
