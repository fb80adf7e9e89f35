import assert from "node:assert/strict";
import { test } from "node:test";

process.env.TZ = "UTC";
const { expected, isAway, isOutOfReach, room, sentences, warning } = await import("../../vncgate/web/static/desk-room.js");
const { begin, step } = await import("../../vncgate/web/static/desk-session.js");
const { readiness, words } = await import("../../vncgate/web/static/desk-words.js");

const NOW = Date.UTC(2026, 2, 6, 14, 15) / 1000; /* a Friday, 14:15 */
const STATES = ["STOPPED", "REQUESTED", "PENDING", "STARTING", "STOPPING", "FAILED"];
const COMES = ["REQUESTED", "PENDING", "STARTING"];
const desktop = (state, more = {}) => ({
  state, headline: `It is ${state}`, reason: "", comes: COMES.includes(state), starts: null, ends: null, idle_end: null, offer: "", ...more,
});
const status = (state, more = {}) => ({ state: "x", reason: "", desktop: desktop(state, more) });

test("what is away, and what is not", () => {
  for (const state of STATES) assert.ok(isAway(desktop(state)));
  for (const other of [null, undefined, desktop("RUNNING")]) assert.ok(!isAway(other));
});

test("the gate gives the headline, and every state has a tab of its own", () => {
  const said = STATES.map((state) => room(desktop(state), NOW));
  assert.deepEqual(said.map(({ headline }) => headline), STATES.map((state) => `It is ${state}`));
  assert.equal(new Set(said.map(({ tab }) => tab)).size, STATES.length);
  assert.ok(said.every(({ detail }) => detail === ""));
  assert.equal(room(desktop("NEW_TO_THIS_PAGE"), NOW).headline, "It is NEW_TO_THIS_PAGE");
});

test("what comes by itself looks like it, whatever its state", () => {
  assert.equal(room(desktop("STOPPING", { comes: true }), NOW).tone, "coming");
  assert.equal(room(desktop("STOPPING"), NOW).tone, "");
  assert.equal(room(desktop("FAILED"), NOW).tone, "bad");
});

test("out of reach is what does not come by itself", () => {
  for (const one of [desktop("STOPPED"), desktop("STOPPED", { offer: "start" }), desktop("FAILED", { offer: "try again" })]) {
    assert.ok(isOutOfReach(one));
  }
  for (const one of [null, desktop("RUNNING"), desktop("PENDING", { comes: true })]) assert.ok(!isOutOfReach(one));
});

test("a queue says why, and when it expects the desktop", () => {
  const { headline, detail } = room(desktop("PENDING", { reason: "waits for free nodes", starts: NOW + 290 }), NOW);
  assert.equal(headline, "It is PENDING");
  assert.equal(detail, "Waits for free nodes. Expected to start at 14:19 (in about 5 minutes).");
});

test("how long it takes is told as roughly as it is known", () => {
  for (const [seconds, words] of [
    [-30, "at 14:14 (any moment)"], [0, "at 14:15 (any moment)"], [20, "at 14:15 (in about a minute)"],
    [3600, "at 15:15 (in about 60 minutes)"], [3 * 3600, "at 17:15 (in about 3 hours)"],
    [12 * 3600, "on Saturday 7 March at 02:15 (in about 12 hours)"], [4 * 86400, "on Tuesday 10 March at 14:15"],
  ]) assert.equal(expected({ starts: NOW + seconds }, NOW), `expected to start ${words}`);
  assert.equal(expected({ starts: NOW + 60 }, NOW, true), "expected to start at 14:16", "nothing that changes by the minute");
  assert.equal(expected({ starts: null }, NOW), "");
});

