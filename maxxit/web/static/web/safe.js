/* The pages that sign for a Safe: setting one up, and Wallet. Each action asks the wallet; the state comes from the server. */
"use strict";
(() => {
  const place = document.querySelector("[data-safe]");
  if (!place) return;
  const status = document.getElementById("safe-status");
  const { Stop, ask, hex } = maxxitWallet;
  const POLL_MS = 3000;
  let busy = false;
  let asked = ""; // id of the button of the last action

  function say(text, wrong = false) {
    status.textContent = text;
    status.classList.toggle("wrong", wrong);
  }

  /* Show the state that the server rendered; keep what is open and what is typed. */
  function show(html) {
    if (html === undefined) return;
    const open = new Set([...place.querySelectorAll("details[id][open]")].map((part) => part.id));
    const focused = place.contains(document.activeElement) ? document.activeElement.id : "";
    place.innerHTML = html;
    for (const part of place.querySelectorAll("details[id]")) if (open.has(part.id)) part.open = true;
    if (focused) document.getElementById(focused)?.focus();
  }

  /* The hash of a transaction whose report to the server was lost is kept in this browser until it arrives. */
  const lost = (() => {
    const key = `sent:${location.pathname}`;
    const store = (() => { try { return window.localStorage; } catch { return null; } })();
    return {
      get: () => store?.getItem(key) || "",
      set: (hash) => store?.setItem(key, hash),
      clear: () => store?.removeItem(key),
    };
  })();

  async function report(url, hash) {
    lost.set(hash);
    const answer = await maxxitWallet.send(url, { hash });
    lost.clear();
    return answer;
  }

  /* The wallet to use. Where there are several a person chooses, and the action begins anew. */
  function provider() {
    const wallets = maxxitWallet.found();
    if (!wallets.length) throw new Stop(maxxitWallet.NONE);
    const chosen = wallets.find((wallet) => wallet.name === place.dataset.wallet);
    if (wallets.length === 1 || chosen) return (chosen || wallets[0]).provider;
    const choice = document.querySelector("[data-wallets]");
    choice.replaceChildren(...wallets.map(({ name }) => {
      const button = document.createElement("button");
      button.type = "button";
      button.className = "second";
      button.textContent = `Use ${name}`;
      button.addEventListener("click", () => {
        place.dataset.wallet = name;
        choice.replaceChildren();
        document.getElementById(asked)?.click();
      });
      return button;
    }));
    choice.firstElementChild.focus();
    throw new Stop("Choose a wallet first.");
  }

  const chains = (where) => new Map([[Number(where.chain), where.chainName]]);

  async function account(source) {
    say("Waiting for your wallet …");
    const [address] = await ask(source, "eth_requestAccounts", undefined, "to connect");
    if (!address) throw new Stop("Your wallet has no account for this page: connect one in the wallet.");
    return address;
  }

  const coins = (wei) => (Number(BigInt(wei) / 10n ** 12n) / 1e6).toPrecision(3);

  /* Why the chain would refuse the transaction, or what it needs. Wallets word it in their own ways. */
  function refused(error, where) {
    const text = String(error.data?.message || error.message || error);
    if (/insufficient funds/i.test(text)) return new Stop(`Your wallet has not enough ${where.coin} for gas. Send it some and try again.`);
    if (/Create2/.test(text)) return new Stop("This Safe exists already: check the chain.");
    if (/GS013|GS000/.test(text)) return new Stop("The chain refuses it: a call inside your Safe fails. Check again, or choose another Safe.");
    if (/GS02[0-6]/.test(text)) return new Stop("The chain refuses it: this account is not the owner of the Safe.");
    if (/transfer amount exceeds|BALANCE|STF/i.test(text)) return new Stop("Your wallet has not enough USDC for this.");
    return new Stop(`The chain refuses it: ${text}`);
  }

  /* Send a transaction from the account `from` on the chain `where`; return its hash. */
  async function transact(call, where, doing) {
    const source = provider();
    const address = await account(source);
    if (address.toLowerCase() !== call.from.toLowerCase()) {
      throw new Stop(`Your wallet uses ${address}, and ${call.from} has to sign. Choose that account in your wallet and try again.`);
    }
    await maxxitWallet.acceptedChain(source, chains(where), say);
    const transaction = { from: address, to: call.to, data: call.data, value: "0x0" };
    let gas;
    try {
      gas = BigInt(await source.request({ method: "eth_estimateGas", params: [transaction] }));
    } catch (error) {
      throw refused(error, where);
    }
    const [price, balance] = await Promise.all([
      ask(source, "eth_gasPrice", undefined, "to read the price of gas"),
      ask(source, "eth_getBalance", [address, "latest"], "to read your balance"),
    ]);
    const limit = gas + gas / 5n, needed = limit * BigInt(price);
    if (BigInt(balance) < needed) {
      throw new Stop(`Your wallet has ${coins(balance)} ${where.coin}, and this needs about ${coins(needed)} ${where.coin} for gas. Send some to ${address} and try again.`);
    }
    say(`${doing} Gas costs about ${coins(gas * BigInt(price))} ${where.coin}.`);
    try {
      return await source.request({ method: "eth_sendTransaction", params: [{ ...transaction, gas: `0x${limit.toString(16)}` }] });
    } catch (error) {
      if (error.code === 4001) throw new Stop(maxxitWallet.explain(error, "to sign"));
      if (/insufficient funds/i.test(error.message || "")) throw refused(error, where);
      throw new Stop(maxxitWallet.explain(error, "to sign"));
    }
  }

  const urls = place.dataset;
  const own = (button) => ({ from: button.dataset.from, to: button.dataset.to, data: button.dataset.data });

  const ACTS = {
    async connect(_, where) {
      const source = provider();
      const owner = await account(source);
      await maxxitWallet.acceptedChain(source, chains(where), say);
      say("Preparing your Safe …");
      show((await maxxitWallet.send(urls.planNew, { owner })).html);
      say("");
    },
    async existing() {
      const field = document.getElementById("safe-address"), safe = field.value.trim();
      if (!safe) {
        field.focus();
        throw new Stop("Enter the address of your Safe.");
      }
      say("Reading your Safe …");
      let answer = await maxxitWallet.send(urls.planExisting, { safe });
      if (answer.step === "consent") {
        const source = provider();
        const address = await account(source);
        say("Sign the message that lets this agent plan for your Safe. It costs nothing and moves no money.");
        const signature = await ask(source, "personal_sign", [hex(answer.text), address], "to sign");
        say("Checking the signature …");
        answer = await maxxitWallet.send(urls.planExisting, { safe, signature });
      }
      show(answer.html);
      say("");
    },
    async sign(button, where) {
      const hash = await transact(own(button), where, "Confirm the transaction in your wallet.");
      say("Sent. Waiting for a block …");
      show((await report(urls.sent, hash)).html);
      say("");
    },
    async transfer(button, where) {
      await transact(own(button), where, "Confirm the transfer in your wallet.");
      say("Sent. The balance appears here when a block has it.");
    },
    async check() {
      say("Looking at the chain …");
      show((await maxxitWallet.send(urls.check, {})).html);
      say("");
    },
    async forget() {
      show((await maxxitWallet.send(urls.forget, {})).html);
      say("");
    },
    async revoke(button, where) {
      say("Preparing the transaction …");
      const { owners, send } = await maxxitWallet.send(button.dataset.revoke, {});
      if (!send) throw new Stop("Several owners have to sign: download the file and import it in Safe's Transaction Builder.");
      const hash = await transact({ from: owners[0], ...send }, where, "Confirm the revocation in your wallet.");
      say("Sent. Waiting for a block …");
      for (;;) {
        const answer = await patient(() => maxxitWallet.send(button.dataset.revoked, { hash }));
        if (answer.done || answer.failed) {
          show(answer.html);
          say(answer.message, answer.failed);
          return;
        }
        say(answer.message);
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      }
    },
    async ended(button) {
      const answer = await maxxitWallet.send(button.dataset.revoked, { hash: "" });
      show(answer.html);
      say(answer.message, !answer.done);
    },
    async cancel(button) {
      button.closest("details").open = false;
      say("Nothing was changed.");
    },
    async copy(button) {
      await navigator.clipboard.writeText(button.dataset.text);
      say("Copied.");
    },
  };

  /* Try again while the connection is away or the chain does not answer: the transaction is on its way anyway. */
  async function patient(act) {
    for (;;) {
      try {
        return await act();
      } catch (error) {
        if (!error.offline && !error.busy) throw error;
        say(`${error.message} Trying again …`, true);
        await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      }
    }
  }

  place.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-act]");
    if (!button || busy) return;
    busy = true;
    asked = button.id;
    const where = button.closest("[data-chain]").dataset; // before the button may be replaced
    const buttons = [...place.querySelectorAll("[data-act]")].filter((other) => !other.disabled);
    for (const other of buttons) other.disabled = true;
    try {
      await ACTS[button.dataset.act](button, where);
    } catch (error) {
      say(error instanceof Stop ? error.message : `Something went wrong: ${error.message}`, true);
    } finally {
      for (const other of buttons) other.disabled = false;
      busy = false;
    }
  });
  place.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.target.id !== "safe-address") return;
    event.preventDefault();
    place.querySelector("[data-act=existing]").click();
  });

  /* Follow what is under way without a click. A person who is typing, deciding or signing is left alone. */
  const atRest = () => !busy && !place.querySelector("details[data-hold][open]") && document.activeElement?.id !== "safe-address";
  let polling = false;
  let last; // what the server rendered last

  async function poll() {
    const wanted = place.querySelector("[data-under-way]") || (urls.sent && lost.get());
    if (polling || document.hidden || !atRest() || !wanted) return;
    polling = true;
    try {
      const html = await state();
      await window.maxxitReleased();
      if (!atRest()) return;
      show(html);
      const news = urls.check && last !== undefined && last !== html; // what was said is done
      if (status.dataset.polling || news) say("");
      delete status.dataset.polling;
      last = html;
    } catch (error) {
      if (!atRest()) return;
      say(error instanceof Stop ? `${error.message} Trying again …` : "Maxxit cannot be reached. Trying again …", true);
      status.dataset.polling = "1";
    } finally {
      polling = false;
    }
  }

  async function state() {
    if (urls.sent && lost.get()) await report(urls.sent, lost.get());
    if (urls.check) return (await maxxitWallet.send(urls.check, {})).html;
    const answer = await fetch(urls.cards, { credentials: "same-origin", redirect: "manual" });
    if (answer.type === "opaqueredirect") throw new Stop("Your session has ended. Reload the page and log in again.");
    if (!answer.ok) throw new Stop(`Not refreshed: Maxxit answered with status ${answer.status}.`);
    return answer.text();
  }

  setInterval(poll, POLL_MS);
  poll();
})();
