/* The page of an account's files: what is chosen, how a download goes, and uploads. Without it forms and links do. */

import { Uploads, dropping, size } from "./uploads.js";
import { locale, say, sayMany } from "./words.js";

const POLL = 1000; // ms between two looks at a download
const page = document.getElementById("files");
const form = document.getElementById("pack");
const chosen = document.getElementById("chosen");

/* What scripts add to the list: times of the reader's own zone, and a box that checks all others. */
function dress() {
  for (const time of document.querySelectorAll("time[datetime]")) {
    time.textContent = new Date(time.dateTime).toLocaleString(locale(), { dateStyle: "medium", timeStyle: "short" });
  }
  const all = form.querySelector("#all");
  if (!all) return;
  form.querySelector("th.files-time").textContent = say("Changed");
  all.hidden = false;
  all.addEventListener("change", () => {
    for (const box of boxes()) box.checked = all.checked;
  });
}

function boxes() {
  return [...form.querySelectorAll("[name=item]")];
}

dress();
form.addEventListener("change", tell);

/* What is checked, in words; where a folder was not added up in time nobody knows its size. */
function tell() {
  const checked = boxes().filter((box) => box.checked);
  const all = form.querySelector("#all");
  all.checked = checked.length > 0 && checked.length === boxes().length;
  all.indeterminate = checked.length > 0 && !all.checked;
  if (!checked.length) {
    chosen.textContent = say("What is checked, or else all.");
    return;
  }
  const bytes = total(checked);
  chosen.textContent =
    bytes === null
      ? sayMany(checked.length, "{count} chosen", "{count} chosen")
      : sayMany(checked.length, "{count} chosen, {size}", "{count} chosen, {size}", { size: size(bytes) });
}

function total(checked) {
  if (!checked.length) return page.dataset.total ? Number(page.dataset.total) : null;
  return checked.some((box) => box.dataset.size === undefined)
    ? null
    : checked.reduce((sum, box) => sum + Number(box.dataset.size), 0);
}

/* The browser saves the download itself; the gate tells how much of it it took. */
form.addEventListener("submit", () => {
  const ticket = [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  form.elements.namedItem("ticket").value = ticket;
  watch(ticket, total(boxes().filter((box) => box.checked)));
});

let watching = 0;

async function watch(ticket, bytes) {
  const mine = ++watching;
  const bar = document.getElementById("progress-bar");
  const text = document.getElementById("progress-text");
  document.getElementById("progress").hidden = false;
  text.textContent = say("Your files are being packed…");
  bar.removeAttribute("value");
  for (let misses = 0; mine === watching && misses < 30; ) {
    await new Promise((resolve) => setTimeout(resolve, POLL));
    const answer = await fetch(`${page.dataset.base}/progress?ticket=${ticket}`).catch(() => null);
    const { sent, done, ended } = answer?.ok ? await answer.json() : {};
    if (sent === undefined) {
      misses += 1;
      continue;
    }
    misses = 0;
    if (done || ended) {
      bar.max = bar.value = 1;
      bar.hidden = !done;
      text.textContent = done
        ? say("Downloaded: {size}. Your browser has it.", { size: size(sent) })
        : say("The download was ended after {size}.", { size: size(sent) });
      return;
    }
    if (bytes) {
      bar.max = Math.max(bytes, sent);
      bar.value = sent;
    }
    text.textContent = bytes
      ? say("Downloading: {sent} of about {size}", { sent: size(sent), size: size(bytes) })
      : say("Downloading: {sent}", { sent: size(sent) });
  }
}

const send = document.getElementById("send");
send.hidden = false;
const uploads = new Uploads(page.dataset.base, document.getElementById("uploads"), () => refresh());
document.getElementById("choose").addEventListener("change", (event) => {
  uploads.send([...event.target.files], page.dataset.folder);
  event.target.value = "";
});

dropping(say("Drop the files here"), (files) => uploads.send(files, page.dataset.folder));

/* What has landed is in the list once that is made anew: where nothing is checked, so that no choice is lost. */
async function refresh() {
  if (boxes().some((box) => box.checked)) return;
  const answer = await fetch(location.href).catch(() => null);
  if (!answer?.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  const [now, then] = [document.querySelector(".files-table"), fresh.querySelector(".files-table")];
  if (!then) return;
  document.querySelector(".files-facts").replaceWith(fresh.querySelector(".files-facts"));
  page.dataset.total = fresh.getElementById("files").dataset.total ?? "";
  if (now) now.replaceWith(then);
  else form.querySelector(".empty")?.replaceWith(then);
  dress();
}
