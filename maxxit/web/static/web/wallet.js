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
  const wallets = new Map(); // EIP-6963: id -> provider and its name

  window.addEventListener("eip6963:announceProvider", (event) => {
    const { info, provider } = event.detail || {};
    if (info && provider && typeof info.uuid === "string") wallets.set(info.uuid, { name: String(info.name), provider });
  });
  window.dispatchEvent(new Event("eip6963:requestProvider"));

  class Stop extends Error {}

  function say(text, wrong = false) {
    status.textContent = text;
    status.classList.toggle("wrong", wrong);
  }

  const value = (name) => (form && form.elements[name] ? form.elements[name].value : "");

  /* What went wrong in the wallet, in words. Codes: EIP-1193 and EIP-1474. */
  function explain(error, doing) {
    if (error.code === 4001) return `You refused ${doing} in your wallet. Nothing was signed.`;
    if (error.code === -32002) return "Your wallet is already asking you something: open it and answer there.";
    if (error.code === 4100) return "Your wallet does not let this page use that account: connect it in the wallet.";
    if (error.code === 4900 || error.code === 4901) return "Your wallet is not connected to its network. Try again when it is.";
    return `Your wallet could not do it: ${error.message || error}`;
  }

  async function ask(provider, method, params, doing) {
    try {
      return await provider.request(params === undefined ? { method } : { method, params });
    } catch (error) {
      throw new Stop(explain(error, doing));
    }
  }

  async function acceptedChain(provider) {
    const current = Number(await ask(provider, "eth_chainId", undefined, "to say which chain it is on"));
    if (chains.has(current)) return current;
    const [wanted, name] = [...chains][0];
    say(`Your wallet is on chain ${current}. Asking it to switch to ${name} …`);
    try {
      await provider.request({ method: "wallet_switchEthereumChain", params: [{ chainId: `0x${wanted.toString(16)}` }] });
    } catch (error) {
      const list = [...chains].map(([number, title]) => `${title} (${number})`).join(" or ");
      throw new Stop(`Your wallet is on chain ${current}. Switch it to ${list} and try again.`);
    }
    return wanted;
  }

  async function send(url, body) {
    let answer, data;
    try {
      answer = await fetch(url, {
        method: "POST", credentials: "same-origin", redirect: "manual",
        headers: { "Content-Type": "application/json", "X-CSRFToken": document.querySelector("[name=csrfmiddlewaretoken]").value },
        body: JSON.stringify(body),
      });
    } catch {
      throw new Stop("Maxxit cannot be reached. Check your connection and try again.");
    }
    if (answer.type === "opaqueredirect") throw new Stop("Your session has ended. Reload the page and log in again.");
    try { data = await answer.json(); } catch { data = {}; }
    if (answer.ok) return data;
    if (data.field && form && form.elements[data.field]) form.elements[data.field].focus();
    if (!data.message) throw new Stop(`Maxxit answered with status ${answer.status}. Reload the page and try again.`);
    throw new Stop(data.message);
  }

  const hex = (text) => "0x" + [...new TextEncoder().encode(text)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

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
    const chain_id = await acceptedChain(provider);
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
    const found = [...wallets.values()];
    if (!found.length && window.ethereum) found.push({ name: "your wallet", provider: window.ethereum });
    if (!found.length) {
      say("No wallet was found in this browser. Install one, such as MetaMask or Rabby, or open this page in your wallet's own browser.", true);
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
