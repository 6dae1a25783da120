/* Log in, sign up and link with a wallet (EIP-4361): asks the wallet for an account, a chain and a signature. */
"use strict";
(() => {
  const place = document.querySelector("[data-wallet]");
  if (!place) return;
  const form = place.closest("form");
  const start = place.querySelector("[data-wallet-start]");
  const buttons = start.parentElement;
  const status = place.querySelector("[data-wallet-status]");
  const chains = new Map([...place.querySelector("template").content.querySelectorAll("option")]
    .map((option) => [Number(option.value), option.textContent]));
  const { Stop, ask, hex } = maxxitWallet;

  function say(text, wrong = false) {
    status.textContent = text;
    status.classList.toggle("wrong", wrong);
  }

  const value = (name) => (form && form.elements[name] ? form.elements[name].value : "");

  async function send(url, body) {
    try {
      return await maxxitWallet.send(url, body);
    } catch (error) {
      if (error.field && form && form.elements[error.field]) form.elements[error.field].focus();
      throw error;
    }
  }

  async function sign(provider) {
    const purpose = place.dataset.purpose;
    const about = { purpose };
    if (purpose === "sign-up") Object.assign(about, { username: value("username").trim(), invitation: value("invitation") });
    if (purpose === "sign-up" && !about.username) {
      form.elements.username.focus();
      throw new Stop("Choose a user name first.");
    }
    say("Waiting for your wallet …");
    const [address] = await ask(provider, "eth_requestAccounts", undefined, "to connect");
    if (!address) throw new Stop("Your wallet has no account for this page: connect one in the wallet.");
    const chain_id = await maxxitWallet.acceptedChain(provider, chains, say);
    const { message } = await send(place.dataset.messageUrl, { ...about, address, chain_id });
    say("Sign the message in your wallet. It costs nothing and moves no money.");
    const signature = await ask(provider, "personal_sign", [hex(message), address], "to sign");
    say("Checking the signature …");
    const done = await send(place.dataset.answerUrl, {
      ...about, message, signature,
      otp_token: value("otp_token"), time_zone: value("time_zone"), next: place.dataset.next,
    });
    say("Done.");
    window.location.assign(done.next);
  }

  let busy = false;
  async function run(provider) {
    if (busy) return;
    busy = true;
    for (const button of buttons.children) button.disabled = true;
    try {
      await sign(provider);
    } catch (error) {
      say(error instanceof Stop ? error.message : `Something went wrong: ${error.message}`, true);
      for (const button of buttons.children) button.disabled = false;
      busy = false;
    }
  }

  function choose() {
    const found = maxxitWallet.found();
    if (!found.length) {
      say(maxxitWallet.NONE, true);
      return;
    }
    if (found.length === 1) {
      run(found[0].provider);
      return;
    }
    say("Choose a wallet.");
    buttons.replaceChildren(...found.map(({ name, provider }) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "second";
      button.textContent = `Use ${name}`;
      button.addEventListener("click", () => run(provider));
      return button;
    }));
    buttons.firstElementChild.focus();
  }
  start.addEventListener("click", choose);
  window.addEventListener("pageshow", (event) => { // the page came back from the history
    if (!event.persisted) return;
    busy = false;
    for (const button of buttons.children) button.disabled = false;
    say("");
  });
})();
