/* The viewer's page: puts the session, the connection and the parts of the page together.

   The policy is in desk-session.js; here its effects are carried out and its phase is shown. The password is in a
   variable of this module, for reconnecting, and nowhere else. */

import { websocketAddress } from "./desk-address.js";
import { Clipboard } from "./desk-clipboard.js";
import { Connection } from "./desk-connection.js";
import { Gate } from "./desk-gate.js";
import { TouchKeyboard } from "./desk-keyboard.js";
import { isAway, isOutOfReach, warning } from "./desk-room.js";
import { Screen } from "./desk-screen.js";
import { begin, step } from "./desk-session.js";
import { Share } from "./desk-share.js";
import { Toolbar } from "./desk-toolbar.js";
import { MODIFIERS, Sticky } from "./desk-typing.js";
import { countdown, readiness, words } from "./desk-words.js";
import { say } from "./words.js";

const LOOK_EVERY = 15000; /* milliseconds between looks at the account's state */
const KEYS = { tab: [0xff09, "Tab"], escape: [0xff1b, "Escape"] };

const desk = document.getElementById("desk");
const screenArea = desk.querySelector(".desk-screen");
const part = (name) => desk.querySelector(`[data-part=${name}]`);
const button = (name) => desk.querySelector(`[data-do=${name}]`);
const clock = () => performance.now() / 1000;

const seat = desk.dataset.seat ?? ""; // where people sign in: control or view, what may be done here
let session = begin(clock(), desk.dataset.websocket !== "", seat !== "");
let connection = null;
let picture = null; // the canvas that noVNC draws on
let password = "";
let timer = 0;
let ticker = 0;
let unlisted = false; // this page is served without a gate that could be asked
let entered = false; // who is signed in is led to the desktop without asking, once
let visited = false; // the gate knows that the page was opened
let warned = null; // what stands on the desktop before it ends
let trouble = ""; // why what was asked of the gate was not done
let announced = ""; // what was read aloud last

const gate = new Gate(desk.dataset, (status) => {
  if (status?.moved) {
    location.replace(`${desk.dataset.root}desk/${encodeURIComponent(status.moved)}/`);
    return;
  }
  unlisted = status === "unlisted" && !session.listed;
  if (status !== null) trouble = "";
  const ready = readiness(typeof status === "string" ? null : status);
  part("readiness").hidden = ready === null;
  part("readiness").textContent = ready?.text ?? "";
  part("readiness").dataset.tone = ready?.tone ?? "";
  dispatch({ type: "looked", status });
  if (!seat || entered || session.phase !== "asking") return;
  entered = true;
  dispatch({ type: "submit" });
});

/* ---- the session ---- */

function dispatch(event) {
  const before = session;
  if (event.type === "closed" && session.phase === "connected") keepLastPicture();
  const { session: after, effects } = step(session, event, clock(), Math.random());
  session = after;
  clearTimeout(timer);
  clearInterval(ticker);
  if (session.due !== null) timer = setTimeout(() => dispatch({ type: "due" }), Math.max(0, session.due - clock()) * 1000);
  if (session.phase === "waiting") ticker = setInterval(showCountdown, 250);
  for (const effect of effects) EFFECTS[effect]();
  render(before);
}

const EFFECTS = {
  connect() {
    const address = websocketAddress(desk.dataset.websocket, location.href);
    connection = new Connection(screenArea, address, password, { tell: dispatch, show: wire });
  },
  hangup() { connection.hangup(); },
  forget() { password = ""; },
  look: () => gate.look(),
  start: () => ask("start"),
};

/* A desktop that starts when it is wanted is asked for as soon as somebody opens its page, and not again by itself. */
async function visit() {
  visited = await gate.post("visit");
  if (!visited) gate.look();
}

async function ask(deed) {
  trouble = await gate.post(deed) ? "" : say("The gate did not answer. Please try again.");
  tick();
  if (trouble) setText(part("live"), trouble);
}

/* ---- what is shown ---- */

