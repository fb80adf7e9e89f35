/* Where the websocket of an account is. Pure. */

/* The absolute websocket address for `spec`, as seen from the page at `page`: a relative address ("../ws/ws01"), or
   ":8081/ws/ws01" for another port of the page's own host. wss where the page came by https, else ws. */
export function websocketAddress(spec, page) {
  const base = new URL(page);
  const url = spec.startsWith(":") ? new URL(`${base.protocol}//${base.hostname}${spec}`) : new URL(spec, base);
  url.protocol = base.protocol === "https:" ? "wss:" : "ws:";
  url.hash = "";
  return url.href;
}