test("the warning counts down, and has a button where somebody can have it go on", () => {
  const idle = desktop("RUNNING", { idle_end: NOW + 299.2 });
  assert.deepEqual(warning(idle, NOW), {
    text: "Your desktop will be ended at 14:19 because nobody has used it", left: "in 5:00", at: NOW + 299.2, stays: true,
  });
  assert.equal(warning(idle, NOW + 240).left, "in 1:00");
  assert.equal(warning(idle, NOW + 299.2).left, "now");
  assert.equal(warning(idle, NOW + 400).left, "now");
  const limit = warning(desktop("RUNNING", { ends: NOW + 3725 }), NOW);
  assert.deepEqual([limit.text, limit.left, limit.stays],
    ["Your desktop’s time is up at 15:17: save your work", "in 1:02:05", false]);
});

test("of two ends the next one is told", () => {
  assert.ok(warning(desktop("RUNNING", { idle_end: NOW + 10, ends: NOW + 20 }), NOW).stays);
  assert.ok(!warning(desktop("RUNNING", { idle_end: NOW + 20, ends: NOW + 10 }), NOW).stays);
});

test("nobody is warned who has no desktop, or whose desktop stays", () => {
  for (const one of [null, undefined, desktop("RUNNING"), desktop("STOPPING", { ends: NOW })]) {
    assert.equal(warning(one, NOW), null);
  }
});

test("sentences", () => {
  assert.equal(sentences("one", "", undefined, "Two!", "the end of a log …"), "One. Two! The end of a log …");
});

/* The session after looking and doing, in turn. */
const after = (...events) => events.reduce(({ session }, event) => step(session, event, 0, 0), { session: begin() });
const looked = (heard) => ({ type: "looked", status: heard });
const SUBMIT = { type: "submit" };

test("a password may be typed before the desktop is there", () => {
  const { session } = after(looked(status("STARTING")));
  assert.equal(words(session, NOW).headline, "It is STARTING");
  assert.match(words(session, NOW).detail, /type your password now/);
  const waits = after(looked(status("STARTING")), SUBMIT).session;
  assert.match(words(waits, NOW).detail, /opens by itself/);
});

test("nothing is promised of a desktop that does not come", () => {
  for (const state of ["STOPPED", "STOPPING", "FAILED"]) {
    const { session } = after(looked(status(state, { reason: "the disk is full" })), SUBMIT);
    assert.equal(words(session, NOW).detail, "The disk is full.");
  }
});

test("what the gate cannot confirm is not told as if it were so", () => {
  const { session } = after(looked(status("PENDING")), SUBMIT, looked(null));
  assert.match(words(session, NOW).detail, /may be out of date/);
  const { session: again } = after(looked(status("PENDING")), SUBMIT, looked(null), looked(status("PENDING")));
  assert.doesNotMatch(words(again, NOW).detail, /out of date/);
});

test("readiness is for desktops that are there", () => {
  assert.equal(readiness({ state: "in the queue", reason: "x", desktop: desktop("PENDING") }), null);
  assert.equal(readiness({ state: "ready", reason: "", desktop: desktop("RUNNING") }).text, "Ready");
});

const RUNS = [looked(status("RUNNING")), SUBMIT, { type: "opened" }, { type: "asked" }, { type: "connected" }];

test("why a desktop ended is told by the gate, and not by its connection's end", () => {
  for (const code of [1001, 1012]) {
    const { session, effects } = after(...RUNS, { type: "closed", code, reason: "the desktop moved", online: true });
    assert.deepEqual(words(session, NOW), { headline: "One moment…", detail: "", tone: "busy", tab: "Waiting" });
    assert.deepEqual(effects, ["look"]);
    const { session: told } = step(session, looked(status("STOPPED", { reason: "nobody used it for 5 min" })), 0, 0);
    assert.equal(words(told, NOW).detail, "Nobody used it for 5 min.");
  }
});

test("where the gate's own desktops are is no news for people", () => {
  const reason = "desktop unix:/srv/x/vnc.sock closed the connection";
  const ways = [RUNS, RUNS.slice(0, 3), RUNS.slice(0, 4)];
  for (const way of ways) {
    const { session } = after(...way, { type: "closed", code: 1014, reason, online: true });
    assert.doesNotMatch(JSON.stringify(words(session, NOW)), /srv/);
  }
});
