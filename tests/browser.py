"""A real headless Chromium for tests of the pages, driven by the DevTools protocol over a websocket.

`MAXXIT_CHROMIUM` names the program; else the first of `PROGRAMS` on the PATH is used, or what `make install` brought
from npm. Clicks and keys are real input events. `Wallet` is an EIP-1193 provider that signs with a local key.
"""

import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from eth_account import Account
from eth_account.messages import encode_defunct
from websockets.sync.client import ClientConnection, connect

from maxxit.embedded.processes import bound_to_parent, stop_process, wait_until

PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome-headless-shell")
PATIENCE = 30.0
"""Seconds that a page may take on a busy machine."""


FROM_NPM = Path(sys.prefix) / "chromium"
"""Where `make install` unpacks a Chromium, with the libraries that bare machines lack."""


AXE_FROM_NPM = Path(sys.prefix) / "axe.min.js"
"""Where `make install` puts axe-core."""
STANDS_STILL = """async (selector) => {
    const one = document.querySelector(selector);
    let before = "";
    for (let times = 0; times < 60; times += 1) {
        one.scrollIntoView({block: 'center', behavior: 'instant'});
        const box = one.getBoundingClientRect();
        const middle = [box.x + box.width / 2, box.y + box.height / 2];
        if (before === String(middle)) return middle;
        before = String(middle);
        await new Promise((done) => setTimeout(done, 16));
    }
    throw new Error(`${selector} keeps moving`);
}"""
"""Scrolls to an element and gives its middle once that is the same twice, because a page may still be laid out."""
CLICK_TRIES = 5
LISTENS = """(selector) => {
    window.__clicked = false;
    document.addEventListener('click', (event) => { window.__clicked = event.target.closest(selector) !== null; },
        {capture: true, once: true});
}"""
"""Notes whether the next click of the page is on this element."""
AXE_ON_COLOURS = ["color-contrast", "link-in-text-block"]
"""The rules of axe-core whose findings depend on colours."""


def find_axe() -> Path | None:
    """Return the file of axe-core: the one that `MAXXIT_AXE` names, else the one of `make install`; None without."""
    named = os.environ.get("MAXXIT_AXE", "")
    path = Path(named) if named else AXE_FROM_NPM
    return path if named or path.exists() else None


def find_program() -> str:
    """Return the path of a Chromium; empty where there is none."""
    named = os.environ.get("MAXXIT_CHROMIUM", "") or next(filter(None, map(shutil.which, PROGRAMS)), "")
    unpacked = FROM_NPM / "chromium"
    return named or (str(unpacked) if unpacked.exists() else "")


def environment(program: str) -> dict[str, str]:
    """Return the environment for a program: that from npm finds its own libraries and fonts."""
    environ = os.environ | {
        "LANG": "en_US.UTF-8",
        "LC_ALL": "en_US.UTF-8",
    }  # else its language may be "en-US@posix"
    if Path(program).parent != FROM_NPM:
        return environ
    libraries = os.pathsep.join(filter(None, (str(FROM_NPM / "lib"), os.environ.get("LD_LIBRARY_PATH", ""))))
    return environ | {"LD_LIBRARY_PATH": libraries, "FONTCONFIG_PATH": str(FROM_NPM)}


class NotStarted(Exception):
    """The machine has a Chromium that it cannot run."""


class WalletError(Exception):
    """An answer of a wallet that is an error, with the code of EIP-1193."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Wallet:
    """An EIP-1193 provider with one key. `refuses` holds the methods that its user declines."""

    def __init__(self, key: str = "0x" + "11" * 32, chain_id: int = 31337) -> None:
        self.account = Account.from_key(key)
        self.chain_id = chain_id
        self.refuses: set[str] = set()
        self.knows: set[int] = {chain_id}
        self.signed: list[str] = []

    @property
    def address(self) -> str:
        return str(self.account.address)

    def request(self, method: str, params: Any) -> Any:
        """Answer as a wallet does. Raises WalletError."""
        if method in self.refuses:
            raise WalletError(4001, "User rejected the request.")
        if method in ("eth_requestAccounts", "eth_accounts"):
            return [self.address.lower()]  # as some wallets do
        if method == "eth_chainId":
            return hex(self.chain_id)
        if method == "wallet_switchEthereumChain":
            wanted = int(params[0]["chainId"], 16)
            if wanted not in self.knows:
                raise WalletError(4902, "Unrecognized chain ID.")
            self.chain_id = wanted
            return None
        if method == "personal_sign":
            text = bytes.fromhex(params[0][2:]).decode()
            self.signed.append(text)
            return "0x" + self.account.sign_message(encode_defunct(text=text)).signature.hex().removeprefix(
                "0x"
            )
        raise WalletError(4200, f"{method} is not supported")


INJECTED = """
(() => {
  const pending = new Map();
  let last = 0;
  window.__walletAnswer = (id, error, result) => {
    const { resolve, reject } = pending.get(id);
    if (error) reject(Object.assign(new Error(error.message), { code: error.code })); else resolve(result);
  };
  window.ethereum = {
    request: ({ method, params }) => new Promise((resolve, reject) => {
      pending.set(++last, { resolve, reject });
      window.__walletRequest(JSON.stringify({ id: last, method, params }));
    }),
    on() {}, removeListener() {},
  };
})();
"""


PAINTED = """
new Promise((done) => {
  setTimeout(() => done(true), 10000);
  requestAnimationFrame(() => requestAnimationFrame(() => done(true)));
})
"""
"""Settles after the page's first frame: Chromium drops input before it. On a busy machine it takes seconds."""


