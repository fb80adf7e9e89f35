/* What the page says in each phase of a session. Pure: a session in, plain words out. */

import { known } from "./desk-reasons.js";
import { isAway, room, sentences } from "./desk-room.js";
import { say } from "./words.js";

const WAITING = {
  lost: say("Connection lost"),
  moment: say("One moment…"),
  offline: say("The desktop is offline"),
  silent: say("The desktop does not answer"),
  restarting: say("One moment, this desktop is being restarted"),
  unreachable: say("The workshop’s gate cannot be reached"),
  barred: say("The way to the desktop is barred"),
  "no network": say("This computer is offline"),
  locked: say("The desktop refuses all logins for a while"),
  refused: say("The desktop refused the connection"),
};

const WHY_WAITING = {
  barred: say("The gate answers, but not to the viewer: a proxy or firewall on the way may not let websockets through."),
  locked: say("There were too many wrong passwords. Your own may well be right; nothing needs to be done but to wait."),
  "no network": say("It goes on by itself as soon as the network is back."),
};

const ASKING = {
  wrong: say("That password was not accepted. Please type it again."),
  changed: say("The desktop does not accept this password any more. It may have been changed; please type the new one."),
  cut: say("The connection ended while the desktop looked at the password. Please try again."),
  locked: say("The desktop refuses all logins for a while, after too many wrong passwords. Please wait a minute."),
  left: say("You are disconnected. Your desktop goes on running."),
};

const ENDED = {
  stopped: say("This desktop was closed by the organizers"),
  "signed out": say("You are signed out here. Your desktop goes on running"),
  removed: say("This desktop is no longer part of the workshop"),
  nowhere: say("This desktop cannot be reached from this address; please use the one that the organizers gave you"),
};

const TRIES_HINT = say("After five wrong passwords in a row the desktop refuses everybody for a while.");

const OPENS = say("It opens by itself as soon as it is there.");
const TYPE_NOW = say("You can type your password now: it then opens by itself.");
const OUT_OF_DATE = say("The gate does not answer at the moment, so this may be out of date.");

/* {headline, detail, tone, tab} for a session at `now`; see desk-room.js for that and for `steady`.
   tone: "" | "good" | "busy" | "coming" | "bad" | "note"; `tab` is short enough for the tab's title. Reasons come from the
   gate and the desktop: show them as text, never as HTML. */
export function words(session, now, steady = false) {
  const { phase, why } = session;
  switch (phase) {
    case "asking": return isAway(session.desktop) ? waiting(session, now, steady) : asking(session);
    case "room": return waiting(session, now, steady);
    case "connecting":
      return { headline: session.opened ? say("Opening the desktop…") : say("Connecting…"), detail: "", tone: "busy", tab: say("Connecting") };
    case "connected": return { headline: say("Connected"), detail: "", tone: "good", tab: say("Connected") };
    case "waiting":
      return {
        headline: WAITING[why.kind], detail: sentences(WHY_WAITING[why.kind], known(why.reason)), tone: "busy",
        tab: why.kind === "lost" ? say("Connection lost") : say("Waiting"),
      };
    default: return { headline: ENDED[why.kind], detail: sentences(known(why.reason)), tone: "bad", tab: say("Stopped") };
  }
}

/* The waiting room, with the password typed already or not. */
function waiting({ phase, desktop, silent, seated }, now, steady) {
  const said = room(desktop, now, steady);
  const next = said.tone !== "coming" ? "" : phase === "room" || seated ? OPENS : TYPE_NOW;
  return { ...said, detail: [said.detail, silent ? OUT_OF_DATE : next].filter(Boolean).join(" ") };
}

function asking({ why, wrong, seated }) {
  if (!why && seated) return { headline: say("One moment…"), detail: "", tone: "busy", tab: say("Connecting") };
  if (!why) return { headline: "", detail: "", tone: "", tab: say("Log in") };
  const detail = why.kind === "cut" ? sentences(known(why.reason)) : why.kind === "wrong" && wrong > 1 ? TRIES_HINT : "";
  return {
    headline: ASKING[why.kind], detail, tone: why.kind === "left" ? "note" : "bad",
    tab: why.kind === "left" ? say("Disconnected") : say("Log in"),
  };
}

/* What the gate says about a desktop nobody has connected to yet: {text, tone}; null where it says nothing. */
export function readiness(status) {
  const state = status?.state;
  if (!state || state === "checking" || isAway(status.desktop)) return null;
  if (state === "ready") return { text: say("Ready"), tone: "good" };
  if (state === "in use") return { text: say("In use; you will share the screen"), tone: "good" };
  const head = status.label[0].toUpperCase() + status.label.slice(1);
  return { text: status.reason ? `${head}: ${status.reason}` : head, tone: "bad" };
}

/* "trying again in 5 s", from whole seconds. */
export function countdown(seconds) {
  return seconds > 0 ? say("Trying again in {seconds} s", { seconds }) : say("Trying again now");
}
