/* Files for the desktop: dropped on it, or chosen in the panel of the toolbar. What is on its way is listed in a corner. */

import { Uploads, dropping } from "./uploads.js";
import { say } from "./words.js";

const desk = document.getElementById("desk");
const box = document.createElement("section");
box.className = "desk-files";
box.setAttribute("aria-label", say("Files on their way to the desktop"));
box.hidden = true;
const list = document.createElement("ul");
list.className = "uploads";
const close = document.createElement("button");
close.type = "button";
close.className = "desk-files-close";
close.textContent = say("Close");
close.addEventListener("click", () => {
  for (const row of [...list.children]) if (row.dataset.state === "done" || row.dataset.state === "bad") row.remove();
  if (list.childElementCount) return;
  box.hidden = true;
  desk.querySelector(".desk-screen canvas")?.focus();
});
box.append(list, close);
desk.append(box);

const uploads = new Uploads(desk.dataset.files, list);

function send(files) {
  if (!files.length) return;
  box.hidden = false;
  uploads.send(files);
}

const choose = desk.querySelector("[data-files=choose]");
choose.addEventListener("change", () => {
  send([...choose.files]);
  choose.value = "";
});

dropping(say("Drop to copy to your desktop"), send);
