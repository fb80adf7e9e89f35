import assert from "node:assert/strict";
import { test } from "node:test";

import {
  CONNECT_LIMIT, DELAYS, IllegalEvent, JITTER, LOCKED_DELAY, STEADY, begin, step,
} from "../../vncgate/web/static/desk-session.js";
import { words } from "../../vncgate/web/static/desk-words.js";

const SUBMIT = { type: "submit" };
const OPENED = { type: "opened" };
const ASKED = { type: "asked" };
const CONNECTED = { type: "connected" };
const DUE = { type: "due" };
const WAKE = { type: "wake" };
const RETRY = { type: "retry" };
const LEAVE = { type: "leave" };
const closed = (code = 1006, reason = "", online = true) => ({ type: "closed", code, reason, online });
const refused = (reason) => ({ type: "refused", reason });
const looked = (status) => ({ type: "looked", status });
const started = (state, more) =>
  looked({ state: "x", reason: "", desktop: { state, headline: `It is ${state}`, offer: "", ...more } });
const WRONG = refused("Authentication failed");
const LOCKED = refused("Too many security failures");
const EVENTS = [
  SUBMIT, OPENED, ASKED, CONNECTED, WRONG, closed(), DUE, WAKE, RETRY, LEAVE, looked(null),
];

/* The session after `events` (a number lets so many seconds pass), and the effects of the last one. */
function play(...events) {
  let [now, state] = [0, { session: begin(), effects: [] }];
  for (const event of events) {
    if (typeof event === "number") now += event;
    else state = step(state.session, event, now, 0);
  }
  return { ...state, now };
}

const ON = [SUBMIT, OPENED, ASKED, CONNECTED];
const PHASES = {
  asking: [],
  room: [started("PENDING"), SUBMIT],
  connecting: [SUBMIT],
  connected: ON,
  waiting: [...ON, closed()],
  ended: [...ON, closed(1008, "stopped by an operator")],
};

test("the way in", () => {
  assert.deepEqual(play(SUBMIT).effects, ["connect"]);
  const { session, effects } = play(...ON);
  assert.equal(session.phase, "connected");
  assert.equal(session.due, null);
  assert.deepEqual(effects, []);
});

test("an event that cannot happen throws and changes nothing", () => {
  const legal = {
    asking: ["submit", "wake", "looked"],
    room: ["looked", "wake", "leave"],
    connecting: ["opened", "asked", "connected", "refused", "closed", "due", "leave", "wake", "looked"],
    connected: ["closed", "leave", "wake", "looked"],
    waiting: ["due", "retry", "wake", "leave", "looked"],
    ended: ["retry", "leave", "wake", "looked"],
  };
  for (const [phase, events] of Object.entries(PHASES)) {
    const { session } = play(...events);
    assert.equal(session.phase, phase);
    for (const event of EVENTS) {
      const before = structuredClone(session);
      if (legal[phase].includes(event.type)) step(session, event, 1, 0.5);
      else assert.throws(() => step(session, event, 1, 0.5), IllegalEvent, `${event.type} in ${phase}`);
      assert.deepEqual(session, before);
    }
  }
});

test("every phase that can be reached has words, and a timer only where something is waited for", () => {
  const seen = new Map();
  const explore = (session, depth) => {
    const key = JSON.stringify({ ...session, since: 0, due: session.due !== null });
    if (seen.has(key) || depth === 0) return;
    seen.set(key, session);
    const { tab, headline } = words(session, 0);
    assert.ok(tab && typeof headline === "string", key);
    assert.equal(session.due !== null, ["connecting", "waiting"].includes(session.phase), key);
    const more = [closed(1008), closed(1012), closed(1014, "no"), closed(1006, "", false), LOCKED,
      looked("unlisted"), looked({ state: "ready" }), started("FAILED", { offer: "try again" }), started("RUNNING"), looked({ state: "offline", reason: "off" })];
    for (const event of [...EVENTS, ...more]) {
      let next;
      try {
        next = step(session, event, 100, 0);
      } catch (error) {
        assert.ok(error instanceof IllegalEvent);
        continue;
      }
      explore(next.session, depth - 1);
    }
  };
  explore(begin(), 7);
  assert.ok(seen.size > 50);
});

