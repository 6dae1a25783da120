/* Keys of the labelling page. A label is a form that is sent; the keys choose and send, no more. */
"use strict";
(() => {
  const form = document.getElementById("label");
  if (!form) return;
  const tokens = [...form.querySelectorAll("fieldset")];
  let chosen = 0;
  const mark = () => tokens.forEach((one, at) => one.classList.toggle("mx-chosen", tokens.length > 1 && at === chosen));
  const send = (value) => form.requestSubmit(form.querySelector(`button[name="do"][value="${value}"]`));
  const side = (value) => {
    if (!tokens.length) return;
    tokens[chosen].querySelector(`input[value="${value}"]`).checked = true;
    if (tokens.length === 1) send("sides");
  };
  const keys = {
    l: () => side("long"), s: () => side("short"), n: () => send("none"),
    k: () => document.getElementById("skip").click(), u: () => document.getElementById("undo")?.click(),
    enter: () => tokens.length && send("sides"),
  };
  mark();
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input:not([type=radio]), textarea, select, button, a")) return;
    const key = event.key.toLowerCase();
    if (/^[1-9]$/.test(key) && +key <= tokens.length) { chosen = +key - 1; mark(); return; }
    if (keys[key]) { event.preventDefault(); keys[key](); }
  });
})();
