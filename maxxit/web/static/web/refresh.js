/* Refreshes the part of a page that is marked with data-refresh every few seconds, while it is marked as under way. */
"use strict";
(() => {
  const place = document.querySelector("[data-refresh]");
  const status = document.getElementById("refresh-status");
  const REFRESH_MS = 5000;
  const underWay = () => place.querySelector("[data-under-way]") !== null;

  async function refresh() {
    if (document.hidden) return;
    try {
      const answer = await fetch(place.dataset.refresh, { credentials: "same-origin", redirect: "error" });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      place.innerHTML = await answer.text();
      status.textContent = "";
      if (!underWay()) clearInterval(timer);
    } catch (error) {
      status.textContent = `Not refreshed: ${error.message}`;
    }
  }

  const timer = underWay() ? setInterval(refresh, REFRESH_MS) : null;
})();
