/* The viewer's session with one desktop: phases, events, one table and one step(). Pure; time and chance are passed in.

   asking      the form is shown, nothing is connected
   room        the password is there, the desktop is not: the gate starts it, or does not
   connecting  a connection is under way
   connected   the desktop is on the screen
   waiting     a connection failed or was lost; the next is tried at `due`
   ended       the organizers ended it; nothing is tried until a person asks

   The rule above all others: a password that was not accepted, or of which nobody knows whether it was, is never sent
   a second time without a person. VNC servers lock everybody out after five failures, a whole class behind one gate.

   An event that the table does not know in a phase throws IllegalEvent and changes nothing. */

import { isAway } from "./desk-room.js";

export const DELAYS = [1, 2, 5, 10, 20, 30];
/* Seconds before the first, second, ... further try; the last one stays. */
export const JITTER = 0.3;
/* A wait is lengthened by up to this part of itself, so that a class does not come back in step. */
export const LOCKED_DELAY = 30;
/* Seconds to wait at least while the desktop refuses everybody after too many wrong passwords. */
export const CONNECT_LIMIT = 20;
/* Seconds until a connection that is still under way is given up. */
export const STEADY = 10;
/* Seconds of a working connection that forgive all failures before it. */

const POLICY = 1008; /* RFC 6455, section 7.4.1: the gate says so of an account that was stopped or removed */
const EXPLAINED = ["offline", "barred"]; /* what only the gate can tell of a websocket that did not open */
const RESTARTING = [1001, 1012]; /* going away; service restart (IANA WebSocket close code registry) */

export class IllegalEvent extends Error {
  constructor(phase, type) {
    super(`${type} cannot happen while ${phase}`);
    this.name = "IllegalEvent";
  }
}

/* A session at its beginning. Times are seconds on the clock that step() is given.

   why      {kind, reason}: what the words are about, or null
   since    when it came into its phase
   due      when {type: "due"} is wanted, or null
   failures tries in a row that failed
   opened   the gate answered in this connection
   sent     the password was sent in this connection
   proved   the password was accepted once
   wrong    passwords in a row that were not accepted
   listed   the gate knew this account when it was asked
   desktop  what the gate said last of a desktop that it starts (see desk-room.js), or null
   silent   the gate did not answer when it was asked last
   seated   a person has signed in at the gate, which logs in to the desktop: there is no password here

   `reachable` is false where the page has no address to connect to; then the session has ended before it began. */
export function begin(now = 0, reachable = true, seated = false) {
  return {
    phase: reachable ? "asking" : "ended", why: reachable ? null : { kind: "nowhere", reason: "" },
    since: now, due: null, failures: 0, opened: false, sent: false, proved: false, wrong: 0, listed: false,
    desktop: null, silent: false, seated,
  };
}

/* {session, effects} after `event`; `chance` is a random number in [0, 1).

   Events:   submit  opened  asked  connected  refused{reason}  closed{code, reason, online}  due  wake  retry  leave
             looked{status}  (status: the gate's {state, reason, desktop}; "unlisted"; "signed out"; or null where nobody
             answered)
   Effects:  connect  hangup  forget (the password)  look (ask the gate about the account, then `looked`)
             start (have the gate start the desktop, then `looked`) */
export function step(session, event, now, chance) {
  const handle = TABLE[session.phase]?.[event.type];
  if (!handle) throw new IllegalEvent(session.phase, event.type);
  const [changes, ...effects] = isSignedOut(session, event) ? out(session) : handle(session, event, now, chance);
  const after = { ...session, ...changes };
  if (after.phase !== session.phase) after.since = now;
  return { session: after, effects };
}

const TABLE = {
  asking: {
    submit: (session, event, now) => (isAway(session.desktop)
      ? [{ ...ROOM, proved: false }, session.desktop.offer ? "start" : "look"]
      : connect({ ...session, failures: 0, proved: false }, now)),
    wake: () => [{}, "look"],
    looked: heard,
  },
  room: {
    looked: awaited,
    wake: () => [{}, "look"],
    leave: () => [ask(null), "forget"],
  },
  connecting: {
    opened: () => [{ opened: true }],
    asked: () => [{ sent: true }],
    connected: () => [{ phase: "connected", why: null, due: null, proved: true, wrong: 0 }],
    refused,
    closed: failed,
    due: (session, event, now, chance) => {
      const [changes, ...effects] = failed(session, { code: 0, reason: "", online: true }, now, chance);
      return [changes, "hangup", ...effects];
    },
    leave: () => [ask(null), "hangup", "forget"],
    wake: () => [{}],
    looked: heard,
  },
  connected: {
    closed: lost,
    leave: () => [ask("left"), "hangup", "forget"],
    wake: () => [{}],
    looked: heard,
  },
  waiting: {
    due: (session, event, now) => connect(session, now),
    retry: (session, event, now) => connect(session, now),
    wake: (session, event, now) => (session.why.kind === "locked" ? [{}] : connect(session, now)),
    leave: () => [ask(null), "forget"],
    looked: explained,
  },
  ended: {
    retry: (session, event, now) => connect({ ...session, failures: 0 }, now),
    leave: () => [ask(null), "forget"],
    wake: () => [{}],
    looked: (session, event) => {
      const [changes] = heard(session, event);
      return [session.why.kind === "stopped" && isAway(changes.desktop) ? { ...changes, ...ROOM } : changes];
    },
  },
};

