/* Files on their way to the desktop, by the tus protocol: in pieces, with progress, on again after a lost connection, and
   after this page was loaded anew (choose the same file again). Shown as a list, where who sends is asked about clashes. */

import { say } from "./words.js";

const PIECE = 16 * 1024 * 1024; // as much as may have to be sent again behind a proxy that keeps what it is sent
const AT_ONCE = 2;
const STORE = "vncgate.uploads.";
const PAUSES = [1, 2, 4, 8, 15, 30]; // seconds until it is tried again

export class Uploads {
  /* `base` is the address of the account's files, `list` the element for them, `landed` is called after each. */
  constructor(base, list, landed = () => {}) {
    this._base = base;
    this._list = list;
    this._landed = landed;
    this._waiting = [];
    this._active = 0;
    window.addEventListener("beforeunload", (event) => {
      if (this._active) event.preventDefault();
    });
  }

  /* Send files to a folder of the account's (percent-encoded). */
  send(files, folder = "") {
    for (const file of files) {
      const upload = new Upload(file, folder, this._base, this._landed);
      this._list.append(upload.row);
      this._waiting.push(upload);
    }
    this._next();
  }

  _next() {
    while (this._active < AT_ONCE && this._waiting.length) {
      this._active += 1;
      this._waiting.shift().run().finally(() => {
        this._active -= 1;
        this._next();
      });
    }
  }
}

/* Have files be dropped anywhere on the page; meanwhile `text` covers it. */
export function dropping(text, take) {
  const veil = element("div", "drop-here", text);
  veil.hidden = true;
  document.body.append(veil);
  let depth = 0; // how many elements what is dragged is in
  const on = (name, act) => addEventListener(name, (event) => {
    if (event.dataTransfer?.types.includes("Files")) act(event);
  });
  on("dragenter", () => {
    depth += 1;
    veil.hidden = false;
  });
  on("dragleave", () => {
    depth -= 1;
    veil.hidden = depth <= 0;
  });
  on("dragover", (event) => event.preventDefault());
  on("drop", (event) => {
    event.preventDefault();
    depth = 0;
    veil.hidden = true;
    take(filesOf(event.dataTransfer));
  });
}

/* The files of a drop; folders are left out. */
function filesOf(transfer) {
  const items = [...transfer.items].filter((item) => item.kind === "file" && !item.webkitGetAsEntry?.()?.isDirectory);
  return items.map((item) => item.getAsFile()).filter(Boolean);
}

class Upload {
  constructor(file, folder, base, landed) {
    this._file = file;
    this._folder = folder;
    this._base = base;
    this._landed = landed;
    this._key = STORE + [base, folder, file.name, file.size, file.lastModified].join("|");
    this._ended = false;
    this._make();
  }

  async run() {
    try {
      const address = this._ended ? null : (this._stored() ?? (await this._create()));
      if (address) await this._send(address);
    } catch (error) {
      if (!this._ended) this._end("bad", error instanceof Refused ? error.message : say("It could not be sent."));
    }
  }

  /* A new upload; null where who sends wants none. */
  async _create(clash = "ask") {
    const told = { filename: this._file.name, folder: this._folder, clash };
    const metadata = Object.entries(told).map(([key, value]) => `${key} ${base64(value)}`).join(",");
    const headers = { "Upload-Length": String(this._file.size), "Upload-Metadata": metadata };
    const answer = await this._patiently(() => this._ask("POST", `${this._base}/uploads`, headers));
    if (answer.status === 409 && clash === "ask") {
      const choice = await this._asked();
      if (choice === "skip") {
        this._end("done", say("Left out."));
        return null;
      }
      return this._create(choice);
    }
    if (answer.status !== 201) throw new Refused(await words(answer));
    const address = new URL(answer.headers.get("Location"), answer.url).href;
    if (!this._file.size) {
      this._done(answer);
      return null;
    }
    keep(this._key, address);
    return address;
  }

  async _send(address) {
    let offset = null;
    while (!this._ended) {
      if (offset === null) {
        const answer = await this._patiently(() => this._ask("HEAD", address));
        if (answer.status !== 200) { // it was given up meanwhile
          forget(this._key);
          const next = await this._create();
          if (!next) return;
          address = next;
          offset = 0;
        } else {
          offset = Number(answer.headers.get("Upload-Offset"));
        }
      }
      // Of one that is whole nothing is sent: the answer says whether it is in its place.
      const answer = await this._patch(address, offset);
      if (this._ended) return;
      if (answer?.status === 204) {
        offset = Number(answer.getResponseHeader("Upload-Offset"));
        this._tries = 0;
        if (offset >= this._file.size) {
          this._done(answer);
          return;
        }
      } else if (answer && answer.status >= 400 && ![409, 503, 502, 504].includes(answer.status)) {
        throw new Refused(plain(answer.responseText, answer.status));
      } else {
        offset = null;
        await this._pause();
      }
    }
  }

