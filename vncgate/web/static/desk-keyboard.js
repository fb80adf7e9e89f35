/* The keyboard of a touch screen: an unseen text field brings it up, and what appears in the field is typed. */

import Keyboard from "./novnc/core/input/keyboard.js";
import keysyms from "./novnc/core/input/keysymdef.js";
import { edits } from "./desk-typing.js";

const RETURN = 0xff0d;
const BACKSPACE = 0xff08;
/* Something to delete must always stand in the field, or the keyboard sends no Backspace. */
const FILLING = "_".repeat(100);

export class TouchKeyboard {
  /* `send(keysym, code, down)` sends a key to the desktop (down left out: press and release), `typed()` is called after
     each change of the text, `changed(shown)` when the keyboard comes or goes. */
  constructor(field, { send, typed, changed }) {
    this._field = field;
    this._send = send;
    this._typed = typed;
    // Keys that do come as keys (a real keyboard, arrows, Enter) are noVNC's.
    const keys = new Keyboard(field);
    keys.onkeyevent = send;
    field.addEventListener("focus", () => { this._refill(); keys.grab(); changed(true); });
    field.addEventListener("blur", () => { keys.ungrab(); changed(false); });
    field.addEventListener("input", (event) => this._input(event));
    field.addEventListener("compositionend", () => this._trim());
  }

  get shown() { return document.activeElement === this._field; }

  toggle() {
    if (this.shown) this._field.blur();
    else this._field.focus({ preventScroll: true });
  }

  _input(event) {
    const { backspaces, text } = edits(this._before, this._field.value);
    this._before = this._field.value;
    for (let i = 0; i < backspaces; i += 1) this._send(BACKSPACE, "Backspace");
    for (const character of text) {
      if (character === "\n") this._send(RETURN, "Enter");
      else this._send(keysyms.lookup(character.codePointAt(0)));
    }
    if (backspaces || text) this._typed();
    if (!event.isComposing) this._trim();
  }

  /* A field that ran empty or full is filled anew, but never under a word that is being composed. */
  _trim() {
    const { length } = this._field.value;
    if (length === 0 || length > 2 * FILLING.length) this._refill();
  }

  _refill() {
    this._field.value = FILLING;
    this._before = FILLING;
    this._field.setSelectionRange(FILLING.length, FILLING.length);
  }
}