test("a password that was not accepted is asked for again, and never sent again", () => {
  const { session, effects } = play(SUBMIT, OPENED, ASKED, WRONG);
  assert.equal(session.phase, "asking");
  assert.equal(session.due, null);
  assert.deepEqual(effects, ["hangup", "forget"]);
  assert.match(words(session).headline, /not accepted/);
  assert.equal(words(session).detail, "");
  assert.deepEqual(step(session, WAKE, 9, 0).effects, ["look"]);
  const again = play(SUBMIT, OPENED, ASKED, WRONG, SUBMIT, OPENED, ASKED, WRONG).session;
  assert.match(words(again).detail, /five wrong passwords/);
  const right = play(SUBMIT, OPENED, ASKED, WRONG, ...ON, LEAVE, SUBMIT, OPENED, ASKED, WRONG).session;
  assert.equal(right.wrong, 1);
});

test("nobody knows whether a password was right when the connection ends over it: a person decides", () => {
  for (const event of [closed(1014, "desktop node01:5901 hung up"), closed(), DUE]) {
    const { session, effects } = play(SUBMIT, OPENED, ASKED, event);
    assert.equal(session.phase, "asking");
    assert.equal(session.due, null);
    assert.ok(!effects.includes("connect"));
  }
});

test("a password that was accepted before may be sent again after the same", () => {
  const { session } = play(...ON, closed(), DUE, OPENED, ASKED, closed());
  assert.equal(session.phase, "waiting");
  const changed = play(...ON, closed(), DUE, OPENED, ASKED, WRONG).session;
  assert.equal(changed.phase, "asking");
  assert.match(words(changed).headline, /may have been changed/);
  const typed = play(...ON, LEAVE, SUBMIT, OPENED, ASKED, closed()).session;
  assert.equal(typed.phase, "asking", "a password typed anew was never accepted");
});

test("a desktop that refuses everybody is left alone for a while, whoever looks at the page", () => {
  const { session } = play(SUBMIT, OPENED, LOCKED);
  assert.equal(session.phase, "waiting");
  assert.ok(session.due >= LOCKED_DELAY);
  assert.deepEqual(step(session, WAKE, 1, 0).effects, []);
  assert.deepEqual(step(session, RETRY, 1, 0).effects, ["connect"]);
  assert.equal(play(SUBMIT, OPENED, ASKED, LOCKED).session.phase, "asking");
});

test("tries come after 1, 2, 5, 10, 20, 30, 30 seconds, from the first connection on", () => {
  let { session } = play(SUBMIT);
  let now = 0;
  const waits = [];
  for (let i = 0; i < 7; i += 1) {
    ({ session } = step(session, OPENED, now, 0));
    ({ session } = step(session, closed(1014, "desktop node01:5901 refused the connection"), now, 0));
    waits.push(session.due - now);
    now = session.due;
    ({ session } = step(session, DUE, now, 0));
    assert.equal(session.phase, "connecting");
  }
  assert.deepEqual(waits, [...DELAYS, 30]);
});

test("jitter lengthens a wait by its part", () => {
  const { session } = play(SUBMIT);
  assert.equal(step(session, closed(), 0, 0.5).session.due, DELAYS[0] * (1 + JITTER / 2));
});

test("a connection that worked for a while forgives the failures before it, a short one does not", () => {
  const flapping = [...ON, closed(), 1, DUE, OPENED, ASKED, CONNECTED];
  assert.equal(play(...flapping, STEADY, closed()).session.failures, 1);
  assert.equal(play(...flapping, STEADY - 1, closed()).session.failures, 2);
});

test("waiting ends at once when the network or the person is back", () => {
  for (const event of [WAKE, RETRY, DUE]) assert.deepEqual(play(...ON, closed(), event).effects, ["connect"]);
});

test("a gate that restarts is told from a desktop that is off", () => {
  for (const code of [1001, 1012]) {
    assert.equal(play(...ON, closed(code)).session.why.kind, "restarting");
    assert.equal(play(SUBMIT, OPENED, closed(code)).session.why.kind, "restarting");
  }
  const { session } = play(SUBMIT, OPENED, closed(1014, "desktop node01:5901 refused the connection"));
  const { headline, detail } = words(session);
  assert.equal(headline, "The desktop is offline");
  assert.equal(detail, "Desktop node01:5901 refused the connection.");
});

