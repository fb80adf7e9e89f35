/* The organizer's page: the table of seats, kept current, and what is done to a seat. */

import { ask, element, post, show, tell } from "./organizer-ask.js";
import { slash } from "./organizer-filter.js";
import { cells, changed, keeps, sorted } from "./organizer-table.js";
import { inLanguage, locale, say, sayMany } from "./words.js";

const TICK = 15000; /* milliseconds between two looks at how long ago things were */
const FIRST_DELAY = 1000; /* milliseconds until a lost stream is asked for again; doubled at each failure */
const LONGEST_DELAY = 30000;

const section = document.querySelector("[data-seats]");
const part = (name) => section.querySelector(`[data-part=${name}]`);
const body = section.querySelector("tbody");
const filter = document.getElementById("filter-text");
const group = document.getElementById("filter-group");
const sort = document.getElementById("sort");
const dialog = document.getElementById("seat");

let seats = new Map(); // by account, in the token file's order
let order = { column: "", down: false };
let open = ""; // the account whose dialog is open
const rows = new Map();

const now = () => Date.now() / 1000;

/* ---- the table ---- */

function draw() {
  for (const [account, row] of rows) {
    if (!seats.has(account)) {
      row.remove();
      rows.delete(account);
    }
  }
  let shown = 0;
  let before = null;
  for (const seat of sorted(seats.values(), order.column, order.down)) {
    const row = rows.get(seat.account) ?? made(seat.account);
    write(row, seat);
    row.hidden = !keeps(seat, filter.value, group.value);
    shown += row.hidden ? 0 : 1;
    // Only what is not in its place is moved: that would cost the focus.
    const place = before ? before.nextElementSibling : body.firstElementChild;
    if (place !== row) body.insertBefore(row, place);
    before = row;
  }
  part("empty").hidden = shown > 0 || seats.size === 0;
  const isWhole = shown === seats.size;
  setText(part("count"), isWhole ? sayMany(shown, "{count} seat", "{count} seats")
    : say("{count} of {all} seats", { count: shown, all: seats.size }));
  if (open) facts();
}

function made(account) {
  const button = element("button", { type: "button", className: "account" });
  button.addEventListener("click", () => choose(account));
  const text = (name) => element("span", { className: name });
  const row = element(
    "tr", { className: "seat-row" },
    element("th", { scope: "row" }, button, text("mark")),
    labelled(say("Person"), text("person"), text("email under")),
    labelled(say("Desktop"), element("span", { className: "state" }, element("span", { className: "state-icon", ariaHidden: "true" }), text("label state-text")), text("reason")),
    labelled(say("Last input"), text("used")),
    labelled(say("Connection"), text("quality"), text("connection under")),
    labelled(say("Ends"), text("until")),
  );
  rows.set(account, row);
  return row;
}

function labelled(label, ...nodes) {
  const cell = element("td", {}, ...nodes);
  cell.dataset.label = label;
  return cell;
}

function write(row, seat) {
  const said = cells(seat, now(), locale());
  setText(row.querySelector(".account"), said.account);
  setText(row.querySelector(".label"), said.state);
  for (const name of ["mark", "person", "email", "reason", "used", "quality", "connection", "until"]) {
    setText(row.querySelector(`.${name}`), said[name]);
  }
  row.dataset.state = seat.state;
  row.dataset.quality = seat.quality;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function reorder(column, down = false) {
  order = { column, down };
  sort.value = column;
  for (const button of section.querySelectorAll("[data-sort]")) {
    const way = down ? "descending" : "ascending";
    if (button.dataset.sort === column) button.closest("th").setAttribute("aria-sort", way);
    else button.closest("th").removeAttribute("aria-sort");
  }
  draw();
}

for (const button of section.querySelectorAll("[data-sort]")) {
  button.addEventListener("click", () => {
    const { sort: column } = button.dataset;
    reorder(column, order.column === column && !order.down);
  });
}
sort.addEventListener("change", () => reorder(sort.value));
filter.addEventListener("input", draw);
group.addEventListener("change", draw);
slash(filter);
setInterval(() => { if (!document.hidden) draw(); }, TICK);

/* ---- live ---- */

let source = null;
let timer = 0;
let delay = FIRST_DELAY;

function heard(after) {
  seats = after;
  delay = FIRST_DELAY;
  setText(part("not-live"), "");
  section.classList.remove("stale");
  draw();
}

function connect() {
  clearTimeout(timer);
  source?.close();
  source = new EventSource(inLanguage(section.dataset.events));
  source.addEventListener("seats", ({ data }) => heard(new Map(JSON.parse(data).map((seat) => [seat.account, seat]))));
  source.addEventListener("change", ({ data }) => heard(changed(seats, JSON.parse(data))));
  source.onerror = () => {
    source.close();
    setText(part("not-live"), say("This is not live any more; trying again."));
    section.classList.add("stale");
    leaveIfSignedOut();
    timer = setTimeout(connect, delay * (1 + Math.random() / 4));
    delay = Math.min(delay * 2, LONGEST_DELAY);
  };
}

/* Whoever's token was revoked meanwhile is led to where one signs in; a gate that does not answer is waited for. */
async function leaveIfSignedOut() {
  const answer = await fetch(location.pathname, { method: "HEAD", redirect: "manual" }).catch(() => null);
  if (answer?.type === "opaqueredirect") location.reload();
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) connect();
  else source?.close();
});
window.addEventListener("pagehide", () => source?.close());
window.addEventListener("pageshow", (event) => { if (event.persisted) connect(); });
connect();

