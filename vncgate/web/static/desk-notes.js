/* Notes of the organizers, above the desktop: asked for now and then, shown until they are dismissed or over. */

import { inLanguage, say } from "./words.js";

const EVERY = 15000; /* milliseconds between two looks */
const LIMIT = 5000; /* milliseconds that an answer may take */
const KEPT = "vncgate-notes"; /* the last note that was dismissed, in this tab; a name of sessionStorage */

const place = document.querySelector("[data-notes]");
let dismissed = Number(sessionStorage.getItem(KEPT) ?? 0);

async function look() {
  if (document.hidden) return;
  try {
    const options = { cache: "no-store", signal: AbortSignal.timeout(LIMIT) };
    const answer = await fetch(inLanguage(place.dataset.notes), options);
    if (answer.ok) show((await answer.json()).notes);
  } catch {
    /* The viewer itself tells of a gate that does not answer. */
  }
}

/* What is shown already stays as it is: it would be read aloud again, and lose the focus. */
function show(notes) {
  const wanted = new Map(notes.filter(({ number }) => number > dismissed).map((note) => [String(note.number), note]));
  for (const node of [...place.children]) {
    if (!wanted.delete(node.dataset.number)) node.remove();
  }
  for (const { number, text } of wanted.values()) place.append(made(number, text));
}

function made(number, text) {
  const node = document.createElement("div");
  node.className = "desk-note";
  node.dataset.number = number;
  const words = document.createElement("p");
  const sender = document.createElement("strong");
  sender.textContent = say("Organizers:");
  words.append(sender, ` ${text}`);
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = say("Dismiss");
  button.addEventListener("click", () => dismiss(node));
  node.append(words, button);
  return node;
}

/* Those before it have been read, too, or are in the way. */
function dismiss(node) {
  dismissed = Number(node.dataset.number);
  sessionStorage.setItem(KEPT, dismissed);
  for (const each of [...place.children]) if (Number(each.dataset.number) <= dismissed) each.remove();
  const desktop = document.querySelector(".desk-screen canvas");
  (place.querySelector("button") ?? desktop)?.focus();
}

document.addEventListener("visibilitychange", look);
setInterval(look, EVERY);
look();
