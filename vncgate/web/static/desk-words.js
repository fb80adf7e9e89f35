/* What the page says in each phase of a session. Pure: a session in, plain words out. */

import { isAway, room, sentences } from "./desk-room.js";

const WAITING = {
  lost: "Connection lost",
  moment: "One moment…",
  offline: "The desktop is offline",
  silent: "The desktop does not answer",
  restarting: "One moment, this desktop is being restarted",
  unreachable: "The workshop’s gate cannot be reached",
  barred: "The way to the desktop is barred",
  "no network": "This computer is offline",
  locked: "The desktop refuses all logins for a while",
  refused: "The desktop refused the connection",
};

const WHY_WAITING = {
  barred: "The gate answers, but not to the viewer: a proxy or firewall on the way may not let websockets through.",
  locked: "There were too many wrong passwords. Your own may well be right; nothing needs to be done but to wait.",
  "no network": "It goes on by itself as soon as the network is back.",
};

const ASKING = {
  wrong: "That password was not accepted. Please type it again.",
  changed: "The desktop does not accept this password any more. It may have been changed; please type the new one.",
  cut: "The connection ended while the desktop looked at the password. Please try again.",
  locked: "The desktop refuses all logins for a while, after too many wrong passwords. Please wait a minute.",
  left: "You are disconnected. Your desktop goes on running.",
};

const ENDED = {
  stopped: "This desktop was closed by the organizers",
  removed: "This desktop is no longer part of the workshop",
  nowhere: "This desktop cannot be reached from this address; please use the one that the organizers gave you",
};

const TRIES_HINT = "After five wrong passwords in a row the desktop refuses everybody for a while.";

const OPENS = "It opens by itself as soon as it is there.";
const TYPE_NOW = "You can type your password now: it then opens by itself.";
const OUT_OF_DATE = "The gate does not answer at the moment, so this may be out of date.";

/* {headline, detail, tone, tab} for a session at `now`; see desk-room.js for that and for `steady`.
   tone: "" | "good" | "busy" | "coming" | "bad" | "note"; `tab` is short enough for the tab's title. Reasons come from the
   gate and the desktop: show them as text, never as HTML. */
export function words(session, now, steady = false) {
  const { phase, why } = session;
  switch (phase) {
    case "asking": return isAway(session.desktop) ? waiting(session, now, steady) : asking(session);
    case "room": return waiting(session, now, steady);
    case "connecting":
      return { headline: session.opened ? "Opening the desktop…" : "Connecting…", detail: "", tone: "busy", tab: "Connecting" };
    case "connected": return { headline: "Connected", detail: "", tone: "good", tab: "Connected" };
    case "waiting":
      return {
        headline: WAITING[why.kind], detail: sentences(WHY_WAITING[why.kind], why.reason), tone: "busy",
        tab: why.kind === "lost" ? "Connection lost" : "Waiting",
      };
    default: return { headline: ENDED[why.kind], detail: sentences(why.reason), tone: "bad", tab: "Stopped" };
  }
}

/* The waiting room, with the password typed already or not. */
function waiting({ phase, desktop, silent }, now, steady) {
  const said = room(desktop, now, steady);
  const next = said.tone !== "coming" ? "" : phase === "room" ? OPENS : TYPE_NOW;
  return { ...said, detail: [said.detail, silent ? OUT_OF_DATE : next].filter(Boolean).join(" ") };
}

function asking({ why, wrong }) {
  if (!why) return { headline: "", detail: "", tone: "", tab: "Log in" };
  const detail = why.kind === "cut" ? sentences(why.reason) : why.kind === "wrong" && wrong > 1 ? TRIES_HINT : "";
  return {
    headline: ASKING[why.kind], detail, tone: why.kind === "left" ? "note" : "bad",
    tab: why.kind === "left" ? "Disconnected" : "Log in",
  };
}

/* What the gate says about a desktop nobody has connected to yet: {text, tone}; null where it says nothing. */
export function readiness(status) {
  const state = status?.state;
  if (!state || state === "checking" || isAway(status.desktop)) return null;
  if (state === "ready") return { text: "Ready", tone: "good" };
  if (state === "in use") return { text: "In use; you will share the screen", tone: "good" };
  const head = state[0].toUpperCase() + state.slice(1);
  return { text: status.reason ? `${head}: ${status.reason}` : head, tone: "bad" };
}

/* "trying again in 5 s", from whole seconds. */
export function countdown(seconds) {
  return seconds > 0 ? `Trying again in ${seconds} s` : "Trying again now";
}
