/* The toolbar over the desktop: folds away by itself, opens panels, and is reached and left by keyboard. */

const FOLD_AFTER = 4000; /* milliseconds that it stays after it came up by itself */

export class Toolbar {
  /* `back()` gives the desktop the keyboard. */
  constructor(bar, desk, back) {
    this._bar = bar;
    this._back = back;
    this._handle = bar.querySelector(".handle");
    this._openers = [...bar.querySelectorAll("[data-panel]")];
    for (const opener of this._openers) {
      this._panel(opener).tabIndex = -1;
      opener.addEventListener("click", () => this._toggle(opener));
    }
    this._handle.addEventListener("click", () => this.fold(!this.folded));
    // A press on a button takes the keyboard from nobody: what is typed next goes where it went before.
    bar.addEventListener("mousedown", (event) => {
      if (!event.target.closest("textarea, label, input")) event.preventDefault();
    });
    bar.addEventListener("keydown", (event) => this._key(event));
    bar.addEventListener("pointerenter", () => clearTimeout(this._timer));
    desk.querySelector(".desk-screen").addEventListener("pointerdown", () => {
      if (this._keysOpen) this._closeAll("keys");
      else this.fold(true);
    });
    this._listenForChord();
  }

  get _keysOpen() { return !document.getElementById("panel-keys").hidden; }

  get folded() { return "folded" in this._bar.dataset; }

  fold(folded) {
    clearTimeout(this._timer);
    if (folded) this._closeAll();
    this._bar.toggleAttribute("data-folded", folded);
    this._handle.setAttribute("aria-expanded", String(!folded));
  }

  /* The desktop is there. The first time, the tools are shown for a moment, so that everybody has seen where they are. */
  show() {
    this._bar.hidden = false;
    if (this._greeted) return;
    this._greeted = true;
    this.fold(false);
    this._timer = setTimeout(() => {
      const used = this._bar.matches(":focus-within") || this._openers.some((each) => !this._panel(each).hidden);
      if (!used) this.fold(true);
    }, FOLD_AFTER);
  }

  hide() {
    this.fold(true);
    this._bar.hidden = true;
  }

  _panel(opener) { return document.getElementById(`panel-${opener.dataset.panel}`); }

  _toggle(opener) {
    const open = this._panel(opener).hidden;
    this._closeAll();
    this._set(opener, open);
    clearTimeout(this._timer);
    // The keys go with what is typed into the desktop; every other panel takes the keyboard, so that Escape closes it.
    if (open && opener.dataset.panel !== "keys") this._panel(opener).focus();
    else if (!open && !this._bar.matches(":focus-within")) this._back();
  }

  _set(opener, open) {
    this._panel(opener).hidden = !open;
    opener.setAttribute("aria-expanded", String(open));
  }

  _closeAll(but) {
    for (const opener of this._openers) if (opener.dataset.panel !== but) this._set(opener, false);
  }

  _key(event) {
    if (event.key === "Escape") {
      const open = this._openers.find((opener) => !this._panel(opener).hidden);
      event.preventDefault();
      if (!open) {
        this.fold(true);
        this._back();
        return;
      }
      this._closeAll();
      open.focus();
    }
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !event.target.closest(".bar-row")) return;
    const tools = [...this._bar.querySelectorAll(".bar-row .tool")].filter((tool) => tool.offsetParent);
    tools[(tools.indexOf(event.target) + step + tools.length) % tools.length].focus();
  }

  /* Ctrl+Alt+Shift, pressed and let go without another key, is the one thing that the desktop does not get. */
  _listenForChord() {
    let armed = false;
    const modifier = (event) => /^(Control|Alt|Shift)(Left|Right)$/.test(event.code);
    window.addEventListener("keydown", (event) => {
      if (event.repeat) return;
      armed = modifier(event) && event.ctrlKey && event.altKey && event.shiftKey;
    }, true);
    window.addEventListener("keyup", (event) => {
      if (!armed || !modifier(event) || this._bar.hidden) return;
      armed = false;
      this.fold(false);
      this._bar.querySelector(".warning:not([hidden]) button:not([hidden]), .bar-row .tool").focus();
    }, true);
  }
}
