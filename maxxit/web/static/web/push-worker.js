/* Shows the notifications that arrive for this browser, also while no page is open. */
"use strict";
self.addEventListener("push", (event) => {
  const message = event.data.json();
  event.waitUntil(
    self.registration.showNotification(message.title, {
      body: message.text,
      tag: message.id,  // a second copy of a message replaces the first
      requireInteraction: message.severity === "critical",
      timestamp: Date.parse(message.at),
      icon: "/static/web/icon.svg",
    }),
  );
});
self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  event.waitUntil(self.clients.openWindow("/notifications#log"));
});
