import assert from "node:assert/strict";
import { test } from "node:test";

import { websocketAddress } from "../../vncgate/web/static/desk-address.js";
import { MODIFIERS, Sticky, edits } from "../../vncgate/web/static/desk-typing.js";
import { countdown, readiness } from "../../vncgate/web/static/desk-words.js";

test("the websocket's address follows the page's", () => {
  for (const [spec, page, address] of [
    ["../ws/ws01", "http://host:8080/desk/ws01", "ws://host:8080/ws/ws01"],
    ["../ws/ws01", "https://host/a/desk/ws01?x=1#y", "wss://host/a/ws/ws01"],
    ["../../websocketpath01", "https://host/desk/ws01/", "wss://host/websocketpath01"],
    [":8081/ws/ws01", "http://host:8080/desk/ws01", "ws://host:8081/ws/ws01"],
    [":8081/ws/ws01", "https://host/desk/ws01", "wss://host:8081/ws/ws01"],
    [":6000/websockify", "http://[::1]:8080/desk/ws01", "ws://[::1]:6000/websockify"],
  ]) assert.equal(websocketAddress(spec, page), address);
});

test("edits turn one text into the other with Backspace and typing alone", () => {
  const type = (before, { backspaces, text }) => {
    const kept = Array.from(before);
    return kept.slice(0, kept.length - backspaces).join("") + text;
  };
  const texts = ["", "a", "ab", "abc", "teh ", "the ", "Größe", "日本", "日本語", "ok 👍", "ok 👍🏽", "ok 👎"];
  for (const before of texts) {
    for (const after of texts) assert.equal(type(before, edits(before, after)), after, `${before} -> ${after}`);
  }
  assert.deepEqual(edits("__a", "__ab"), { backspaces: 0, text: "b" });
  assert.deepEqual(edits("__ab", "__a"), { backspaces: 1, text: "" });
  assert.deepEqual(edits("👍", "👎"), { backspaces: 1, text: "👎" });
});

function sticky() {
  const sent = [];
  return { keys: new Sticky((name, down) => sent.push(`${down ? "+" : "-"}${name}`)), sent };
}

test("a modifier is down for the next key", () => {
  const { keys, sent } = sticky();
  keys.press("ctrl");
  keys.press("alt");
  assert.ok(keys.used());
  assert.ok(!keys.used());
  assert.deepEqual(sent, ["+ctrl", "+alt", "-ctrl", "-alt"]);
});

test("a modifier that is pressed twice is held until it is pressed again", () => {
  const { keys, sent } = sticky();
  keys.press("shift");
  keys.press("shift");
  assert.ok(!keys.used());
  assert.equal(keys.state.shift, "held");
  keys.press("shift");
  assert.deepEqual(sent, ["+shift", "-shift"]);
});

test("nothing stays down", () => {
  const { keys, sent } = sticky();
  for (const name of Object.keys(MODIFIERS)) keys.press(name);
  keys.press("super");
  assert.ok(keys.release());
  assert.deepEqual(sent.filter((each) => each[0] === "-").length, sent.filter((each) => each[0] === "+").length);
  assert.ok(Object.values(keys.state).every((state) => state === "off"));
});

test("readiness in a person's words", () => {
  assert.equal(readiness(null), null);
  assert.equal(readiness({ state: "checking", reason: "" }), null);
  assert.deepEqual(readiness({ state: "ready", reason: "" }), { text: "Ready", tone: "good" });
  assert.deepEqual(readiness({ state: "offline", label: "offline", reason: "it does not answer" }),
    { text: "Offline: it does not answer", tone: "bad" });
  assert.equal(readiness({ state: "in use", reason: "" }).tone, "good");
});

test("the countdown ends in words", () => {
  assert.equal(countdown(5), "Trying again in 5 s");
  assert.equal(countdown(0), "Trying again now");
});
