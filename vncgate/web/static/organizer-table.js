/* The organizer's table of seats: what its cells say, what a filter keeps, how it is sorted. Pure. */

import { say } from "./words.js";

const TROUBLES = ["offline", "needs attention", "failed", "trying again"];

/* "just now", "3 min ago": what is told of a moment, both in seconds. */
export function ago(then, now) {
  const seconds = Math.max(0, now - then);
  if (seconds < 60) return say("just now");
  if (seconds < 3600) return say("{minutes} min ago", { minutes: Math.floor(seconds / 60) });
  if (seconds < 86400) return say("{hours} h ago", { hours: Math.floor(seconds / 3600) });
  return say("{days} d ago", { days: Math.floor(seconds / 86400) });
}

/* "1.2 MB", in German "1,2 MB". */
export function bytes(count, locale) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let size = count;
  while (size >= 1000 && units.length > 1) {
    size /= 1000;
    units.shift();
  }
  const digits = units[0] !== "B" && size < 100 ? 1 : 0;
  const number = size.toLocaleString(locale, { minimumFractionDigits: digits, maximumFractionDigits: digits });
  return `${number} ${units[0]}`;
}

/* A seat's end as a clock shows it: the time alone where it is today. */
export function until(iso, now, locale) {
  if (!iso) return "";
  const when = new Date(iso);
  const isToday = when.toDateString() === new Date(now * 1000).toDateString();
  const day = isToday ? {} : { weekday: "short", day: "numeric", month: "short" };
  return when.toLocaleString(locale, { ...day, hour: "2-digit", minute: "2-digit" });
}

export function quality(seat) {
  const words = { good: say("good"), fair: say("fair"), poor: say("poor") };
  return words[seat.quality] ?? "";
}

/* What stands in each column, by its name. */
export function cells(seat, now, locale) {
  return {
    account: seat.account,
    person: seat.name,
    email: seat.email,
    mark: mark(seat),
    state: seat.label,
    reason: seat.reason,
    used: seat.used === null ? "" : ago(seat.used, now),
    quality: quality(seat),
    connection: connection(seat, locale),
    until: until(seat.until, now, locale),
  };
}

function mark(seat) {
  if (seat.desktop) return say("shows {account}", { account: seat.desktop });
  if (seat.shown_by.length) return say("shown by {accounts}", { accounts: seat.shown_by.join(", ") });
  return seat.spare ? say("spare") : "";
}

function connection(seat, locale) {
  const delay = seat.delay === null ? "" : `${Math.round(seat.delay * 1000)} ms`;
  const sent = seat.bytes_down ? say("{amount} sent to the browser", { amount: bytes(seat.bytes_down, locale) }) : "";
  return [delay, sent].filter(Boolean).join(" · ");
}

const KEEPS = {
  all: () => true,
  taken: (seat) => seat.person !== "",
  free: (seat) => seat.person === "" && !seat.spare && !seat.shown_by.length,
  spare: (seat) => seat.spare,
  used: (seat) => seat.connections > 0,
  trouble: (seat) => TROUBLES.includes(seat.state) || seat.quality === "poor",
};

const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

/* Whether a seat stays under a filter: all of the words are somewhere in it, and it is one of `group`. */
export function keeps(seat, text, group) {
  const words = plain(text).split(/\s+/).filter(Boolean);
  const said = plain(`${seat.account} ${seat.title} ${seat.name} ${seat.email} ${seat.label} ${seat.reason}`);
  return KEEPS[group](seat) && words.every((word) => said.includes(word));
}

const natural = new Intl.Collator(undefined, { numeric: true });
const QUALITIES = ["", "good", "fair", "poor"];

const ORDERS = {
  account: (a, b) => natural.compare(a.account, b.account),
  person: (a, b) => last(a.name === "", b.name === "") || natural.compare(a.name, b.name),
  state: (a, b) => natural.compare(a.label, b.label),
  used: (a, b) => last(a.used === null, b.used === null) || b.used - a.used,
  connection: (a, b) => QUALITIES.indexOf(b.quality) - QUALITIES.indexOf(a.quality) || (b.delay ?? 0) - (a.delay ?? 0),
  until: (a, b) => last(!a.until, !b.until) || natural.compare(a.until, b.until),
};

const last = (a, b) => Number(a) - Number(b);

/* The seats in the order of a column; `down` turns it round, and equals stay in the token file's order. */
export function sorted(seats, column, down) {
  if (!column) return [...seats];
  const sign = down ? -1 : 1;
  return [...seats].sort((a, b) => sign * ORDERS[column](a, b));
}

/* Everything after a `change` of the stream, which has only what is new of a seat: a map by account, in the token file's
   order as far as it is known. */
export function changed(seats, { changed: news, removed }) {
  const after = new Map(seats);
  for (const account of removed) after.delete(account);
  for (const seat of news) after.set(seat.account, { ...after.get(seat.account), ...seat });
  return after;
}
