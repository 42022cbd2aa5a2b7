// Small helpers: elements, numbers and times as people read them, requests.

import { language, own, t } from "./texts.js";

export const $ = (id) => document.getElementById(id);

const SVG = "http://www.w3.org/2000/svg";

export function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

export function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

// Change only what differs: what a finger is on, or what has the focus, stays where it is.
export function renew(host, items, key, build) {
  const have = new Map([...host.children].map((node) => [node.dataset.key, node]));
  const wanted = items.map((item) => have.get(key(item)) ?? build(item));
  wanted.forEach((node, i) => { node.dataset.key = key(items[i]); });
  for (const node of [...host.children]) if (!wanted.includes(node)) node.remove();
  wanted.forEach((node, i) => { if (host.children[i] !== node) host.insertBefore(node, host.children[i] ?? null); });
}

export const use = (symbol, attributes = {}) => draw("svg", { "aria-hidden": "true", ...attributes }, draw("use", { href: `#${symbol}` }));

// Shape and word, so that nothing hangs on colour alone.
export const badge = (result) => make("span", { class: `badge t-${result}` }, use(`shape-${result}`), t(result));

export const number = (value, digits = 0) =>
  value === null || value === undefined ? "–" : value.toLocaleString(language(), { minimumFractionDigits: digits, maximumFractionDigits: digits });

// A long name without its middle: names of files differ at their ends.
export const shortened = (name, most) => {
  const letters = [...name], kept = most - 1, end = Math.floor(kept / 2);
  return letters.length > most ? `${letters.slice(0, kept - end).join("")}…${letters.slice(-end).join("")}` : name;
};

// The same, as long as its place is wide: the beginning gives way, the end stays.
export function withEnd(name) {
  const letters = [...name], end = letters.length > 12 ? 6 : 0, cut = letters.length - end;
  return [make("span", { class: "begins" }, letters.slice(0, cut).join("")), make("span", {}, letters.slice(cut).join(""))];
}

export const percent = (share) => (share === null || share === undefined ? "–" : `${number(100 * share, 1)} %`);

export function raw(value) {
  if (value === null || value === undefined) return "–";
  return Math.abs(value) >= 1000 || (value !== 0 && Math.abs(value) < 0.001) ? value.toExponential(3) : Number(value.toPrecision(5)).toString();
}

export function bytes(count) {
  const units = ["B", "KB", "MB", "GB", "TB"];
  let step = 0;
  while (count >= 1000 && step < units.length - 1) { count /= 1000; step += 1; }
  return `${number(count, count < 10 && step ? 1 : 0)} ${units[step]}`;
}

// 2026-11-23 14:03:07 in every language, in the time of who looks.
const two = (n) => String(n).padStart(2, "0");
const time = (at) => `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
export const clock = (utc) => (utc ? time(new Date(utc)) : "–");
export function moment(utc) {
  if (!utc) return "–";
  const at = new Date(utc);
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${time(at)}`;
}

export function ago(utc) {
  const seconds = Math.max(0, (Date.now() - new Date(utc)) / 1000);
  if (seconds < 3) return t("ago_now");
  if (seconds < 90) return t("ago_s", { n: Math.round(seconds) });
  if (seconds < 5400) return t("ago_min", { n: Math.round(seconds / 60) });
  return t("ago_h", { n: Math.round(seconds / 3600) });
}

// A station that is gone must not be waited for.
const PATIENCE_MS = 15000;

export async function get(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" }, signal: AbortSignal.timeout(PATIENCE_MS) });
  const content = await answer.json();
  if (!answer.ok) throw refusal(answer, content);
  return content;
}

// The station answers in English; another language has words for the kind of cause, or its meaning first.
function refusal(answer, content) {
  const why = content.error ?? answer.statusText, kind = `refused_${content.kind}`, meaning = `answer_${answer.status}`;
  if (language() !== "en" && own(kind)) return new Error(t(kind, content.data));
  return new Error(own(meaning) ? `${t(meaning)} (${why})` : why);
}

// A name that the journal has, as people read it.
export const who = (name) => (name === "token" ? t("by_token") : name);

// Who acts: named by the reverse proxy, or by whoever has the token; nobody while the page is locked.
let acting = null, token = null;
export const actor = () => acting;
export function setActor(name, secret = null) { acting = name; token = secret; }

// No cookie: the token travels in a header that no foreign site can make a browser send.
export async function act(name, body = {}, secret = token) {
  const headers = { "content-type": "application/json", "x-edge-request": "1" };
  if (secret) headers.authorization = `Bearer ${secret}`;
  if (secret && kept.get("name")) headers["x-edge-name"] = encodeURIComponent(kept.get("name"));
  const answer = await fetch(`api/actions/${name}`, { method: "POST", headers, body: JSON.stringify(body) });
  const content = await answer.json();
  if (!answer.ok) throw refusal(answer, content);
  return content.done;
}

let hiding = null;
export function toast(text, bad = false) {
  const node = $("toast");
  node.textContent = text;
  node.className = bad ? "bad" : "";
  node.hidden = false;
  clearTimeout(hiding);
  hiding = setTimeout(() => { node.hidden = true; }, bad ? 9000 : 4000);
}

export const kept = {
  get(key) { try { return localStorage.getItem(key); } catch { return null; } },
  set(key, value) { try { localStorage.setItem(key, value); } catch { /* private window: not kept */ } },
};
