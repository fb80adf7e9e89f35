/* The page's texts, in its language. They stand in the code in English; the module words/CODE.js, which a page in another
   language loads before its own, tells the others.

   The first argument is a text between double quotes, on the line of say( itself or the next: the catalogues' are found
   by it, and a test sees to it that there are no others. */

let language = "";
let texts = {};
let form = (n) => Number(n !== 1);

/* Called by words/CODE.js: a table of texts, each one or a list with one for each form of a count, and gettext's rule for
   which of them a count has. */
export function learn(code, rule, table) {
  language = code;
  form = rule;
  texts = table;
}

/* The text, with `values` for its {names}. */
export function say(text, values = {}) {
  return filled(texts[text] ?? text, values);
}

/* The text for a count, which is its {count}. */
export function sayMany(count, one, many, values = {}) {
  const forms = texts[one] ?? [one, many];
  return filled(forms[texts[one] ? form(count) : Number(count !== 1)], { count, ...values });
}

/* What Intl is to be asked for: English's dates are 6 March, and hours go to 24. */
export function locale() {
  return language === "" || language === "en" ? "en-GB" : language;
}

/* An address of the API, which then answers in the page's language. The cookie may say another by now. */
export function inLanguage(address) {
  if (!language) return address;
  return `${address}${address.includes("?") ? "&" : "?"}lang=${language}`;
}

function filled(text, values) {
  return text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}
