/* Sign-ups and the waiting list: the filter, and what is done with somebody. */

import { ask, element, post, tell } from "./organizer-ask.js";
import { filtered } from "./organizer-filter.js";
import { say } from "./words.js";

const group = document.getElementById("filter-group");
const problems = document.querySelector("[data-part=problems]");
const apply = filtered((row) => group.value === "" || row.dataset.standing === group.value);
group.addEventListener("change", apply);

const KEPT = "vncgate-said"; /* what the page says once it has been drawn anew; a name of sessionStorage */

function done(answer) {
  if (answer.error) {
    tell(answer.error, true);
    return;
  }
  sessionStorage.setItem(KEPT, answer.said);
  location.reload();
}

async function moveUp({ person, name }) {
  const given = await ask({
    title: say("Give {name} a seat", { name }),
    fields: [{ name: "account", label: say("Seat"), hint: say("Leave it empty for the next free one.") }],
    button: say("Give a seat"),
  });
  if (given) done(await post("people/move-up", { person, ...given }));
}

async function remove({ person, name }) {
  const given = await ask({
    title: say("Remove {name}?", { name }),
    text: say("All that is known of this person is deleted, and their seat is free. Their desktop ends, where the gate started it; what is not saved is lost. This cannot be undone."),
    button: say("Remove"),
    hurts: true,
  });
  if (given) done(await post("people/remove", { person }));
}

async function add() {
  const given = await ask({
    title: say("Add somebody"),
    text: say("They go to the end of the waiting list, or to a seat at once."),
    fields: [
      { name: "name", label: say("Name"), required: true, max: 200 },
      { name: "email", label: say("E-mail address"), type: "email", max: 200 },
      { name: "account", label: say("Seat"), hint: say("Leave it empty for the waiting list.") },
    ],
    button: say("Add"),
  });
  if (given) done(await post("people/add", given));
}

async function takeIn(input) {
  const [file] = input.files;
  input.value = "";
  if (!file) return;
  const given = await ask({
    title: say("Take in {name}?", { name: file.name }),
    text: say("Lines with an id change people who are known; lines without one add somebody. Where a line is wrong, nothing is done."),
    button: say("Take in"),
  });
  if (!given) return;
  const answer = await post("people/import", { table: await base64(file) });
  problems.hidden = !answer.problems?.length;
  problems.replaceChildren();
  if (answer.problems?.length) {
    problems.append(
      element("h2", { textContent: answer.error }),
      element("ul", {}, ...answer.problems.map((line) => element("li", { textContent: line }))),
    );
    problems.focus();
  } else {
    done(answer);
  }
}

function base64(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}

for (const button of document.querySelectorAll("tr[data-person] [data-do]")) {
  button.addEventListener("click", () => {
    const row = button.closest("tr").dataset;
    if (button.dataset.do === "move-up") moveUp(row);
    else remove(row);
  });
}
document.querySelector("[data-do=add]").addEventListener("click", add);
document.querySelector("[data-do=import]").addEventListener("change", (event) => takeIn(event.target));

apply();
const said = sessionStorage.getItem(KEPT);
sessionStorage.removeItem(KEPT);
if (said) tell(said);
