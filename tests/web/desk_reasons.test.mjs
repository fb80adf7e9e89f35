import assert from "node:assert/strict";
import { test } from "node:test";

const { learn } = await import("../../vncgate/web/static/words.js");
const { known } = await import("../../vncgate/web/static/desk-reasons.js");

const REASONS = [
  "stopped by the organizers", "restarted by the organizers", "the account was removed", "the gate is being stopped",
  "the account could not be served", "the desktop moved", "you were signed out",
  "what you may do here has changed: connect again", "the browser did not answer a ping within 30 s",
  "desktop node01:5901 refused the connection", "desktop unix:/run/x y closed the connection",
  "desktop [::1]:5901 dropped the connection", "desktop node01:5901 did not answer within 5 s",
  "desktop node01:5901 takes connections, but said nothing within 10 s", "desktop a:1 cannot be reached: No route to host",
];

test("what the gate says is known, and stays what it is in English", () => {
  for (const reason of REASONS) assert.equal(known(reason), reason);
  for (const other of ["", undefined, null, "spawn /usr/bin/x"]) assert.equal(known(other), other);
});

test("in another language it is said in that, with its values", () => {
  learn("de", (n) => Number(n !== 1), {
    "you were signed out": "Sie wurden ausgeloggt",
    "desktop {desktop} refused the connection": "{desktop} lehnt ab",
  });
  assert.equal(known("you were signed out"), "Sie wurden ausgeloggt");
  assert.equal(known("desktop node01:5901 refused the connection"), "node01:5901 lehnt ab");
  assert.equal(known("something else"), "something else");
});
