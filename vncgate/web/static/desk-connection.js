/* One connection to a desktop: a WebSocket of ours with noVNC's RFB on it, told as the session's events. */

import RFB from "./novnc/core/rfb.js";

export class Connection {
  /* Opens at once. `tell(event)` gets opened, asked, connected, refused and closed; nothing after hangup(), after
     refused or after closed. `show` is called with the RFB before anything can arrive. */
  constructor(screen, address, password, { tell, show }) {
    this._tell = tell;
    this._closing = { code: 1006, reason: "" };
    const socket = new WebSocket(address);
    socket.binaryType = "arraybuffer";
    // These are registered before noVNC's, so the close code is known when noVNC says that it is disconnected.
    socket.addEventListener("open", () => this._say({ type: "opened" }));
    socket.addEventListener("close", ({ code, reason }) => { this._closing = { code, reason }; });
    this.rfb = new RFB(screen, socket, { shared: true });
    releaseTwice(this.rfb);
    // noVNC 1.7 looks at nothing behind the server's version until something else comes; a desktop that refuses
    // everybody sends its version and its reason at once, and then nothing more. An empty message makes it look.
    socket.addEventListener("message", () => {
      socket.dispatchEvent(new MessageEvent("message", { data: new ArrayBuffer(0) }));
    }, { once: true });
    show(this.rfb);
    // The password is given when it is asked for and not before: so a refusal before it is told from one after it.
    this.rfb.addEventListener("credentialsrequired", () => {
      this._say({ type: "asked" });
      this.rfb.sendCredentials({ username: "", password });
    });
    // The gate holds the other end; a key that a person cannot compare with anything is not put before one.
    this.rfb.addEventListener("serververification", () => this.rfb.approveServer());
    this.rfb.addEventListener("connect", () => this._say({ type: "connected" }));
    this.rfb.addEventListener("securityfailure", ({ detail }) => {
      this._say({ type: "refused", reason: detail.reason ?? "" }, true);
    });
    this.rfb.addEventListener("disconnect", () => {
      this._say({ type: "closed", ...this._closing, online: navigator.onLine }, true);
    });
  }

  /* Ends the connection, if it has not ended by itself. */
  hangup() {
    if (!this._tell) return;
    this._tell = null;
    this.rfb.disconnect();
  }

  _say(event, last = false) {
    const tell = this._tell;
    if (last) this._tell = null;
    tell?.(event);
  }
}

/* With the first picture noVNC changes over to messages that have a key's place on the keyboard, too, and TigerVNC knows a
   release only in the kind of message that the press came in: a key that was down meanwhile would stay down. */
function releaseTwice(rfb) {
  const send = rfb.sendKey.bind(rfb);
  rfb.sendKey = (keysym, code, down) => {
    send(keysym, code, down);
    if (down === false) send(keysym, "", false);
  };
}