function render(before) {
  const { phase } = session;
  const said = words(session, gate.now(), true);
  const focused = document.activeElement;
  desk.dataset.phase = phase;
  desk.querySelector(".desk-cover").hidden = phase === "connected";
  const isSignedOut = phase === "ended" && session.why.kind === "signed out";
  part("form").hidden = Boolean(seat) || phase !== "asking" || isOutOfReach(session.desktop);
  if (phase !== "asking") part("readiness").hidden = true;
  part("choices").hidden = (phase === "asking" && !entered) || phase === "connected" || desk.dataset.websocket === "";
  button("retry").hidden = phase === "connecting" || phase === "room" || isSignedOut
    || (phase === "asking" && isOutOfReach(session.desktop));
  button("leave").hidden = phase === "asking" || isSignedOut;
  if (seat) part("sign-in").hidden = !isSignedOut;
  button("retry").textContent = phase === "ended" ? say("Try again") : phase === "asking" ? say("Open the desktop") : say("Try now");
  part("notice").hidden = !said.headline;
  part("notice").dataset.tone = said.tone;
  setText(part("headline"), said.headline);
  // Tries that come by themselves are not read aloud, only what comes of them.
  if (phase !== "connecting" || session.failures === 0) announce(said);
  showCountdown();
  tick();
  if (phase !== before?.phase) enter(phase, before?.phase);
  keepFocus(focused);
}

/* A position in a line and a guess of a queue change all the time: they are read aloud with a new headline only. */
function announce({ headline, detail }) {
  if (headline !== announced) setText(part("live"), `${headline} ${detail}`.trim());
  announced = headline;
}

/* What had the focus may have gone with what was said before: then it is where the news are. */
function keepFocus(focused) {
  const now = document.activeElement;
  if (!focused?.closest("[hidden]") || (now !== focused && now !== document.body)) return;
  (part("form").hidden ? part("notice") : part("form").elements.password).focus();
}

/* What changes as time passes: when the desktop is expected, and how long it stays. */
function tick() {
  const said = words(session, gate.now());
  setText(part("detail"), [said.detail, trouble].filter(Boolean).join(" "));
  showWarning();
  document.title = `${warned ? `Ends ${warned.left}` : said.tab} · ${desk.dataset.title} · ${desk.dataset.site}`;
  if (!gate.isLauncher) return;
  showOffer();
  // Behind Apache a stream is a worker's, so it is for who waits, or is warned; else the gate is asked now and then.
  gate.follow(!document.hidden && !unlisted && (session.phase !== "connected" || warned !== null));
}

function showOffer() {
  const offer = isAway(session.desktop) && ["asking", "room"].includes(session.phase) ? session.desktop.offer : "";
  button("start").hidden = !offer;
  if (offer) setText(button("start"), offer[0].toUpperCase() + offer.slice(1));
}

function showWarning() {
  const before = warned;
  warned = session.phase === "connected" ? warning(session.desktop, gate.now()) : null;
  if (!before && !warned) return;
  const isFocused = document.activeElement === button("stay");
  part("warning").hidden = !warned;
  button("stay").hidden = !warned?.stays;
  if (isFocused && !warned?.stays) {
    toolbar.fold(true);
    back();
  }
  const way = warned?.stays ? say("Control, Alt and Shift together lead to the button Stay.") : "";
  setText(part("warning-live"), warned ? `${warned.text}. ${way}`.trim() : "");
  if (!warned) return;
  setText(part("warning-text"), warned.text);
  setText(part("warning-left"), trouble || `(${warned.left})`);
}

function setText(element, text) {
  if (element.textContent !== text) element.textContent = text; // or it would be read aloud again
}

function showCountdown() {
  part("countdown").hidden = session.phase !== "waiting";
  if (session.phase === "waiting") setText(part("countdown"), countdown(Math.ceil(session.due - clock())));
}

function enter(phase, from) {
  const field = part("form").elements.password;
  if (phase === "connected") {
    field.value = "";
    reveal(false);
    toolbar.show();
    connection.rfb.focus();
    clipboard.focused();
  }
  if (from === "connected") {
    toolbar.hide();
    sticky.release();
    showSticky();
    part("typing").blur();
    if (phase !== "room") button("retry").focus();
  }
  if (phase === "room") part("notice").focus();
  if (phase === "asking") {
    if (["wrong", "changed"].includes(session.why?.kind)) field.value = "";
    if (!matchMedia("(pointer: coarse)").matches) field.focus();
  }
  if (phase !== "waiting" && phase !== "connecting") desk.querySelector(".desk-last").hidden = true;
}

/* Behind the words about a lost connection stands, dimmed, what was on the screen. */
function keepLastPicture() {
  const last = desk.querySelector(".desk-last");
  last.width = picture.width;
  last.height = picture.height;
  last.getContext("2d").drawImage(picture, 0, 0);
  last.hidden = false;
}

function reveal(shown) {
  part("form").elements.password.type = shown ? "text" : "password";
  button("reveal").textContent = shown ? say("Hide") : say("Show");
  button("reveal").setAttribute("aria-label", shown ? say("Hide the password") : say("Show the password"));
}

/* ---- keys, clipboard, screen ---- */

const back = () => connection?.rfb.focus({ preventScroll: true });
const toolbar = new Toolbar(part("bar"), desk, back);
const view = new Screen(desk);

