/* Every page: a form is sent once, drafts of marked forms survive an expired session, the browser's time zone is sent. */
"use strict";
(() => {
  const DRAFT = "draft:";
  const user = document.body.dataset.user || "";
  const store = (() => {
    try { return window.sessionStorage; } catch { return null; }
  })();

  for (const field of document.querySelectorAll("input[data-time-zone]")) {
    field.value = Intl.DateTimeFormat().resolvedOptions().timeZone || "";
  }

  // A second click while the first is under way does nothing. The buttons are disabled after the browser has read them.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post" || event.defaultPrevented) return;
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "1";
    setTimeout(() => {
      for (const button of form.querySelectorAll("button:enabled")) {
        button.disabled = true;
        button.dataset.held = "1";
      }
    }, 0);
  });
  window.addEventListener("pageshow", () => { // the page came back from the history
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
    for (const button of document.querySelectorAll("button[data-held]")) {
      button.disabled = false;
      delete button.dataset.held;
    }
  });

  // A part of a page is replaced while nothing is pressed: an element that goes away between press and release gets no click.
  // After two seconds it is replaced all the same: the release over a button that was disabled meanwhile is not reported.
  const LONGEST_MS = 2000;
  const waiting = [];
  let pressed = false;
  let timer;
  function release() {
    pressed = false;
    clearTimeout(timer); // a later press has its own
    for (const go of waiting.splice(0)) go();
  }
  document.addEventListener("pointerdown", () => { pressed = true; }, true);
  for (const end of ["pointerup", "pointercancel"]) {
    document.addEventListener(end, () => setTimeout(release, 0), true); // after the click, which follows in the same task
  }
  window.maxxitReleased = () => (pressed ? new Promise((resolve) => {
    waiting.push(resolve);
    clearTimeout(timer);
    timer = setTimeout(release, LONGEST_MS);
  }) : Promise.resolve());

  if (!store) return;
  const key = (form) => `${DRAFT}${user}:${form.dataset.draft}`;
  const kept = (form) => [...form.elements].filter((field) =>
    field.name && !["password", "hidden", "file", "submit", "button"].includes(field.type) && field.type !== undefined);
  const value = (field) => ["checkbox", "radio"].includes(field.type) ? field.checked : field.value;
  const identity = (field) => ["checkbox", "radio"].includes(field.type) ? `${field.name}=${field.value}` : field.name;

  function save(form) {
    store.setItem(key(form), JSON.stringify(Object.fromEntries(kept(form).map((field) => [identity(field), value(field)]))));
  }

  function restore(form) {
    const draft = store.getItem(key(form));
    if (!draft) return;
    if (form.querySelector(".errorlist")) { // the server sent back what was typed
      save(form);
      return;
    }
    const values = JSON.parse(draft);
    let changed = false;
    for (const field of kept(form)) {
      const was = values[identity(field)];
      if (was === undefined || was === value(field)) continue;
      if (typeof was === "boolean") field.checked = was; else field.value = was;
      changed = true;
    }
    if (!changed) return;
    const note = document.createElement("p");
    note.className = "notice";
    note.setAttribute("role", "status");
    note.textContent = "What you typed before is back. ";
    const discard = document.createElement("button");
    discard.type = "button";
    discard.className = "plain";
    discard.textContent = "Discard it";
    discard.addEventListener("click", () => {
      store.removeItem(key(form));
      form.reset();
      note.remove();
    });
    note.append(discard);
    form.prepend(note);
  }

  for (const saved of document.querySelectorAll("[data-saved]")) {
    if (saved.dataset.saved) store.removeItem(`${DRAFT}${user}:${saved.dataset.saved}`);
  }
  for (const form of document.querySelectorAll("form[data-draft]")) {
    restore(form);
    form.addEventListener("input", () => save(form));
    form.addEventListener("change", () => save(form));
  }
  for (const form of document.querySelectorAll("form[data-log-out]")) {
    form.addEventListener("submit", () => {
      for (const name of Object.keys(store)) if (name.startsWith(DRAFT)) store.removeItem(name);
    });
  }
})();
