/* The button that subscribes this browser to notifications. */
"use strict";
(() => {
  const form = document.querySelector("[data-push-key]");
  if (!form || !("serviceWorker" in navigator) || !("PushManager" in window)) return;
  const button = form.querySelector("button");
  const status = form.querySelector("[role=status]");
  form.hidden = false;

  const bytes = (text) =>
    Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (sign) => sign.charCodeAt(0));

  button.addEventListener("click", async () => {
    button.disabled = true;
    status.textContent = "";
    try {
      if ((await Notification.requestPermission()) !== "granted")
        throw new Error("this browser does not allow notifications of this site: change that in its settings");
      await navigator.serviceWorker.register("/push-worker.js");
      const worker = await navigator.serviceWorker.ready;
      await (await worker.pushManager.getSubscription())?.unsubscribe();  // it may be for another key
      const subscription = await worker.pushManager.subscribe({
        userVisibleOnly: true,
        applicationServerKey: bytes(form.dataset.pushKey),
      });
      form.elements.address.value = JSON.stringify(subscription);
      form.submit();
    } catch (error) {
      status.textContent = `Not subscribed: ${error.message}.`;
      button.disabled = false;
    }
  });
})();
