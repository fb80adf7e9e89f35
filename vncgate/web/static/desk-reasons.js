/* Why a connection ended, as the gate says it when it closes a websocket: in English, for there it knows no page. What is
   known is said in the page's language, anything else as it came. Pure. */

import { say } from "./words.js";

const KNOWN = [
  [/^stopped by the organizers$/, () => say("stopped by the organizers")],
  [/^restarted by the organizers$/, () => say("restarted by the organizers")],
  [/^the account was removed$/, () => say("the account was removed")],
  [/^the gate is being stopped$/, () => say("the gate is being stopped")],
  [/^the account could not be served$/, () => say("the account could not be served")],
  [/^the desktop moved$/, () => say("the desktop moved")],
  [/^you were signed out$/, () => say("you were signed out")],
  [/^what you may do here has changed: connect again$/,
    () => say("what you may do here has changed: connect again")],
  [/^the browser did not answer a ping within (?<span>[0-9.]+ s)$/,
    (it) => say("the browser did not answer a ping within {span}", it)],
  [/^desktop (?<desktop>.+) refused the connection$/, (it) => say("desktop {desktop} refused the connection", it)],
  [/^desktop (?<desktop>.+) closed the connection$/, (it) => say("desktop {desktop} closed the connection", it)],
  [/^desktop (?<desktop>.+) dropped the connection$/, (it) => say("desktop {desktop} dropped the connection", it)],
  [/^desktop (?<desktop>.+) did not answer within (?<span>[0-9.]+ s)/,
    (it) => say("desktop {desktop} did not answer within {span}", it)],
  [/^desktop (?<desktop>.+) takes connections, but said nothing within (?<span>[0-9.]+ s)/,
    (it) => say("desktop {desktop} takes connections, but said nothing within {span}", it)],
  [/^desktop (?<desktop>.+) (?:is not there: no such socket|is no socket|is not its user's)$/,
    (it) => say("desktop {desktop} is not there", it)],
  [/^desktop (?<desktop>.+) (?:is not known: .*|cannot be looked up now)$/,
    (it) => say("desktop {desktop} cannot be found: its host is not known", it)],
  [/^desktop (?<desktop>.+) cannot be reached: (?<why>.*)$/, (it) => say("desktop {desktop} cannot be reached: {why}", it)],
];

/* The reason, for people. */
export function known(reason) {
  for (const [pattern, words] of KNOWN) {
    const found = pattern.exec(reason ?? "");
    if (found) return words(found.groups ?? {});
  }
  return reason;
}
