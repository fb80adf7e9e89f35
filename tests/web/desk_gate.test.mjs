import assert from "node:assert/strict";
import { beforeEach, mock, test } from "node:test";

import { Gate } from "../../vncgate/web/static/desk-gate.js";

const HERE = { status: "../api/accounts/ws01", desktop: "../api/desktops/ws01/", events: "../api/events?path=ws01" };

let told, asked, streams, answer;

class Stream extends EventTarget {
  constructor(url) {
    super();
    this.url = url;
    this.open = true;
    streams.push(this);
  }

  close() { this.open = false; }

  say(type, value) { this.dispatchEvent(Object.assign(new Event(type), { data: JSON.stringify(value) })); }
}

const reply = (status, body, date) => ({
  status, ok: status === 200, json: async () => body, headers: new Headers(date ? { Date: date } : {}),
});

beforeEach(() => {
  [told, asked, streams] = [[], [], []];
  globalThis.EventSource = Stream;
  globalThis.fetch = async (url, { method = "GET" }) => {
    asked.push(`${method} ${url}`);
    return answer();
  };
});

const made = (addresses = HERE) => new Gate(addresses, (status) => told.push(status));
const open = () => streams.filter((stream) => stream.open);

test("an answer, none, and an account that nobody knows", async () => {
  const gate = made();
  for (const [how, status] of [
    [() => reply(200, { state: "ready" }), { state: "ready" }], [() => reply(404), "unlisted"], [() => reply(503), null],
    [() => { throw new TypeError("offline"); }, null],
  ]) {
    answer = how;
    await gate.look();
    assert.deepEqual(told.pop(), status);
  }
  await made({}).look();
  assert.equal(told.pop(), "unlisted");
  assert.deepEqual(new Set(asked), new Set(["GET ../api/accounts/ws01"]));
});

test("a deed is posted, and what comes of it is told; what did not happen is not", async () => {
  const gate = made();
  answer = () => reply(200, { state: "asked for" });
  assert.equal(await gate.post("visit"), true);
  assert.deepEqual(told, [{ state: "asked for" }]);
  for (const status of [403, 404, 502]) {
    answer = () => reply(status);
    assert.equal(await gate.post("visit"), false);
  }
  assert.equal(told.length, 1);
  assert.deepEqual(new Set(asked), new Set(["POST ../api/desktops/ws01/visit"]));
});

test("time is the gate's", async () => {
  const gate = made();
  answer = () => reply(200, {}, new Date(Date.now() + 3600_000).toUTCString());
  await gate.look();
  assert.ok(Math.abs(gate.now() - Date.now() / 1000 - 3600) < 2);
});

test("the stream tells everything while it is wanted", () => {
  const gate = made();
  assert.ok(gate.isLauncher && !gate.isLive);
  gate.follow(true);
  gate.follow(true);
  assert.deepEqual(streams.map(({ url }) => url), [HERE.events]);
  assert.ok(!gate.isLive, "not before it has said something");
  streams[0].say("accounts", [{ state: "starting" }]);
  streams[0].say("change", { changed: [{ state: "ready" }], removed: [] });
  assert.ok(gate.isLive);
  streams[0].say("change", { changed: [], removed: ["ws01"] });
  assert.deepEqual(told, [{ state: "starting" }, { state: "ready" }, "unlisted"]);
  gate.follow(false);
  assert.equal(open().length, 0);
  assert.ok(!gate.isLive);
});

test("a lost stream is asked for again, ever later, until it is wanted no more", () => {
  mock.timers.enable({ apis: ["setTimeout"] });
  const random = mock.method(Math, "random", () => 0);
  const gate = made();
  gate.follow(true);
  for (const delay of [1000, 2000, 4000, 8000, 16000, 30000, 30000]) {
    const before = streams.length;
    streams.at(-1).onerror();
    assert.equal(open().length, 0);
    mock.timers.tick(delay - 1);
    assert.equal(streams.length, before);
    mock.timers.tick(1);
    assert.equal(streams.length, before + 1);
  }
  streams.at(-1).say("accounts", []);
  streams.at(-1).onerror();
  mock.timers.tick(1000);
  assert.equal(open().length, 1, "a stream that worked forgives");
  streams.at(-1).onerror();
  gate.follow(false);
  mock.timers.tick(60000);
  assert.equal(open().length, 0);
  random.mock.restore();
  mock.timers.reset();
});

test("who is signed out is told so, and who has another desktop by now, where that is", async () => {
  const gate = made();
  for (const [how, status] of [
    [() => reply(401, { error: "Please sign in first." }), "signed out"],
    [() => reply(404, { error: "This is not for your seat.", desk: "ws05" }), { moved: "ws05" }],
    [() => ({ ...reply(404), json: async () => { throw new SyntaxError("a page"); } }), "unlisted"],
  ]) {
    answer = how;
    await gate.look();
    assert.deepEqual(told.pop(), status);
    assert.equal(await gate.post("visit"), false);
    assert.deepEqual(told, []);
  }
});