/* Who is signed out is told so whatever they wait for; what is on the screen is ended by the gate itself. */
function isSignedOut(session, { type, status }) {
  return type === "looked" && status === "signed out" && session.phase !== "connected";
}

function out(session) {
  const ended = end("signed out", "");
  return session.phase === "connecting" ? [...ended, "hangup"] : ended;
}

const ROOM = { phase: "room", why: null, due: null, failures: 0 };

function connect(session, now) {
  return [
    {
      phase: "connecting", failures: session.failures, proved: session.proved, opened: false, sent: false,
      due: now + CONNECT_LIMIT,
    },
    "connect",
  ];
}

function ask(kind, reason = "") {
  return { phase: "asking", why: kind && { kind, reason }, due: null };
}

function end(kind, reason) {
  return [{ phase: "ended", why: { kind, reason }, due: null }];
}

/* The organizers ended it, or a person was signed out, elsewhere perhaps: the gate knows which. */
function stopped(session, reason) {
  return session.seated ? [...end("stopped", reason), "look"] : end("stopped", reason);
}

function wait(session, kind, reason, now, chance, atLeast = 0) {
  const base = Math.max(atLeast, DELAYS[Math.min(session.failures, DELAYS.length - 1)]);
  return {
    phase: "waiting", why: { kind, reason }, failures: session.failures + 1, due: now + base * (1 + JITTER * chance),
  };
}

/* The desktop itself refused: the password, or everybody. */
function refused(session, { reason }, now, chance) {
  const locked = /too many/i.test(reason);
  if (session.sent) {
    const kind = locked ? "locked" : session.proved ? "changed" : "wrong";
    return [{ ...ask(kind, reason), wrong: session.wrong + 1, proved: false }, "hangup", "forget"];
  }
  if (locked) return [wait(session, "locked", reason, now, chance, LOCKED_DELAY), "hangup"];
  return [wait(session, "refused", reason, now, chance), "hangup"];
}

/* The connection ended before the desktop was on the screen. Code 0: nothing was heard within CONNECT_LIMIT. */
function failed(session, { code, reason, online }, now, chance) {
  if (session.sent && !session.proved && code !== POLICY) return [ask("cut", told(session, reason))];
  if (isAway(session.desktop)) return [ROOM];
  if (code === POLICY) return stopped(session, reason);
  if (session.opened) {
    const kind = code === 0 ? "silent" : gone(session, code, "offline");
    return [wait(session, kind, told(session, reason), now, chance)];
  }
  if (!online) return [wait(session, "no network", "", now, chance)];
  // What the gate said last time stands until it is asked again.
  const why = EXPLAINED.includes(session.why?.kind) ? session.why : { kind: "unreachable", reason: "" };
  return [wait(session, why.kind, why.reason, now, chance), "look"];
}

/* The desktop was on the screen, and the connection ended. */
function lost(session, { code, reason }, now, chance) {
  if (isAway(session.desktop)) return [ROOM];
  if (code === POLICY) return stopped(session, reason);
  const failures = now - session.since >= STEADY ? 0 : session.failures;
  const changes = wait({ ...session, failures }, gone(session, code, "lost"), told(session, reason), now, chance);
  return session.desktop ? [changes, "look"] : [changes];
}

/* Of a desktop that it starts itself the gate tells what became of it when it is asked, and in better words: a connection
   ends in the same way whether it was ended for good or is elsewhere now, and its reason names hosts and paths. */
function gone(session, code, otherwise) {
  return !RESTARTING.includes(code) ? otherwise : session.desktop ? "moment" : "restarting";
}

function told(session, reason) { return session.desktop ? "" : reason; }

function heard(session, { status }) {
  if (!isStatus(status)) return [{ silent: status === null }];
  return [{ listed: true, silent: false, desktop: status.desktop ?? null }];
}

/* The desktop is waited for: it is opened as soon as it is there. */
function awaited(session, event, now) {
  if (event.status === "unlisted" && session.listed) return end("removed", "");
  const [changes] = heard(session, event);
  const after = { ...session, ...changes };
  if (isAway(after.desktop)) return [changes];
  const [connecting, ...effects] = connect(after, now);
  return [{ ...changes, ...connecting }, ...effects];
}

/* What the gate says of the account tells a desktop that is off from a gate that is, and from a way that is barred. */
function explained(session, { status }) {
  const [changes] = heard(session, { status });
  if (isAway(changes.desktop)) return [{ ...changes, ...ROOM }];
  if (session.opened || session.why.kind === "no network") return [changes];
  if (status === null) return [{ ...changes, why: { kind: "unreachable", reason: "" } }];
  if (status === "unlisted") return session.listed ? end("removed", "") : [changes];
  const usable = status.state === "ready" || status.state === "in use";
  return [{ ...changes, why: usable ? { kind: "barred", reason: "" } : { kind: "offline", reason: status.reason ?? "" } }];
}

function isStatus(status) {
  return status !== null && status !== "unlisted" && status !== "signed out";
}
