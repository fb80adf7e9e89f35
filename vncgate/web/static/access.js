// The page with account, PIN and link: printing it. Without a script the browser's own command does.

const button = document.getElementById("print");
button.hidden = false;
button.addEventListener("click", () => window.print());
