/* What a person is told of a desktop that the gate starts: the waiting room, and the warning before its end. Pure.

   A desktop is what the gate's API tells of it: {state, headline, reason, starts, ends, idle_end, offer, comes}. Times are
   seconds since the epoch. `steady` leaves out what changes by the minute, as it would be read aloud again each time. */

import { locale, say } from "./words.js";

const ROOM = {
  REQUESTED: { tab: say("Waiting"), tone: "" },
  PENDING: { tab: say("In the queue"), tone: "" },
  STARTING: { tab: say("Starting"), tone: "" },
  STOPPING: { tab: say("Being ended"), tone: "" },
  STOPPED: { tab: say("Stopped"), tone: "note" },
  FAILED: { tab: say("Failed"), tone: "bad" },
};

/* Whether there is a desktop that has to be waited for. */
export function isAway(desktop) {
  return Boolean(desktop) && desktop.state !== "RUNNING";
}

/* Whether waiting alone does not bring the desktop: somebody has it started first, and a password is of no use before. */
export function isOutOfReach(desktop) {
  return isAway(desktop) && !desktop.comes;
}

/* {headline, detail, tone, tab} for a desktop that is away. */
export function room(desktop, now, steady = false) {
  const { tab, tone } = ROOM[desktop.state] ?? ROOM.STOPPED;
  return {
    headline: desktop.headline, detail: sentences(desktop.reason, expected(desktop, now, steady)),
    tone: desktop.comes ? "coming" : tone, tab,
  };
}

/* "expected to start at 14:20 (in about 5 minutes)"; empty where nobody knows. */
export function expected({ starts }, now, steady = false) {
  if (starts === null || starts === undefined) return "";
  const relative = steady ? "" : inAbout(starts - now);
  const when = at(starts, now);
  const text = when.day ? say("expected to start on {day} at {time}", when) : say("expected to start at {time}", when);
  return relative ? `${text} (${relative})` : text;
}

/* What stands on the desktop before it ends by itself: {text, left, at, stays}; null where nothing is to be said. `stays`
   says that a person can have it go on. */
export function warning(desktop, now) {
  if (!desktop || isAway(desktop)) return null;
  const { idle_end: idle, ends } = desktop;
  const times = [idle, ends].filter((time) => time !== null && time !== undefined);
  if (times.length === 0) return null;
  const end = Math.min(...times);
  const stays = end === idle;
  return { text: stays ? idleEnd(at(end, now)) : lastEnd(at(end, now)), left: left(end - now), at: end, stays };
}

function idleEnd(when) {
  if (when.day) return say("Your desktop will be ended on {day} at {time} because nobody has used it", when);
  return say("Your desktop will be ended at {time} because nobody has used it", when);
}

function lastEnd(when) {
  if (when.day) return say("Your desktop’s time is up on {day} at {time}: save your work", when);
  return say("Your desktop’s time is up at {time}: save your work", when);
}

/* Texts as sentences, one after the other. */
export function sentences(...texts) {
  return texts.filter(Boolean).map((text) => {
    const head = text[0].toUpperCase() + text.slice(1);
    return /[.!?…]$/.test(head) ? head : `${head}.`;
  }).join(" ");
}

/* {time: "14:20"}, with the day where it is another than today. */
function at(seconds, now) {
  const date = new Date(seconds * 1000);
  const time = [date.getHours(), date.getMinutes()].map((part) => String(part).padStart(2, "0")).join(":");
  if (date.toDateString() === new Date(now * 1000).toDateString()) return { time };
  return { time, day: date.toLocaleDateString(locale(), { weekday: "long", day: "numeric", month: "long" }) };
}

function inAbout(seconds) {
  if (seconds <= 0) return say("any moment");
  const minutes = Math.ceil(seconds / 60);
  if (minutes === 1) return say("in about a minute");
  if (minutes < 90) return say("in about {minutes} minutes", { minutes });
  return minutes < 36 * 60 ? say("in about {hours} hours", { hours: Math.round(minutes / 60) }) : "";
}

/* "in 4:59", "in 1:02:03", "now". */
function left(seconds) {
  const whole = Math.ceil(seconds);
  if (whole <= 0) return say("now");
  const [hours, minutes, rest] = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  const two = (part) => String(part).padStart(2, "0");
  return say("in {time}", { time: hours ? `${hours}:${two(minutes)}:${two(rest)}` : `${minutes}:${two(rest)}` });
}
