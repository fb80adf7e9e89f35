/* A link to files: its token goes from the address, where it would stay in the history, into the form. */

const form = document.getElementById("take");
const token = location.hash.slice(1);
if (token) {
  sessionStorage.setItem("vncgate.take", token);
  history.replaceState(null, "", location.pathname + location.search);
}
form.elements.namedItem("token").value = sessionStorage.getItem("vncgate.take") ?? "";