const sticky = new Sticky((name, down) => {
  const { keysym, code } = MODIFIERS[name];
  connection.rfb.sendKey(keysym, code, down);
});

const keyboard = new TouchKeyboard(part("typing"), {
  send: (keysym, code, down) => connection?.rfb.sendKey(keysym, code, down),
  typed: spendSticky,
  changed(shown) {
    button("keyboard").setAttribute("aria-pressed", String(shown));
    if (connection) connection.rfb.focusOnClick = !shown;
    view.keyboard(shown);
  },
});

const clipboard = new Clipboard(
  { text: document.getElementById("clip"), note: part("clip-note"), allow: button("clip-allow") },
  (text) => {
    if (session.phase !== "connected" || connection.rfb.viewOnly) return false;
    connection.rfb.clipboardPasteFrom(text);
    return true;
  },
);

function wire(rfb) {
  view.show(rfb);
  rfb.viewOnly = seat === "view" || button("view").getAttribute("aria-pressed") === "true";
  rfb.addEventListener("clipboard", ({ detail }) => clipboard.received(detail.text));
  picture = screenArea.querySelector("canvas");
  picture.tabIndex = 0;
  picture.addEventListener("blur", letGo);
}

/* Keys held while the desktop loses the keyboard would stay down there; noVNC lets go of them when the window does. */
function letGo() { window.dispatchEvent(new Event("blur")); }

function spendSticky() {
  if (sticky.used()) showSticky();
}

function showSticky() {
  for (const each of desk.querySelectorAll("[data-modifier]")) {
    const state = sticky.state[each.dataset.modifier];
    each.dataset.state = state;
    each.setAttribute("aria-pressed", String(state !== "off"));
  }
}

function setViewOnly(on) {
  if (on) {
    sticky.release();
    showSticky();
    letGo();
  }
  connection.rfb.viewOnly = on;
  button("view").setAttribute("aria-pressed", String(on));
  part("view-mark").hidden = !on; // seen when the toolbar is folded: or who wonders why nothing can be typed?
  if (!on) back();
}

/* ---- what people do ---- */

const ACTIONS = {
  reveal: () => reveal(part("form").elements.password.type === "password"),
  retry: () => dispatch({ type: session.phase === "asking" ? "submit" : "retry" }),
  leave: () => dispatch({ type: "leave" }),
  start: () => ask("start"),
  stay: () => ask("stay"),
  full: () => view.full(),
  keyboard: () => keyboard.toggle(),
  view: () => setViewOnly(!connection.rfb.viewOnly),
  drag: () => view.drag(),
  "ctrl-alt-del": () => connection.rfb.sendCtrlAltDel(),
  "clip-send": () => clipboard.sendText(),
  "clip-copy": () => clipboard.copyText(),
  "clip-allow": () => clipboard.allow(),
};

for (const each of desk.querySelectorAll("[data-do]")) {
  const act = ACTIONS[each.dataset.do];
  if (act) each.addEventListener("click", act);
}

for (const each of desk.querySelectorAll("[data-modifier]")) {
  each.addEventListener("click", () => {
    if (connection.rfb.viewOnly) return;
    sticky.press(each.dataset.modifier);
    showSticky();
  });
}

for (const each of desk.querySelectorAll("[data-key]")) {
  each.addEventListener("click", () => {
    connection.rfb.sendKey(...KEYS[each.dataset.key]);
    spendSticky();
  });
}

part("form").addEventListener("submit", (event) => {
  event.preventDefault();
  password = part("form").elements.password.value;
  dispatch({ type: "submit" });
});

screenArea.addEventListener("keyup", ({ code }) => {
  if (!/^(Control|Alt|Shift|Meta|OS)(Left|Right)?$/.test(code)) spendSticky();
}, true);

window.addEventListener("online", () => dispatch({ type: "wake" }));
window.addEventListener("focus", () => clipboard.focused());
document.addEventListener("visibilitychange", () => {
  tick();
  if (!document.hidden) dispatch({ type: "wake" });
});
setInterval(() => {
  if (unlisted) return;
  const isAsking = ["asking", "room"].includes(session.phase);
  if (gate.isLauncher && !visited) visit();
  else if (gate.isLauncher ? isAsking || !gate.isLive : isAsking && !document.hidden) gate.look();
}, LOOK_EVERY);
setInterval(tick, 1000);

if (seat === "control" && desk.dataset.shares) new Share(document.getElementById("panel-share"), desk.dataset);
clipboard.prepare();
render(null);
if (gate.isLauncher) visit();
else gate.look();
