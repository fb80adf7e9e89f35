/* The organizer's table: what its cells say, what a filter keeps, how it is sorted. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { ago, bytes, cells, changed, keeps, sorted } from "../../vncgate/web/static/organizer-table.js";

const NOW = 1_000_000;

function seat(account, more = {}) {
  return {
    account, title: account, path: account, state: "ready", label: "ready", reason: "", person: "", name: "", email: "",
    desktop: "", shown_by: [], spare: false, until: null, connections: 0, used: null, delay: null, quality: "",
    bytes_up: 0, bytes_down: 0, is_launched: false, ...more,
  };
}

test("how long ago something was", () => {
  const said = [0, 59, 60, 3599, 3600, 86399, 86400, 200000].map((seconds) => ago(NOW - seconds, NOW));
  assert.deepEqual(said, ["just now", "just now", "1 min ago", "59 min ago", "1 h ago", "23 h ago", "1 d ago", "2 d ago"]);
  assert.equal(ago(NOW + 5, NOW), "just now", "clocks differ");
});

test("bytes in a unit that can be read", () => {
  const said = (locale) => [0, 999, 1000, 123456, 5.2e6, 2e13].map((count) => bytes(count, locale));
  assert.deepEqual(said("en-GB"), ["0 B", "999 B", "1.0 kB", "123 kB", "5.2 MB", "20.0 TB"]);
  assert.deepEqual(said("de").slice(2, 5), ["1,0 kB", "123 kB", "5,2 MB"]);
});

test("what stands in a row", () => {
  const said = cells(seat("ws01", { used: NOW - 200, delay: 0.12, quality: "fair", bytes_down: 2e6, desktop: "ws07" }), NOW, "en-GB");
  assert.equal(said.used, "3 min ago");
  assert.equal(said.quality, "fair");
  assert.equal(said.connection, "120 ms · 2.0 MB sent to the browser");
  assert.equal(cells(seat("ws01", { bytes_up: 500 }), NOW, "en-GB").connection, "", "only what is sent there");
  assert.equal(said.mark, "shows ws07");
  assert.equal(cells(seat("ws07", { shown_by: ["ws01"], spare: true }), NOW).mark, "shown by ws01");
  assert.equal(cells(seat("ws08", { spare: true }), NOW).mark, "spare");
});

test("a filter takes all words, without regard to accents, and a group", () => {
  const jorg = seat("ws01", { person: "p", name: "Jörg Müller", email: "j@example.org" });
  assert.ok(keeps(jorg, "", "all"));
  assert.ok(keeps(jorg, "muller JORG", "taken"));
  assert.ok(keeps(jorg, "example ws01", "all"));
  assert.ok(!keeps(jorg, "jorg ws02", "all"));
  assert.ok(!keeps(jorg, "", "free"));
  assert.ok(keeps(seat("ws02"), "", "free"));
  assert.ok(!keeps(seat("ws02", { spare: true }), "", "free"));
  assert.ok(keeps(seat("ws03", { state: "offline" }), "", "trouble"));
  assert.ok(keeps(seat("ws03", { quality: "poor" }), "", "trouble"));
  assert.ok(keeps(seat("ws03", { connections: 1 }), "", "used"));
});

test("columns are sorted as people count, and what is empty comes last", () => {
  const all = [
    seat("ws10", { name: "Bo", used: 5 }), seat("ws9", { used: 9, quality: "poor", delay: 0.5 }),
    seat("ws1", { name: "Ada", quality: "good", delay: 0.02 }),
  ];
  const order = (column, down) => sorted(all, column, down).map(({ account }) => account);
  assert.deepEqual(order(""), ["ws10", "ws9", "ws1"]);
  assert.deepEqual(order("account"), ["ws1", "ws9", "ws10"]);
  assert.deepEqual(order("account", true), ["ws10", "ws9", "ws1"]);
  assert.deepEqual(order("person"), ["ws1", "ws10", "ws9"]);
  assert.deepEqual(order("used"), ["ws9", "ws10", "ws1"]);
  assert.deepEqual(order("connection"), ["ws9", "ws1", "ws10"]);
});

test("a change has only what is new", () => {
  const before = new Map([["a", seat("a", { name: "Ada" })], ["b", seat("b")]]);
  const after = changed(before, { changed: [{ account: "a", used: 7 }, seat("c")], removed: ["b"] });
  assert.deepEqual([...after.keys()], ["a", "c"]);
  assert.equal(after.get("a").name, "Ada");
  assert.equal(after.get("a").used, 7);
  assert.equal(before.get("a").used, null, "what was is left as it was");
});
