/* A seat link, or a share's: what opens it stands behind the # of the address, which no server and no log sees. It is taken
   out of the address at once, so that neither the history nor somebody behind one's back has it, and sent in a form. */

import { say } from "./words.js";

const page = document.getElementById("link");
const words = document.getElementById("link-words");
const open = document.getElementById("link-open");

const token = location.hash.slice(1);
history.replaceState(null, "", location.pathname + location.search);

async function enter() {
  open.hidden = true;
  const form = new URLSearchParams({ token, form_token: page.dataset.token });
  let answer = {};
  try {
    const response = await fetch(page.dataset.target, { method: "POST", body: form, signal: AbortSignal.timeout(15000) });
    answer = await response.json();
  } catch {
    answer = { error: say("The site does not answer at the moment. Please open the link again.") };
  }
  if (answer.next) location.replace(answer.next);
  else fail(answer.error);
}

function fail(text) {
  page.querySelector("h1").textContent = say("That did not work");
  words.textContent = text;
  words.className = "seat-error";
  document.getElementById("link-home").hidden = false;
  words.focus();
}

if (!token) {
  fail(say("This address is not complete: the part behind the # is missing. Please open the link as you got it."));
} else if ("asks" in page.dataset) {
  open.hidden = false;
  open.addEventListener("click", enter);
  open.focus();
} else {
  enter();
}
