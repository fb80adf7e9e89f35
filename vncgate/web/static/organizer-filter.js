/* The filter box above a table whose rows the server wrote. */

import { sayMany } from "./words.js";

const plain = (text) => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();

/* Show only the rows of a table in which all words stand, and of which `keeps(row)` is true. Returns the function that
   does it again. */
export function filtered(keeps = () => true) {
  const input = document.getElementById("filter-text");
  const count = document.querySelector("[data-part=count]");
  const rows = [...document.querySelectorAll("tbody tr")];
  const texts = new Map(rows.map((row) => [row, plain(row.textContent)]));
  const apply = () => {
    const words = plain(input.value).split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      row.hidden = !(keeps(row) && words.every((word) => texts.get(row).includes(word)));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = sayMany(shown, "{count} line", "{count} lines");
  };
  input.addEventListener("input", apply);
  window.addEventListener("pageshow", apply); // browsers fill in what was typed before a reload
  slash(input);
  return apply;
}

/* The key / goes to the filter, Escape clears it. */
export function slash(input) {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
    if (event.key === "/" && !event.target.matches("input, textarea, select")) {
      event.preventDefault();
      input.focus();
    } else if (event.key === "Escape" && event.target === input && input.value) {
      event.preventDefault();
      input.value = "";
      input.dispatchEvent(new Event("input"));
    }
  });
}
