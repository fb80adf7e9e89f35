/* Keys that a keyboard does not send as keys: text from an on-screen keyboard, and modifiers that stay down. Pure. */

/* What turns the text that was `before` into `after` for somebody who can only press Backspace and type at its end:
   {backspaces, text}. Autocorrection and composition rewrite what stands there; characters are code points. */
export function edits(before, after) {
  const [old, now] = [Array.from(before), Array.from(after)];
  let same = 0;
  while (same < old.length && same < now.length && old[same] === now[same]) same += 1;
  return { backspaces: old.length - same, text: now.slice(same).join("") };
}

export const MODIFIERS = {
  ctrl: { keysym: 0xffe3, code: "ControlLeft" },
  alt: { keysym: 0xffe9, code: "AltLeft" },
  shift: { keysym: 0xffe1, code: "ShiftLeft" },
  super: { keysym: 0xffeb, code: "MetaLeft" },
};

/* Sticky modifiers: off, then "once" (down until the next key), then "held" (down until pressed again), then off.
   `send(name, down)` is called when one goes down or up. */
export class Sticky {
  constructor(send) {
    this._send = send;
    this.state = Object.fromEntries(Object.keys(MODIFIERS).map((name) => [name, "off"]));
  }

  press(name) {
    const next = { off: "once", once: "held", held: "off" }[this.state[name]];
    this.state[name] = next;
    if (next === "once") this._send(name, true);
    if (next === "off") this._send(name, false);
  }

  /* A key that is no modifier was typed: what was down for one key goes up. True when something did. */
  used() {
    return this._lift((state) => state === "once");
  }

  /* Everything goes up. True when something did. */
  release() {
    return this._lift((state) => state !== "off");
  }

  _lift(which) {
    const names = Object.keys(this.state).filter((name) => which(this.state[name]));
    for (const name of names) {
      this.state[name] = "off";
      this._send(name, false);
    }
    return names.length > 0;
  }
}