class Page:
    """One tab in a browser context of its own (its cookies and storage are no other tab's)."""

    def __init__(self, browser: "Browser") -> None:
        self.browser = browser
        self.problems: list[str] = []
        """Console errors, uncaught exceptions and failed loads."""
        self.wallet: Wallet | None = None
        self.scheme = "light"
        self.context = browser.call("Target.createBrowserContext")["browserContextId"]
        target = browser.call("Target.createTarget", url="about:blank", browserContextId=self.context)
        attached = browser.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self.session = attached["sessionId"]
        browser.pages[self.session] = self
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.size(1440, 900)

    def call(self, method: str, **params: Any) -> Any:
        """Call a DevTools method of this tab."""
        return self.browser.call(method, session=self.session, **params)

    def on_event(self, method: str, params: dict[str, Any]) -> None:
        """Keep problems; let the wallet answer."""
        if method == "Runtime.exceptionThrown":
            details = params["exceptionDetails"]
            self.problems.append(str(details.get("exception", {}).get("description") or details["text"]))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.problems.append(
                " ".join(str(one.get("value", one.get("description"))) for one in params["args"])
            )
        elif method == "Log.entryAdded" and params["entry"]["level"] == "error":
            self.problems.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Runtime.bindingCalled" and params["name"] == "__walletRequest" and self.wallet:
            asked = json.loads(params["payload"])
            error, result = None, None
            try:
                result = self.wallet.request(asked["method"], asked.get("params"))
            except WalletError as refused:
                error = {"code": refused.code, "message": str(refused)}
            script = f"window.__walletAnswer({asked['id']}, {json.dumps(error)}, {json.dumps(result)})"
            self.browser.send("Runtime.evaluate", self.session, expression=script)

    def inject(self, wallet: Wallet) -> None:
        """Give every page that is opened from now on this wallet as `window.ethereum`."""
        self.wallet = wallet
        self.call("Runtime.addBinding", name="__walletRequest")
        self.call("Page.addScriptToEvaluateOnNewDocument", source=INJECTED)

    def size(self, width: int, height: int = 900) -> None:
        """Set the size of the window in CSS pixels; below 500 wide it is a phone."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 500,
        )  # fmt: skip

    def prefer(self, scheme: str) -> None:
        """Prefer `light` or `dark` colours, as the visitor's system may."""
        self.scheme = scheme
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def dark(self) -> None:
        """Prefer dark colours."""
        self.prefer("dark")

    def zone(self, name: str) -> None:
        """Set the browser's time zone."""
        self.call("Emulation.setTimezoneOverride", timezoneId=name)

    def cookie(self, name: str, value: str, url: str) -> None:
        """Set a cookie, such as the session of a test client."""
        self.call("Network.setCookie", name=name, value=value, url=url)

    def open(self, url: str) -> None:
        """Load a page and wait until its scripts have run."""
        self.evaluate("window.__old = true")
        self.call("Page.navigate", url=url)
        self.loaded()

    def loaded(self) -> None:
        """Wait until another page than the one marked by `open` or `following` is loaded and painted."""
        self.wait("!window.__old && document.readyState === 'complete'")
        self.wait(PAINTED)

    def following(self, act: Callable[[], None]) -> None:
        """Do something that leads to another page, and wait for it."""
        self.evaluate("window.__old = true")
        act()
        self.loaded()

    def evaluate(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, script: str, seconds: float = PATIENCE) -> None:
        """Wait until the expression is true; a page that is being replaced counts as false."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if self.evaluate(script):
                    return
            except RuntimeError:
                pass
            time.sleep(0.05)
        raise AssertionError(f"not within {seconds} s: {script}\n{self.evaluate('document.body.innerText')}")

    @property
    def path(self) -> str:
        """The path and query of the page."""
        return str(self.evaluate("location.pathname + location.search"))

    def text(self, selector: str = "body") -> str:
        """The visible text of an element."""
        return str(self.evaluate(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def wait_text(self, text: str, selector: str = "body") -> None:
        """Wait until an element shows this text."""
        self.wait(
            f"(document.querySelector({json.dumps(selector)})?.innerText ?? '').includes({json.dumps(text)})"
        )

    def click(self, selector: str, clicks: int = 1, *, held: float = 0) -> None:
        """Click the middle of an element with the mouse, held down for seconds; `clicks` 2 is a double click."""
        events = [
            (kind, number) for number in range(1, clicks + 1) for kind in ("mousePressed", "mouseReleased")
        ]
        for _ in range(CLICK_TRIES):  # a page may move its parts between the measure and the press
            place = self.evaluate(f"({STANDS_STILL})({json.dumps(selector)})")
            where = {"x": place[0], "y": place[1], "button": "left"}
            self.evaluate(f"({LISTENS})({json.dumps(selector)})")
            for kind, number in events[:-1]:
                self.browser.send(
                    "Input.dispatchMouseEvent", self.session, type=kind, clickCount=number, **where
                )
                time.sleep(held)
            # The last answer says that the page has handled all of them: until then nothing may scroll
            self.call("Input.dispatchMouseEvent", type=events[-1][0], clickCount=clicks, **where)
            if self.evaluate("window.__clicked ?? true"):  # true as well on another page
                return

    def type(self, selector: str, text: str) -> None:
        """Replace what stands in a field."""
        field = f"document.querySelector({json.dumps(selector)})"
        self.evaluate(f"{field}.focus(), {field}.select?.()")
        self.call("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """Press a key such as Tab, Enter or a letter."""
        codes = {"Tab": 9, "Enter": 13, "Escape": 27}
        code = codes.get(key) or ord(key.upper())
        text = {"text": "\r"} if key == "Enter" else {}
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code,
                      **(text if kind == "keyDown" else {}))  # fmt: skip

    def axe_findings(self, *, of_colours: bool = False) -> list[str]:
        """Return the serious and critical findings of axe-core; skip the test where axe-core is not installed.

        `of_colours`: by the rules that look at colours alone, for the other colours of a page that all rules have seen.
        """
        file = find_axe()
        if file is None:
            pytest.skip("axe-core is not installed: `make install` brings it where npm is")
        if not self.evaluate("'axe' in window"):
            self.evaluate(file.read_text() + "; 1")
        options = {"resultTypes": ["violations"], "preload": False} | (
            {"runOnly": AXE_ON_COLOURS} if of_colours else {}
        )
        findings: list[str] = self.evaluate(
            f"axe.run(document, {json.dumps(options)}).then((result) => result.violations"
            ".filter((one) => ['serious', 'critical'].includes(one.impact))"
            ".map((one) => `${one.id}: ${one.help}: ${one.nodes.map((node) => node.html).join(' ')}`))"
        )
        return findings

    def screenshot(self, path: Path) -> None:
        """Save the whole page as PNG."""
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.write_bytes(base64.b64decode(shot["data"]))

    @property
    def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        return int(self.evaluate("document.documentElement.scrollWidth - window.innerWidth"))

    def close(self) -> None:
        """Close the tab and forget its cookies."""
        self.browser.pages.pop(self.session, None)
        self.browser.call("Target.disposeBrowserContext", browserContextId=self.context)


class Browser:
    """A Chromium process and the connection to it."""

    def __init__(self, program: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="maxxit-browser-"))
        self.pages: dict[str, Page] = {}
        self._ids = count(1)
        self._open = ExitStack()
        bare = os.geteuid() == 0 or Path(program).parent == FROM_NPM
        sandbox = ["--no-sandbox"] if bare else []
        self.process = subprocess.Popen(
            [program, "--headless", *sandbox, "--remote-debugging-port=0", f"--user-data-dir={self.folder}",
             "--no-first-run", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
             "--disable-component-update", "--disable-extensions", "--disable-sync", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(program),
            preexec_fn=bound_to_parent(signal.SIGKILL),
        )  # fmt: skip
        self.connection = self._connected()

    def _connected(self) -> ClientConnection:
        port = self.folder / "DevToolsActivePort"
        if not wait_until(lambda: port.exists() and port.read_text().count("\n") >= 1, 60, self._ended):
            raise NotStarted("Chromium did not start")
        number, path = port.read_text().split("\n")[:2]
        # Without pings, whose thread would draw from `random` while hypothesis controls it in another test.
        opened = connect(f"ws://127.0.0.1:{number}{path}", max_size=None, proxy=None, ping_interval=None)
        return self._open.enter_context(opened)

    def _ended(self) -> bool:
        return self.process.poll() is not None

    def send(self, method: str, session: str = "", **params: Any) -> int:
        """Send a command without waiting for its answer; return its number."""
        number = next(self._ids)
        message = {"id": number, "method": method, "params": params} | (
            {"sessionId": session} if session else {}
        )
        self.connection.send(json.dumps(message))
        return number

    def call(self, method: str, session: str = "", **params: Any) -> Any:
        """Send a command and return its result; events that come meanwhile go to their tabs."""
        number = self.send(method, session, **params)
        while True:
            message = json.loads(self.connection.recv(timeout=PATIENCE))
            if message.get("id") == number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            page = self.pages.get(message.get("sessionId", ""))
            if page is not None and "method" in message:
                page.on_event(message["method"], message["params"])

    def close(self) -> None:
        """End the process and remove its folder."""
        self._open.close()
        stop_process(self.process, signal.SIGTERM, 5)
        shutil.rmtree(self.folder, ignore_errors=True)
