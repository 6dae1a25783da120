/* Refreshes the part of a page that is marked with data-refresh every few seconds, while it is marked as under way. */
"use strict";
(() => {
  const place = document.querySelector("[data-refresh]");
  const status = document.getElementById("refresh-status");
  const REFRESH_MS = 5000;
  const underWay = () => place.querySelector("[data-under-way]") !== null;

  async function refresh() {
    if (document.hidden || place.querySelector("details[data-hold][open]")) return;  // a person is deciding on what it shows
    try {
      const answer = await fetch(place.dataset.refresh, { credentials: "same-origin", redirect: "error" });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const html = await answer.text();
      await window.maxxitReleased();
      const open = new Set([...place.querySelectorAll("details[id][open]")].map((one) => one.id));
      const focused = place.contains(document.activeElement) ? document.activeElement.id : "";
      place.innerHTML = html;
      for (const one of place.querySelectorAll("details[id]")) one.open = open.has(one.id);
      if (focused) document.getElementById(focused)?.focus();
      status.textContent = "";
      if (!underWay()) clearInterval(timer);
    } catch (error) {
      status.textContent = `Not refreshed: ${error.message}`;
    }
  }

  const timer = underWay() ? setInterval(refresh, REFRESH_MS) : null;
})();