test("an account that the organizers ended is not tried again", () => {
  for (const events of [ON, [SUBMIT, OPENED]]) {
    const { session } = play(...events, closed(1008, "account ws01 was stopped by an operator"));
    assert.equal(session.phase, "ended");
    assert.equal(session.due, null);
    assert.deepEqual(step(session, WAKE, 9, 0).effects, []);
    assert.deepEqual(step(session, RETRY, 9, 0).effects, ["connect"]);
  }
});

test("where nobody answers, the gate is asked what it knows", () => {
  const { session, effects } = play(SUBMIT, closed());
  assert.deepEqual([session.why.kind, effects], ["unreachable", ["look"]]);
  const after = (status, from = session) => step(from, looked(status), 1, 0).session;
  assert.equal(after(null).why.kind, "unreachable");
  assert.deepEqual(after({ state: "offline", reason: "it does not answer" }).why,
    { kind: "offline", reason: "it does not answer" });
  assert.equal(after({ state: "ready", reason: "" }).why.kind, "barred");
  const off = after({ state: "offline", reason: "it does not answer" });
  const again = step(step(off, DUE, 2, 0).session, closed(), 3, 0);
  assert.deepEqual([again.session.why, again.effects], [off.why, ["look"]], "what was said stands until it is asked again");
  assert.equal(after(null, again.session).why.kind, "unreachable");
  assert.equal(after({ state: "checking", reason: "it is being started" }).why.kind, "offline");
  assert.equal(after("unlisted").phase, "waiting", "a static page knows no gate that could be asked");
  assert.equal(after("unlisted", { ...session, listed: true }).phase, "ended");
  assert.equal(play(SUBMIT, closed(1006, "", false)).session.why.kind, "no network");
});

test("a connection that hears nothing is given up", () => {
  assert.equal(play(SUBMIT).session.due, CONNECT_LIMIT);
  const { session, effects } = play(SUBMIT, OPENED, CONNECT_LIMIT, DUE);
  assert.equal(session.why.kind, "silent");
  assert.deepEqual(effects, ["hangup"]);
  assert.deepEqual(play(SUBMIT, CONNECT_LIMIT, DUE).effects, ["hangup", "look"]);
});

test("who leaves is asked for the password again", () => {
  const { session, effects } = play(...ON, LEAVE);
  assert.equal(session.phase, "asking");
  assert.deepEqual(effects, ["hangup", "forget"]);
  assert.deepEqual(play(SUBMIT, LEAVE).effects, ["hangup", "forget"]);
});

test("a page that has no address to connect to says so", () => {
  assert.match(words(begin(0, false)).headline, /cannot be reached/);
});

test("a desktop that is not there is waited for, and opened as soon as it is there", () => {
  const { session, effects } = play(started("PENDING"), SUBMIT);
  assert.deepEqual([session.phase, session.due, effects], ["room", null, ["look"]]);
  for (const state of ["STARTING", "FAILED", "STOPPED", "STOPPING", "REQUESTED"]) {
    assert.deepEqual(step(session, started(state), 1, 0).effects, []);
  }
  assert.equal(step(session, looked(null), 1, 0).session.phase, "room", "a silent gate ends nothing");
  assert.deepEqual(step(session, WAKE, 1, 0).effects, ["look"]);
  const there = step(session, started("RUNNING"), 1, 0);
  assert.deepEqual([there.session.phase, there.session.due, there.effects], ["connecting", 1 + CONNECT_LIMIT, ["connect"]]);
  assert.deepEqual(step(session, looked({ state: "ready" }), 1, 0).effects, ["connect"], "its server is another's now");
});

test("who connects to a desktop that may be started has it started", () => {
  assert.deepEqual(play(started("STOPPED", { offer: "start" }), SUBMIT).effects, ["start"]);
  assert.deepEqual(play(started("STOPPED"), SUBMIT).effects, ["look"]);
});

test("who waits may leave, and an account that is gone is waited for no more", () => {
  const room = [started("PENDING"), SUBMIT];
  const left = play(...room, LEAVE);
  assert.deepEqual([left.session.phase, left.effects], ["asking", ["forget"]]);
  assert.equal(play(...room, looked("unlisted")).session.why.kind, "removed");
});