/* ---- one seat ---- */

function choose(account) {
  open = account;
  dialog.querySelector("h2").textContent = say("Seat {account}", { account });
  dialog.querySelector("[data-part=said]").textContent = "";
  drawn = "";
  facts();
  dialog.showModal();
}

dialog.addEventListener("close", () => {
  const button = rows.get(open)?.querySelector(".account");
  open = "";
  button?.focus();
});

let drawn = "";

/* What is known of the open seat, and what can be done: buttons are made anew only when others are wanted. */
function facts() {
  const seat = seats.get(open);
  if (!seat) {
    dialog.close();
    return;
  }
  const said = cells(seat, now(), locale());
  const lines = [
    [say("Person"), [said.person, said.email].filter(Boolean).join(" · ") || say("nobody that is known")],
    [say("Desktop"), [said.state, said.reason].filter(Boolean).join(": ")],
    [say("Last input"), said.used || "–"],
    [say("Connection"), [said.quality, said.connection].filter(Boolean).join(" · ") || "–"],
    [say("Ends"), said.until || say("with the workshop")],
    ...(said.mark ? [[say("Note"), said.mark]] : []),
  ];
  const list = dialog.querySelector("[data-part=facts]");
  if (list.children.length !== lines.length) {
    list.replaceChildren(...lines.map(() => element("div", {}, element("dt"), element("dd"))));
  }
  lines.forEach(([term, text], place) => {
    setText(list.children[place].querySelector("dt"), term);
    setText(list.children[place].querySelector("dd"), text);
  });
  const wanted = deeds(seat);
  const names = wanted.flatMap(([, ...names]) => names).join();
  if (names === drawn) return;
  drawn = names;
  const focused = document.activeElement?.dataset?.deed;
  const place = dialog.querySelector("[data-part=deeds]");
  place.replaceChildren(...wanted.map(([title, ...names]) => element(
    "section", { className: "deeds" }, element("h3", { textContent: title }), ...names.map(button),
  )));
  if (focused) (place.querySelector(`[data-deed=${focused}]`) ?? dialog.querySelector("[value=close]")).focus();
}

function button(name) {
  const made = element("button", { type: "button", className: DEEDS[name].hurts ? "plain danger" : "plain", textContent: DEEDS[name].label });
  made.dataset.deed = name;
  made.addEventListener("click", () => act(name, open));
  return made;
}

/* What can be done to a seat as it is, in groups. */
function deeds(seat) {
  const isTaken = seat.person !== "";
  const people = isTaken ? ["move", "release"] : ["assign"];
  const spare = seat.desktop ? "swap-back" : seat.spare ? "no-spare" : "swap";
  const launched = seat.is_launched ? ["start", "restart", "stop"] : [];
  return [
    [say("Let them in"), "link", "pin", "message", "extend"],
    [say("Who sits here"), ...people, ...(seat.spare || isTaken ? [] : ["spare"])],
    [say("The desktop"), spare, ...launched],
    [say("Shut out"), "sign-out", "revoke"],
  ];
}

