/* The wallet of this browser (EIP-1193, EIP-6963), for the scripts that need one: finding it, asking it, its errors in words. */
"use strict";
const maxxitWallet = (() => {
  const announced = new Map(); // EIP-6963: id -> provider and its name

  window.addEventListener("eip6963:announceProvider", (event) => {
    const { info, provider } = event.detail || {};
    if (info && provider && typeof info.uuid === "string") announced.set(info.uuid, { name: String(info.name), provider });
  });
  window.dispatchEvent(new Event("eip6963:requestProvider"));

  /* What a person has to know; everything else is a defect. */
  class Stop extends Error {}

  const NONE = "No wallet was found in this browser. Install one, such as MetaMask or Rabby, or open this page in your wallet's own browser.";

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

  /* Make sure that the wallet is on one of `chains` (id -> name); return the id. */
  async function acceptedChain(provider, chains, say) {
    const current = Number(await ask(provider, "eth_chainId", undefined, "to say which chain it is on"));
    if (chains.has(current)) return current;
    const [wanted, name] = [...chains][0];
    say(`Your wallet is on chain ${current}. Asking it to switch to ${name} …`);
    try {
      await provider.request({ method: "wallet_switchEthereumChain", params: [{ chainId: `0x${wanted.toString(16)}` }] });
    } catch {
      const list = [...chains].map(([number, title]) => `${title} (${number})`).join(" or ");
      throw new Stop(`Your wallet is on chain ${current}. Switch it to ${list} and try again.`);
    }
    return wanted;
  }

  /* The wallets that were found: [{name, provider}]. */
  function found() {
    const list = [...announced.values()];
    if (!list.length && window.ethereum) list.push({ name: "your wallet", provider: window.ethereum });
    return list;
  }

  /* POST JSON to this site and return its answer. Raises Stop with the server's sentence. */
  async function send(url, body) {
    let answer, data;
    try {
      answer = await fetch(url, {
        method: "POST", credentials: "same-origin", redirect: "manual",
        headers: { "Content-Type": "application/json", "X-CSRFToken": document.querySelector("[name=csrfmiddlewaretoken]").value },
        body: JSON.stringify(body),
      });
    } catch {
      throw Object.assign(new Stop("Maxxit cannot be reached. Check your connection and try again."), { offline: true });
    }
    if (answer.type === "opaqueredirect") throw new Stop("Your session has ended. Reload the page and log in again.");
    try { data = await answer.json(); } catch { data = {}; }
    if (answer.ok) return data;
    const message = data.message || `Maxxit answered with status ${answer.status}. Reload the page and try again.`;
    throw Object.assign(new Stop(message), { field: data.field, code: data.code, busy: answer.status === 503 });
  }

  const hex = (text) => "0x" + [...new TextEncoder().encode(text)].map((byte) => byte.toString(16).padStart(2, "0")).join("");

  return { Stop, NONE, ask, acceptedChain, explain, found, hex, send };
})();
