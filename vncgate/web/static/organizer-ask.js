/* What the organizer's pages ask before they do something, and what they answer. */

import { say } from "./words.js";

const LIMIT = 30000; /* milliseconds that a deed may take */

const dialog = document.getElementById("ask");
const page = document.querySelector("[data-organizer]");

/* Do something by the gate: {said, ...}, or {error} in plain words. */
export async function post(address, fields) {
  const body = new URLSearchParams({ ...fields, form_token: page.dataset.token });
  try {
    const options = { method: "POST", body, signal: AbortSignal.timeout(LIMIT) };
    const answer = await fetch(`${page.dataset.organizer}/${address}`, options);
    if (answer.status === 403) {
      location.reload(); // signed out meanwhile, or in again: the page comes anew, or the form to sign in
      return { error: say("You are signed out.") };
    }
    return await answer.json();
  } catch {
    return { error: say("The gate did not answer. Please try again.") };
  }
}

/* Say what came of it, where it is read aloud: in the dialog that is open, or on the page. */
export function tell(text, isBad = false) {
  const places = [...document.querySelectorAll("dialog[open] [data-part=said]")];
  const place = places.at(-1) ?? page.querySelector("[data-part=said]");
  place.textContent = "";
  place.dataset.tone = isBad ? "bad" : "good";
  place.textContent = text;
}

/* Ask before something is done. `fields` are {name, label, value, type, options, hint, required, max (length), least, most}.
   Resolves with what was given, or null. */
export function ask({ title, text = "", fields = [], button, hurts = false }) {
  const form = dialog.querySelector("form");
  dialog.querySelector("h2").textContent = title;
  dialog.querySelector("[data-part=text]").textContent = text;
  dialog.querySelector("[data-part=fields]").replaceChildren(...fields.map(made));
  dialog.querySelector("[data-part=shown]").replaceChildren();
  dialog.querySelector("[data-part=said]").textContent = "";
  const submit = form.querySelector("[type=submit]");
  submit.hidden = false;
  submit.textContent = button;
  submit.classList.toggle("danger", hurts);
  form.querySelector("[value=cancel]").textContent = say("Cancel");
  dialog.returnValue = "";
  dialog.showModal();
  const first = form.querySelector("[data-part=fields] :is(input, select, textarea)");
  (first ?? form.querySelector(hurts ? "[value=cancel]" : "[type=submit]")).focus();
  return new Promise((resolve) => {
    dialog.onclose = () => resolve(dialog.returnValue === "ok" ? given(form) : null);
  });
}

/* Show something that is told this once, until it is closed. */
export function show({ title, text, nodes }) {
  dialog.querySelector("h2").textContent = title;
  dialog.querySelector("[data-part=text]").textContent = text;
  dialog.querySelector("[data-part=fields]").replaceChildren();
  dialog.querySelector("[data-part=shown]").replaceChildren(...nodes);
  dialog.querySelector("[data-part=said]").textContent = "";
  dialog.querySelector("[type=submit]").hidden = true;
  const close = dialog.querySelector("[value=cancel]");
  close.textContent = say("Close");
  dialog.onclose = () => dialog.querySelector("[data-part=shown]").replaceChildren(); // a PIN stays no longer than it is read
  dialog.showModal();
  close.focus();
}

/* An element with properties and children. */
export function element(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

function made({ name, label, type = "text", value = "", options, hint = "", required = false, max, least, most }) {
  const id = `ask-${name}`;
  let field;
  if (options) {
    field = element("select", {}, ...options.map(([key, text]) => element("option", { value: key, textContent: text })));
  } else {
    field = element(type === "textarea" ? "textarea" : "input", type === "textarea" ? { rows: 3 } : { type });
  }
  Object.assign(field, { id, name, value, required, autocomplete: "off" });
  if (max) field.maxLength = max;
  if (most) Object.assign(field, { min: least, max: most });
  const parts = [element("label", { htmlFor: id, textContent: label }), field];
  if (hint) {
    parts.push(element("p", { id: `${id}-hint`, className: "hint", textContent: hint }));
    field.setAttribute("aria-describedby", `${id}-hint`);
  }
  return element("div", { className: "ask-field" }, ...parts);
}

function given(form) {
  return Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== ""));
}

dialog.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  if (event.submitter?.value === "cancel" || event.target.reportValidity()) {
    dialog.close(event.submitter?.value === "cancel" ? "cancel" : "ok");
  }
});
