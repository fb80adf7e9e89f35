/* The landing page: live state by server-sent events, and the filter box. The page works without it. */

import { expected } from "./desk-room.js";
import { inLanguage, say } from "./words.js";

const section = document.querySelector(".desktops");
const notice = document.getElementById("not-live");
const filter = document.getElementById("filter");
const input = document.getElementById("filter-text");
const count = document.getElementById("filter-count");
const noMatch = document.getElementById("no-match");

/* ---- filter ---- */

const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
const cards = () => [...document.querySelectorAll("#accounts .card")];

function applyFilter() {
  const words = plain(input.value).split(/\s+/).filter(Boolean);
  const all = cards();
  let shown = 0;
  for (const card of all) {
    const title = card.querySelector(".card-title").textContent;
    const name = card.querySelector(".card-name")?.textContent ?? "";
    const text = plain(`${title} ${name} ${card.dataset.path}`);
    card.hidden = !words.every((word) => text.includes(word));
    shown += card.hidden ? 0 : 1;
  }
  noMatch.hidden = shown > 0 || all.length === 0;
  count.textContent = words.length ? say("{shown} of {all} desktops", { shown, all: all.length }) : "";
}

function showFilter() {
  const useful = "filter" in document.getElementById("accounts").dataset;
  if (!useful) input.value = "";
  filter.hidden = !useful;
  applyFilter();
}

input.addEventListener("input", applyFilter);
document.addEventListener("keydown", (event) => {
  if (filter.hidden || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/" && !event.target.matches("input, textarea, select, [contenteditable]")) {
    event.preventDefault();
    input.focus();
  } else if (event.key === "Escape" && input.value) {
    event.preventDefault();
    input.value = "";
    applyFilter();
  }
});
/* Browsers fill in what was typed before a reload; the box remembers nothing. */
window.addEventListener("pageshow", () => {
  input.value = "";
  showFilter();
});

/* ---- live state ---- */

const FIRST_DELAY = 1000; /* milliseconds until a lost stream is asked for again; doubled at each failure */
const LONGEST_DELAY = 30000;

let source = null;
let timer = 0;
let delay = FIRST_DELAY;
let wasLive = "live" in section.dataset;
const latest = new Map(); // what the gate said last, by path

function show(entry) {
  latest.set(entry.path, entry);
  const card = cards().find((one) => one.dataset.path === entry.path);
  if (!card || card.querySelector(".card-title").textContent !== entry.title) return false;
  if (card.dataset.state !== entry.state) card.dataset.state = entry.state;
  card.querySelector(".state-text").textContent = entry.label;
  const when = entry.desktop ? expected(entry.desktop, Date.now() / 1000, true) : "";
  card.querySelector(".reason").textContent = [entry.reason, when].filter(Boolean).join("; ");
  return true;
}

/* Accounts came, went or were renamed: the server draws the cards, as it did at first. All open pages hear of
   it at once, so each waits a moment of its own. */
let fetching = 0;
function refresh() {
  clearTimeout(fetching);
  fetching = setTimeout(async () => {
    try {
      const answer = await fetch(inLanguage(location.pathname), { cache: "no-cache" });
      if (!answer.ok) return;
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      const old = document.getElementById("accounts");
      const focused = document.activeElement?.closest?.(".card")?.dataset.path;
      old.replaceWith(document.adoptNode(page.getElementById("accounts")));
      latest.forEach(show); // a static page is drawn without any state
      showFilter();
      if (focused) cards().find((card) => card.dataset.path === focused)?.querySelector("a").focus();
    } catch {
      /* The stream notices a lost connection, and sends the whole list when it is back. */
    }
  }, Math.random() * 1500);
}

function live() {
  wasLive = true;
  delay = FIRST_DELAY;
  notice.textContent = "";
  section.classList.remove("stale");
}

function connect() {
  clearTimeout(timer);
  source?.close();
  source = new EventSource(inLanguage(section.dataset.events));
  source.addEventListener("accounts", (event) => {
    live();
    const list = JSON.parse(event.data);
    latest.clear();
    const known = list.map(show);
    if (known.includes(false) || list.length !== cards().length) refresh();
  });
  source.addEventListener("change", (event) => {
    live();
    const { changed, removed } = JSON.parse(event.data);
    const known = changed.map(show);
    removed.forEach((path) => latest.delete(path));
    if (known.includes(false) || removed.length) refresh();
  });
  source.onerror = () => {
    source.close();
    if (!wasLive) return; // a static page, and no daemon behind it
    notice.textContent = say("State is not live; reconnecting");
    section.classList.add("stale");
    timer = setTimeout(connect, delay * (1 + Math.random() / 4));
    delay = Math.min(delay * 2, LONGEST_DELAY);
  };
}

/* A page that nobody looks at holds no connection: behind Apache each one is a worker's. */
function follow() {
  if (document.visibilityState === "visible") {
    connect();
  } else {
    clearTimeout(timer);
    source?.close();
    source = null;
  }
}

document.addEventListener("visibilitychange", follow);
window.addEventListener("pagehide", () => source?.close());
window.addEventListener("pageshow", (event) => {
  if (event.persisted) follow();
});
showFilter();
follow();
