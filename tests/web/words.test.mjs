import assert from "node:assert/strict";
import { test } from "node:test";

const { inLanguage, learn, locale, say, sayMany } = await import("../../vncgate/web/static/words.js");

test("until a language is learned all is English, and no address changes", () => {
  assert.equal(say("Trying again in {seconds} s", { seconds: 5 }), "Trying again in 5 s");
  assert.deepEqual([0, 1, 2].map((n) => sayMany(n, "{count} file", "{count} files")), ["0 files", "1 file", "2 files"]);
  assert.equal(locale(), "en-GB");
  assert.equal(inLanguage("../api/accounts/ws01"), "../api/accounts/ws01");
});

test("a language has its texts, its forms and its addresses; what it does not know stays English", () => {
  learn("cs", (n) => Number((n == 1 ? 0 : n >= 2 && n <= 4 ? 1 : 2)), {
    "Trying again in {seconds} s": "Znovu za {seconds} s",
    "{count} file": ["{count} soubor", "{count} soubory", "{count} souborů"],
  });
  assert.equal(say("Trying again in {seconds} s", { seconds: 0 }), "Znovu za 0 s");
  assert.equal(say("Connected"), "Connected");
  assert.deepEqual([1, 3, 7].map((n) => sayMany(n, "{count} file", "{count} files")), ["1 soubor", "3 soubory", "7 souborů"]);
  assert.equal(sayMany(2, "{count} seat", "{count} seats"), "2 seats");
  assert.equal(locale(), "cs");
  assert.equal(inLanguage("../api/accounts/ws01"), "../api/accounts/ws01?lang=cs");
  assert.equal(inLanguage("../api/events?path=ws01"), "../api/events?path=ws01&lang=cs");
});

test("what stands in a value is no placeholder, and a placeholder without a value stays", () => {
  assert.equal(say("{a} and {b}", { a: "{b}" }), "{b} and {b}");
  assert.equal(say("$& {a}", { a: "$&" }), "$& $&");
});
