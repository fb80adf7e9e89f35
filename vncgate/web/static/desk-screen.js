/* How the desktop is shown: its size, its picture's quality, full screen. The choice is kept for the next visit. */

const STORE = "vncgate.desk";
/* JPEG quality and compression effort of noVNC, 0-9 each. */
const QUALITY = {
  best: { quality: 9, compression: 2 },
  balanced: { quality: 6, compression: 2 },
  slow: { quality: 1, compression: 6 },
};

export class Screen {
  constructor(desk) {
    this._desk = desk;
    this._drag = desk.querySelector("[data-do=drag]");
    this._choice = { size: "scale", quality: "balanced", ...stored() };
    for (const input of desk.querySelectorAll("[name=size], [name=quality]")) {
      input.checked = this._choice[input.name] === input.value;
      input.addEventListener("change", () => this._choose(input.name, input.value));
    }
    this._full = desk.querySelector("[data-do=full]");
    this._full.hidden = !document.fullscreenEnabled;
    document.addEventListener("fullscreenchange", () => this._full.setAttribute("aria-pressed", String(isFull())));
    window.visualViewport?.addEventListener("resize", () => this._fit());
  }

  /* From now on the choices are for this connection. */
  show(rfb) {
    this._rfb = rfb;
    rfb.background = "transparent";
    rfb.showDotCursor = true; // where the desktop shows no pointer, a person still sees one
    rfb.addEventListener("clippingviewport", () => this._showDrag());
    this._apply();
  }

  /* An on-screen keyboard covers part of the page: the desktop is made to fit, but not told to change its size. */
  keyboard(shown) {
    this._keyboard = shown;
    this._apply();
  }

  drag() {
    this._rfb.dragViewport = !this._rfb.dragViewport;
    this._showDrag();
  }

  /* In full screen, keys such as Escape and Ctrl+W are the desktop's where the browser lets them (hold Escape to leave). */
  async full() {
    if (isFull()) {
      await document.exitFullscreen();
      return;
    }
    await document.documentElement.requestFullscreen();
    await navigator.keyboard?.lock?.().catch(() => {}); // without it, full screen is only less complete
  }

  _choose(name, value) {
    this._choice[name] = value;
    try {
      localStorage.setItem(STORE, JSON.stringify(this._choice));
    } catch {
      // A browser that keeps nothing keeps no choice either.
    }
    this._apply();
  }

  _apply() {
    if (!this._rfb) return;
    const { quality, compression } = QUALITY[this._choice.quality] ?? QUALITY.balanced;
    this._rfb.qualityLevel = quality;
    this._rfb.compressionLevel = compression;
    // A server that cannot change its size is scaled instead; one that can fits anyway.
    this._rfb.scaleViewport = this._choice.size !== "actual";
    // A mouse has scroll bars; a finger on the picture belongs to the desktop, so it gets a button for moving it.
    this._rfb.clipViewport = this._choice.size === "actual" && matchMedia("(pointer: coarse)").matches;
    this._rfb.resizeSession = this._choice.size === "remote" && !this._keyboard;
    if (this._choice.size !== "actual") this._rfb.dragViewport = false;
    this._showDrag();
  }

  _showDrag() {
    this._drag.hidden = !this._rfb.clippingViewport;
    this._drag.setAttribute("aria-pressed", String(this._rfb.dragViewport));
  }

  _fit() {
    const { height, scale } = window.visualViewport;
    if (scale === 1) this._desk.style.height = this._keyboard ? `${height}px` : "";
  }
}

function isFull() { return document.fullscreenElement !== null; }

function stored() {
  try {
    return JSON.parse(localStorage.getItem(STORE)) ?? {};
  } catch {
    return {};
  }
}