test("a desktop that died is waited for, however that is learnt, and the password is sent again", () => {
  const lives = [started("RUNNING"), ...ON];
  for (const [how, ...events] of [
    ["it was known", started("STOPPING"), closed()],
    ["the account was taken from the gate", started("STOPPED"), closed(1008, "the account was removed")],
    ["the connection was lost first", closed(), started("FAILED")],
    ["the account was taken from the gate first", closed(1008, "the account was removed"), started("STOPPING")],
    ["it died while a connection was made", closed(), DUE, OPENED, started("FAILED"), closed(1014)],
    ["nothing was heard of it", closed(), DUE, started("FAILED"), CONNECT_LIMIT, DUE],
  ]) {
    const { session } = play(...lives, ...events);
    assert.deepEqual([session.phase, session.due], ["room", null], how);
    const back = step(session, started("RUNNING"), 50, 0);
    assert.deepEqual(back.effects, ["connect"], how);
    const again = [OPENED, ASKED, closed()].reduce((last, event) => step(last.session, event, 51, 0), back);
    assert.equal(again.session.phase, "waiting", `${how}: it was accepted before`);
  }
});

test("a connection that is lost makes the page ask how the desktop is, where the gate starts it", () => {
  assert.deepEqual(play(started("RUNNING"), ...ON, closed()).effects, ["look"]);
  assert.deepEqual(play(...ON, closed()).effects, []);
});

test("a password of which nobody knows whether it was right waits for a person, also in the waiting room", () => {
  const { session, effects } = play(started("RUNNING"), SUBMIT, OPENED, ASKED, started("FAILED"), closed());
  assert.equal(session.phase, "asking");
  assert.deepEqual(effects, []);
  assert.deepEqual(step(session, started("RUNNING"), 9, 0).effects, []);
});

test("a password typed anew in the waiting room was never accepted", () => {
  const typed = [started("RUNNING"), ...ON, LEAVE, started("STARTING"), SUBMIT, started("RUNNING"), OPENED, ASKED];
  assert.equal(play(...typed, closed()).session.phase, "asking");
});

test("an account that the organizers ended stays ended while its desktop runs", () => {
  const { session } = play(started("RUNNING"), ...ON, closed(1008, "stopped by an operator"), started("RUNNING"));
  assert.deepEqual([session.phase, session.why.kind], ["ended", "stopped"]);
});

/* Where people sign in: the gate logs in to the desktop, and knows who is signed in. */

const SIGNED_OUT = looked("signed out");

function seated(...events) {
  let now = 0;
  return events.reduce((last, event) => step(last.session, event, (now += 1), 0), {
    session: begin(0, true, true), effects: [],
  });
}

test("a connection that the gate ended makes the page ask whether somebody is still signed in", () => {
  for (const before of [[SUBMIT, OPENED, CONNECTED], [SUBMIT, OPENED]]) {
    const { session, effects } = seated(...before, closed(1008, "you were signed out"));
    assert.deepEqual([session.phase, session.why.kind, effects], ["ended", "stopped", ["look"]]);
    assert.equal(step(session, SIGNED_OUT, 9, 0).session.why.kind, "signed out");
    assert.equal(step(session, looked({ state: "ready" }), 9, 0).session.why.kind, "stopped");
  }
  assert.deepEqual(play(...ON, closed(1008, "stopped")).effects, []);
});

test("who is signed out is told so wherever they wait, and nothing is tried any more", () => {
  for (const before of [[], [SUBMIT], [SUBMIT, closed()], [started("STARTING"), SUBMIT]]) {
    const { session, effects } = seated(...before, SIGNED_OUT);
    assert.deepEqual([session.phase, session.why.kind, session.due], ["ended", "signed out", null]);
    assert.deepEqual(effects, session.phase === "connecting" ? ["hangup"] : effects);
  }
  assert.deepEqual(seated(SUBMIT, SIGNED_OUT).effects, ["hangup"]);
});

test("what is on the screen stays there until the gate ends it", () => {
  assert.equal(seated(SUBMIT, OPENED, CONNECTED, SIGNED_OUT).session.phase, "connected");
});

test("no password is sent, so none is in doubt: a connection that is cut is tried again", () => {
  assert.equal(seated(SUBMIT, OPENED, closed()).session.phase, "waiting");
});
