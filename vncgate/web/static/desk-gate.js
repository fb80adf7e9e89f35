/* What the gate says of one account, asked for or told by its stream, and what a person may have done with a desktop
   that the gate starts. */

import { inLanguage } from "./words.js";

const LIMIT = 5000; /* milliseconds that an answer may take */
const FIRST_DELAY = 1000; /* milliseconds until a lost stream is asked for again; doubled at each failure */
const LONGEST_DELAY = 30000;

export class Gate {
  /* The addresses are the page's; `desktop` and `events` are missing where the gate does not start the desktop.
     `tell(status)` gets what the gate says: {state, reason, desktop ...}, "unlisted", "signed out",
     {moved: path} where the seat shows another desktop by now, or null where nobody answers. */
  constructor({ status, desktop, events }, tell) {
    this.isLauncher = Boolean(desktop);
    this.isLive = false; /* whether the stream tells of every change */
    this._status = status;
    this._desktop = desktop;
    this._events = events;
    this._tell = tell;
    this._ahead = 0;
    this._delay = FIRST_DELAY;
  }

  /* Seconds since the epoch, by the gate's clock: those of participants are wrong at times. */
  now() { return Date.now() / 1000 + this._ahead; }

  /* Ask how it is. */
  async look() {
    this._tell(this._status ? await this._answer(this._status, {}) : "unlisted");
  }

  /* Have the gate do one of visit, start, stay. True when it did. */
  async post(deed) {
    const status = await this._answer(this._desktop + deed, { method: "POST" });
    const done = status !== null && typeof status !== "string" && !("moved" in status);
    if (done) this._tell(status);
    return done;
  }

  /* Have every change told by the stream, or no more. It holds a connection, so it is for who looks at the page. */
  follow(wanted) {
    if (wanted === this._wanted) return;
    this._wanted = wanted;
    if (wanted) this._connect();
    else this._close();
  }

  async _answer(address, options) {
    try {
      const answer = await fetch(inLanguage(address), { cache: "no-store", signal: AbortSignal.timeout(LIMIT), ...options });
      if (answer.status === 401) return "signed out";
      if (answer.status === 404) return await elsewhere(answer);
      if (!answer.ok) return null;
      const date = Date.parse(answer.headers.get("Date"));
      if (date) this._ahead = (date - Date.now()) / 1000;
      return await answer.json();
    } catch {
      return null;
    }
  }

  _connect() {
    this._source = new EventSource(inLanguage(this._events));
    this._source.addEventListener("accounts", ({ data }) => this._heard(JSON.parse(data)[0]));
    this._source.addEventListener("change", ({ data }) => this._heard(JSON.parse(data).changed[0]));
    this._source.onerror = () => {
      this._close();
      this._timer = setTimeout(() => this._connect(), this._delay * (1 + Math.random() / 4));
      this._delay = Math.min(this._delay * 2, LONGEST_DELAY);
    };
  }

  _heard(status) {
    this.isLive = true;
    this._delay = FIRST_DELAY;
    this._tell(status ?? "unlisted");
  }

  _close() {
    clearTimeout(this._timer);
    this._source?.close();
    this._source = null;
    this.isLive = false;
  }
}

/* There is no such account any more; or the desktop of this person's seat is another by now. */
async function elsewhere(answer) {
  const said = await answer.json().catch(() => null); // pages as files answer with a page
  return said?.desk ? { moved: said.desk } : "unlisted";
}