  /* One piece; null where the connection was lost. Fetch tells no progress of what it sends. */
  _patch(address, offset) {
    return new Promise((resolve) => {
      const request = new XMLHttpRequest();
      this._request = request;
      request.open("PATCH", address);
      request.setRequestHeader("Tus-Resumable", "1.0.0");
      request.setRequestHeader("Upload-Offset", String(offset));
      request.setRequestHeader("Content-Type", "application/offset+octet-stream");
      request.upload.onprogress = (event) => this._show(offset + event.loaded);
      request.onload = () => resolve(request);
      request.onerror = request.onabort = request.ontimeout = () => resolve(null);
      request.send(this._file.slice(offset, offset + PIECE));
    });
  }

  _ask(method, address, headers = {}) {
    return fetch(address, { method, headers: { "Tus-Resumable": "1.0.0", ...headers }, cache: "no-store" });
  }

  /* What `ask` answers, as often as it takes to reach the gate. */
  async _patiently(ask) {
    for (;;) {
      try {
        const answer = await ask();
        if (![502, 503, 504].includes(answer.status)) return answer;
      } catch {
        // no connection
      }
      if (this._ended) throw new Refused("");
      await this._pause();
    }
  }

  async _pause() {
    const seconds = PAUSES[Math.min(this._tries ?? 0, PAUSES.length - 1)];
    this._tries = (this._tries ?? 0) + 1;
    this._text.textContent = say("The connection was lost. It goes on by itself.");
    await new Promise((resolve) => {
      this._wake = resolve;
      setTimeout(resolve, seconds * 1000);
      window.addEventListener("online", resolve, { once: true });
    });
  }

  _make() {
    this.row = document.createElement("li");
    this.row.dataset.state = "waiting";
    const head = element("div", "uploads-head");
    const name = element("span", "uploads-name", this._file.name);
    this._cancel = element("button", "", say("Cancel"));
    this._cancel.type = "button";
    this._cancel.setAttribute("aria-label", say("Cancel {name}", { name: this._file.name }));
    this._cancel.addEventListener("click", () => this._stop());
    head.append(name, this._cancel);
    this._text = element("p", "uploads-text", say("Waiting"));
    this._text.setAttribute("role", "status");
    this._bar = document.createElement("progress");
    this._bar.max = Math.max(1, this._file.size);
    this._bar.value = 0;
    this._bar.setAttribute("aria-label", this._file.name);
    this.row.append(head, this._text, this._bar);
  }

  _show(sent) {
    this.row.dataset.state = "sending";
    const percent = Math.floor((100 * sent) / Math.max(1, this._file.size));
    if (this._bar.value !== sent) this._bar.value = sent;
    const text = say("{percent} % of {size}", { percent, size: size(this._file.size) });
    if (this._text.textContent !== text) this._text.textContent = text;
  }

  /* What is to be done where there is such a file: "keep", "replace" or "skip". */
  _asked() {
    this.row.dataset.state = "asking";
    this._text.textContent = say("There is a file of this name already.");
    const choices = element("div", "uploads-ask");
    this.row.append(choices);
    return new Promise((resolve) => {
      const ways = [["keep", say("Keep both")], ["replace", say("Replace it")], ["skip", say("Leave it out")]];
      for (const [way, label] of ways) {
        const button = element("button", "", label);
        button.type = "button";
        button.addEventListener("click", () => {
          choices.remove();
          resolve(way);
        });
        choices.append(button);
      }
      this._choose = resolve;
      choices.firstElementChild.focus();
    });
  }

  _stop() {
    this._ended = true;
    this._request?.abort();
    this._wake?.();
    this._choose?.("skip");
    const address = this._stored();
    if (address) this._ask("DELETE", address).catch(() => {});
    this.row.querySelector(".uploads-ask")?.remove();
    this._end("bad", say("Cancelled."));
  }

  _done(answer) {
    const got = answer?.getResponseHeader?.("Upload-Name") ?? answer?.headers?.get("Upload-Name");
    const name = got ? decodeURIComponent(got) : this._file.name;
    this._show(this._file.size);
    this._end("done", name === this._file.name ? say("It is there.") : say("It is there, as {name}.", { name }));
    this._landed();
  }

  _end(state, text) {
    if (this.row.dataset.state === "done") return;
    this._ended = true;
    forget(this._key);
    this.row.dataset.state = state;
    this._text.textContent = text;
    this._bar.hidden = state !== "done";
    this._cancel.hidden = true;
  }

  _stored() {
    try {
      return localStorage.getItem(this._key);
    } catch {
      return null; // a browser that keeps nothing sends anew after the page was loaded anew
    }
  }
}

class Refused extends Error {}

async function words(answer) {
  return plain(await answer.text(), answer.status);
}

/* What an answer of the gate's says to a person. */
function plain(text, status) {
  try {
    return JSON.parse(text).error;
  } catch {
    return status === 401 || status === 403 ? say("Please sign in again.") : say("It could not be sent.");
  }
}

function element(tag, name, text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  made.textContent = text;
  return made;
}

export function size(bytes) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < units.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit && value < 99.5 ? 1 : 0;
  return `${value.toLocaleString(document.documentElement.lang, { maximumFractionDigits: digits })} ${units[unit]}`;
}

function base64(text) {
  return btoa(String.fromCharCode(...new TextEncoder().encode(text)));
}

function keep(key, address) {
  try {
    localStorage.setItem(key, address);
  } catch {
    // then it begins anew after the page was loaded anew
  }
}

function forget(key) {
  try {
    localStorage.removeItem(key);
  } catch {
    // nothing is kept
  }
}
