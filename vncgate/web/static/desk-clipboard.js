/* Text from one clipboard to the other, by itself where the browser allows it, and by the panel everywhere. */

import { say } from "./words.js";

export class Clipboard {
  /* `send(text)` gives text to the desktop and is true when it was sent. */
  constructor({ text, note, allow }, send) {
    this._text = text;
    this._note = note;
    this._allow = allow;
    this._send = send;
    this._latest = null; // what both sides have; it is not carried back and forth
  }

  /* Learns what the browser allows; call it once. */
  async prepare() {
    if (!navigator.clipboard?.readText) return;
    try {
      const permission = await navigator.permissions.query({ name: "clipboard-read" });
      permission.addEventListener("change", () => this._permitted(permission.state));
      this._permitted(permission.state);
    } catch {
      // A browser that does not know this permission asks at every reading: the panel is quieter.
    }
  }

  _permitted(state) {
    this._automatic = state === "granted";
    this._allow.hidden = state !== "prompt";
  }

  /* The desktop's clipboard has new text. */
  async received(text) {
    this._latest = text;
    this._text.value = text;
    if (!navigator.clipboard?.writeText || !document.hasFocus()) return;
    try {
      await navigator.clipboard.writeText(text);
      this._note.textContent = say("Copied to your own clipboard.");
    } catch {
      this._note.textContent = say("There is new text from the desktop.");
    }
  }

  /* The page has the keyboard again: what was copied elsewhere meanwhile goes to the desktop. */
  async focused() {
    if (!this._automatic || !document.hasFocus()) return;
    try {
      this._offer(await navigator.clipboard.readText());
    } catch {
      // The focus was lost again, or there is no text: there will be another time.
    }
  }

  _offer(text) {
    if (!text || text === this._latest || !this._send(text)) return;
    this._latest = text;
    this._text.value = text;
  }

  /* A person asks that both be kept the same: the browser asks for its permission now. */
  async allow() {
    try {
      this._offer(await navigator.clipboard.readText());
    } catch {
      this._note.textContent = say("The browser does not allow it. Use the field above.");
    }
  }

  sendText() {
    if (!this._send(this._text.value)) return;
    this._latest = this._text.value;
    this._note.textContent = say("Sent. Paste it in the desktop.");
  }

  async copyText() {
    try {
      await navigator.clipboard.writeText(this._text.value);
    } catch {
      this._text.select();
      // The only way on a page without TLS, where navigator.clipboard does not exist.
      if (!document.execCommand("copy")) {
        this._note.textContent = say("Press Ctrl+C to copy the marked text.");
        return;
      }
    }
    this._note.textContent = say("Copied to your own clipboard.");
  }
}
