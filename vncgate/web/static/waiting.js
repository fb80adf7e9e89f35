/* The page of the waiting list: it looks every minute what has become of the place, as long as somebody sees it. A page that
   reloads itself would be read aloud anew each time, and lose the focus. */

import { inLanguage } from "./words.js";

const EVERY = 60000; /* milliseconds between two looks */

async function look() {
  if (document.hidden) return;
  try {
    const answer = await fetch(inLanguage(location.pathname), { cache: "no-store" });
    if (!answer.ok) return;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    const [now, before] = [page, document].map((each) => each.querySelector("h1")?.textContent);
    const [place, shown] = [page, document].map((each) => each.querySelector(".lead"));
    if (now !== before || !place) location.reload();
    else if (place.textContent !== shown.textContent) shown.textContent = place.textContent;
  } catch {
    // Nobody answers: the next look may find somebody.
  }
}

setInterval(look, EVERY);
document.addEventListener("visibilitychange", look);
