/* The panel in which a seat's owner lets others watch their desktop, or use it, and ends it. A link is shown once: the gate
   keeps what knows it again, and not the link. */

import { inLanguage, say, sayMany } from "./words.js";

const LIMIT = 10000; /* milliseconds that an answer may take */
const EVERY = 10000; /* milliseconds between two looks at who came, while the panel is open */

export class Share {
  /* `shares` is the address of the gate's list, `token` what its forms carry. */
  constructor(panel, { shares, token }) {
    this._panel = panel;
    this._address = shares;
    this._token = token;
    this._part("new").addEventListener("click", () => this._new());
    this._part("copy").addEventListener("click", () => this._copy());
    panel.querySelector("input[value=view]").checked = true;
    new MutationObserver(() => this._opened()).observe(panel, { attributeFilter: ["hidden"] });
  }

  _part(name) { return this._panel.querySelector(`[data-share=${name}]`); }

  _opened() {
    clearInterval(this._timer);
    this._part("made").hidden = true;
    this._panel.querySelector("#share-address").value = "";
    this._say("");
    if (this._panel.hidden) return;
    this._look();
    this._timer = setInterval(() => this._look(), EVERY);
  }

  async _look() {
    const shares = await this._ask(this._address);
    if (shares) this._show(shares);
  }

  async _new() {
    const mode = this._panel.querySelector("input[name=share]:checked").value;
    const answer = await this._ask(this._address, { mode });
    if (!answer) return;
    this._show(answer.shares);
    const field = this._panel.querySelector("#share-address");
    field.value = answer.address;
    this._part("made").hidden = false;
    field.focus();
    field.select();
    this._say(say("Give this link to whom you want to let in."));
  }

  async _copy() {
    const field = this._panel.querySelector("#share-address");
    try {
      await navigator.clipboard.writeText(field.value);
      this._say(say("Copied."));
    } catch {
      field.select();
      this._say(say("The browser does not allow it. The link is marked: please copy it by hand."));
    }
  }

  async _end(id) {
    const shares = await this._ask(`${this._address}/end`, { id });
    if (!shares) return;
    this._show(shares);
    this._part("made").hidden = true;
    this._part("new").focus();
    this._say(say("Ended: whoever came by it is out."));
  }

  _show(shares) {
    this._part("list").replaceChildren(...shares.map((share) => {
      const item = document.createElement("li");
      const words = document.createElement("span");
      const what = share.mode === "view" ? say("Watch") : say("Use it together");
      const came = sayMany(share.visitors, "{count} browser came by it", "{count} browsers came by it");
      words.textContent = `${what} · ${came}`;
      const end = document.createElement("button");
      end.type = "button";
      end.textContent = say("End");
      end.setAttribute("aria-label", say("End: {what}", { what: words.textContent }));
      end.addEventListener("click", () => this._end(share.id));
      item.append(words, end);
      return item;
    }));
  }

  _say(text) { this._part("note").textContent = text; }

  async _ask(address, fields = null) {
    const body = fields && new URLSearchParams({ ...fields, form_token: this._token });
    try {
      const options = body ? { method: "POST", body } : {};
      const answer = await fetch(inLanguage(address), { cache: "no-store", signal: AbortSignal.timeout(LIMIT), ...options });
      const said = await answer.json();
      if (answer.ok) return said;
      this._say(said.error);
    } catch {
      this._say(say("The gate did not answer. Please try again."));
    }
    return null;
  }
}