const DEEDS = {
  link: { label: say("Seat link"), after: showLink },
  pin: {
    label: say("New PIN"),
    ask: (account) => ({
      title: say("A new PIN for {account}?", { account }),
      text: say("The one before is worthless then."),
      button: say("New PIN"),
    }),
    after: showPin,
  },
  message: {
    label: say("Message"),
    ask: (account) => ({
      title: account === "*" ? say("Message to all") : say("Message to {account}", { account }),
      text: say("It is shown in the viewer, with “organizers” as its sender, for ten minutes to who opens it later."),
      fields: [{ name: "text", label: say("Text"), type: "textarea", required: true, max: 500 }],
      button: say("Send"),
    }),
  },
  extend: {
    label: say("More time"),
    ask: (account) => ({
      title: account === "*" ? say("More time for all") : say("More time for {account}", { account }),
      fields: [{ name: "minutes", label: say("Minutes"), type: "number", value: "30", required: true, least: 1, most: 43200 }],
      button: say("More time"),
    }),
  },
  assign: {
    label: say("Give to somebody"),
    ask: async (account) => {
      const waiting = await whoWaits();
      return {
        title: say("Who gets {account}?", { account }),
        fields: [
          ...(waiting.length ? [{
            name: "person", label: say("From the waiting list"),
            options: [["", say("somebody else")], ...waiting.map(({ id, name }) => [id, name])],
          }] : []),
          { name: "name", label: say("Name of somebody new"), max: 200 },
          { name: "email", label: say("E-mail address"), type: "email", max: 200 },
        ],
        button: say("Give"),
      };
    },
    given: ({ person, ...others }) => (person ? { person } : others),
  },
  move: {
    label: say("Move to another seat"),
    ask: (account) => ({
      title: say("Move from {account} to which seat?", { account }),
      text: say("The old link, PIN and sessions are worthless then: hand out those of the new seat. The desktop that they have now ends, where the gate started it; what is not saved is lost."),
      fields: [{ name: "to", label: say("Seat"), options: free(), required: true }],
      button: say("Move"),
    }),
  },
  release: {
    label: say("Free the seat"),
    hurts: true,
    ask: (account) => ({
      title: say("Free {account}?", { account }),
      text: say("Whoever sits there is signed out, and loses the seat. Their desktop ends, where the gate started it; what is not saved is lost."),
      button: say("Free the seat"),
    }),
  },
  swap: {
    label: say("Swap for a spare"),
    ask: (account) => ({
      title: say("Show a spare desktop at {account}?", { account }),
      text: say("Their viewer goes on there by itself, with the same link. They cannot reach the desktop of now any more."),
      fields: [{ name: "spare", label: say("Spare"), options: [["", say("the first that is free")], ...spares()] }],
      button: say("Swap"),
    }),
  },
  "swap-back": {
    label: say("Swap back"),
    ask: (account) => ({
      title: say("Show its own desktop at {account} again?", { account }),
      button: say("Swap back"),
    }),
  },
  spare: { label: say("Keep as a spare"), path: "spare", given: () => ({ spare: "yes" }) },
  "no-spare": { label: say("No spare any more"), path: "spare", given: () => ({ spare: "no" }) },
  start: { label: say("Start") },
  restart: {
    label: say("Restart"),
    hurts: true,
    ask: (account) => ({
      title: say("Restart the desktop of {account}?", { account }),
      text: say("All that runs in it ends; what is not saved is lost."),
      button: say("Restart"),
    }),
  },
  stop: {
    label: say("Stop"),
    hurts: true,
    ask: (account) => ({
      title: say("Stop the desktop of {account}?", { account }),
      text: say("All that runs in it ends; what is not saved is lost."),
      button: say("Stop"),
    }),
  },
  "sign-out": {
    label: say("Sign out everywhere"),
    hurts: true,
    ask: (account) => ({
      title: say("Sign {account} out everywhere?", { account }),
      text: say("Every browser of this seat is signed out. Link and PIN still open it."),
      button: say("Sign out everywhere"),
    }),
  },
  revoke: {
    label: say("Revoke"),
    hurts: true,
    ask: (account) => ({
      title: say("Revoke {account}?", { account }),
      text: say("Every browser of this seat is signed out, and neither link nor PIN opens it, until it gets a new PIN."),
      button: say("Revoke"),
    }),
  },
};

const free = () => [...seats.values()].filter((seat) => !seat.person).map((seat) => [seat.account, seat.account]);
const spares = () => [...seats.values()].filter((seat) => seat.spare && !seat.shown_by.length).map((seat) => [seat.account, seat.account]);

/* Who waits for a seat now; nobody, where the gate does not say. */
async function whoWaits() {
  try {
    const answer = await fetch(section.dataset.waiting, { cache: "no-store", signal: AbortSignal.timeout(5000) });
    return (await answer.json()).waiting;
  } catch {
    return [];
  }
}

/* Ask if it must be asked, do it, and say what came of it. */
async function act(name, account) {
  const deed = DEEDS[name];
  const given = deed.ask ? await ask({ ...await deed.ask(account), hurts: deed.hurts }) : {};
  if (!given) return;
  const answer = await post(`seats/${deed.path ?? name}`, { account, ...(deed.given?.(given) ?? given) });
  if (answer.error) {
    tell(answer.error, true);
    return;
  }
  tell(answer.said);
  deed.after?.(answer, account);
}

for (const button of section.querySelectorAll("[data-all]")) {
  button.addEventListener("click", () => act(button.dataset.all, "*"));
}

function showPin({ pin, said }, account) {
  show({
    title: say("The new PIN of {account}", { account }),
    text: said,
    nodes: [element("p", { className: "secret", textContent: pin }), copier(pin)],
  });
}

function showLink({ link, qr, said }, account) {
  show({
    title: say("The seat link of {account}", { account }),
    text: said,
    nodes: [
      element("img", { className: "qr", src: qr, alt: say("The link as a QR code") }),
      element("p", { className: "address", textContent: link }),
      copier(link),
    ],
  });
}

function copier(text) {
  const made = element("button", { type: "button", className: "plain", textContent: say("Copy") });
  made.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      tell(say("Copied."));
    } catch {
      tell(say("Your browser does not let this page copy; mark the text and copy it by hand."), true);
    }
  });
  return made;
}
