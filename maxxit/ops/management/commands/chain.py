"""`manage.py chain`: the trace of one trade; deploy our contracts on a public chain and compare its addresses."""

from typing import Any

from django.core.management.base import CommandParser
from django.urls import reverse

from maxxit.core.clock import iso_utc
from maxxit.core.commands import OpsCommand, confirm
from maxxit.core.errors import Rejected
from maxxit.core.money import plain
from maxxit.ops.devchain.anvil import AnvilError
from maxxit.ops.devchain.world import uniswap_artifact
from maxxit.reports.trades import trace
from trading.chain import chains
from trading.chain.signer import DEPLOYER, executor_address, has_keystore, open_deployer
from trading.venues.safe import address_check, deploy

PREVIEW = 800
"""Characters of a prompt or an answer without `--full`."""
ROUTER = "v3-periphery/SwapRouter"
KEYS = {"deploy-module": "module", "deploy-router": "router"}
"""Subcommand -> key of the contract's address in config/chains.yaml."""


class Command(OpsCommand):
    help = "Show the trace of one trade: post, model, signal, orders, fills, ledger, position, PnL. Times are UTC."
    bare = "the trace of one trade"
    subcommands = {
        "check": "compare every address of config/chains.yaml with the chain; exit code 1 when one is wrong",
        "deploy-module": "deploy our trading module on a chain, after a question, and verify its code",
        "deploy-router": "deploy Uniswap's SwapRouter on a test network that has none",
    }
    epilog = """examples:
  manage.py chain --order 54                                       the trace of a trade
  manage.py chain check --chain arbitrum-one
  manage.py chain deploy-module --chain arbitrum-sepolia --dry-run what it would cost
  manage.py chain deploy-module --chain arbitrum-one --wallet      the transaction for a wallet
  manage.py chain deploy-module --chain arbitrum-one --verify 0x…  is this our build?"""

    def options(self, parser: CommandParser, action: str) -> None:
        if action == "":
            row = parser.add_mutually_exclusive_group()
            row.add_argument("--post", metavar="ID", help="id of a post, ours or the provider's")
            row.add_argument("--corr", metavar="UUID", help="correlation id")
            row.add_argument("--signal", metavar="ID", help="id of a signal")
            row.add_argument("--order", metavar="ID", help="id of an order")
            row.add_argument("--position", metavar="ID", help="id of a position")
            parser.add_argument("--full", action="store_true", help="prompts and answers in full")
            return
        parser.add_argument(
            "--chain",
            required=action != "check",
            metavar="NAME",
            help="a chain of config/chains.yaml" + (" (default: all)" if action == "check" else ""),
        )
        if action == "check":
            return
        how = parser.add_mutually_exclusive_group()
        how.add_argument(
            "--dry-run", action="store_true", help="show gas and cost only; sign and send nothing"
        )
        how.add_argument(
            "--wallet", action="store_true", help="print the transaction for a wallet; send nothing"
        )
        how.add_argument(
            "--verify", metavar="ADDRESS", help="compare the code at this address with our build"
        )
        how.add_argument("--yes", action="store_true", help="do not ask")

    def run(self, **options: Any) -> Any:
        action = options.get("action")
        if action == "check":
            return self._check(options["chain"])
        if action:
            return self._deploy(action, options)
        return self._trace(options)

    # -- the trace of a trade

    def _trace(self, options: dict[str, Any]) -> Any:
        what = next((name for name in ("corr", *trace.KINDS) if options[name] is not None), "")
        if not what:
            raise Rejected(
                "name a row: --post, --signal, --order or --position with its id, or --corr; or a subcommand: "
                f"{', '.join(self.subcommands)}",
                code="no_row",
            )
        rows = trace.follow(trace.correlation_of(what, options[what]))
        self.say(
            f"correlation id {rows.correlation_id}   page {reverse('chain', args=[rows.correlation_id])}"
        )
        for step in trace.timeline(rows):
            self.say(f"{iso_utc(step.at)}  {step.kind:<8}  {step.text}")
            self._detail(step.detail, options["full"])
        self.say(f"PnL {rows.net.normalize():+f} USDC realised, after fees and profit share")
        return rows.as_json()

    def _detail(self, text: str, full: bool) -> None:
        for line in (text if full else text[:PREVIEW]).splitlines():
            self.say(f"{'':<36}{line}")
        if not full and len(text) > PREVIEW:
            self.say(f"{'':<36}… {len(text) - PREVIEW} more characters with --full")

    # -- the addresses of chains

    def _check(self, name: str | None) -> Any:
        results = address_check.check_all([name] if name else [])
        for result in results:
            title = f"{result.name} ({result.chain_id})"
            for line in result.wrong:
                self.say(f"{title}: {line}", "ERROR")
            if result.not_checked:
                self.say(f"{title}: {result.not_checked}", "WARNING")
            elif not result.wrong:
                self.say(f"{title}: {result.checked} addresses are as configured", "SUCCESS")
            if result.incomplete:
                self.say(result.incomplete, "WARNING")
        self.exit_code = 1 if any(result.wrong for result in results) else 0
        return [result.as_json() for result in results]

    # -- deployments

    def _deploy(self, action: str, options: dict[str, Any]) -> Any:
        stanza, key = chains.stanza(options["chain"]), KEYS[action]
        creation = _creation(stanza, key)
        chain = chains.connect(stanza)
        if options["verify"]:
            return self._verify(chain, creation, options)
        deployer = executor_address(DEPLOYER) if has_keystore(DEPLOYER) else ""
        needed = deploy.estimate(chain, stanza, creation, deployer)
        self.say(f"{creation.contract} on {options['chain']} ({stanza.chain_id}): {needed.as_text()}")
        for name, address in creation.arguments.items():
            self.say(f"    {name} {address}")
        facts = {
            "chain": options["chain"], "chain_id": stanza.chain_id, "contract": creation.contract,
            "arguments": creation.arguments, "gas": needed.gas, "gas_limit": needed.gas_limit,
            "max_cost": plain(needed.cost), "coin": needed.coin, "deployer": deployer,
        }  # fmt: skip
        if options["dry_run"]:
            self.say("dry run: nothing was signed or sent")
            return facts
        if options["wallet"] or not deployer:
            return self._for_wallet(stanza, creation, needed, asked=options["wallet"]) | facts
        play = stanza.testnet or stanza.chain_id == chains.LOCAL_CHAIN_ID
        place = f"{options['chain']}{'' if play else ', with real money'}"
        question = f"Send this from {deployer} to {place}, for at most {plain(needed.cost)} {needed.coin}?"
        if not options["yes"] and not confirm(question):
            raise Rejected("nothing was sent", code="not_confirmed")
        done = deploy.deploy(
            chain, stanza, creation, open_deployer(stanza.chain_id, creation.code), needed, self.say
        )
        stands = "stands already" if done.already else "is deployed"
        self.say(
            f"{creation.contract} {stands} at {done.address} (transaction {done.transaction}, block {done.block}); its "
            "code is our build",
            "SUCCESS",
        )
        for line in deploy.next_steps(options["chain"], key, done.address, chains.addresses(stanza).missing):
            self.say(line)
        return facts | {
            "address": done.address, "transaction": done.transaction, "block": done.block, "already": done.already,
        }  # fmt: skip

    def _for_wallet(
        self,
        stanza: chains.ChainStanza,
        creation: deploy.Creation,
        needed: deploy.Estimate,
        *,
        asked: bool,
    ) -> dict[str, Any]:
        tx = deploy.for_wallet(stanza, creation, needed)
        if not asked:
            self.say(
                f"{DEPLOYER.keystore} is not set, so nothing is sent. Send this from a wallet:", "WARNING"
            )
        for name, value in tx.items():
            self.say(f"    {name} {value}")
        self.say("then run the same command with --verify and the contract's address: it compares the code")
        return {"transaction_for_wallet": tx}

    def _verify(self, chain: Any, creation: deploy.Creation, options: dict[str, Any]) -> Any:
        address = options["verify"]
        if not chains.is_address(address):
            raise Rejected(f"{address} is not an address with its checksum", code="wrong_address")
        found = deploy.difference(chain, creation, address, chain.head().number)
        self.exit_code = 1 if found else 0
        self.say(
            found or f"the code at {address} is our build of {creation.contract}",
            "ERROR" if found else "SUCCESS",
        )
        if not found:
            missing = chains.addresses(chains.stanza(options["chain"])).missing
            for line in deploy.next_steps(options["chain"], KEYS[options["action"]], address, missing):
                self.say(line)
        return {"chain": options["chain"], "address": address, "difference": found}


def _creation(stanza: chains.ChainStanza, key: str) -> deploy.Creation:
    """Return what is deployed. Raises Rejected where Uniswap's package is not installed."""
    if key == "module":
        return deploy.module_creation(stanza)
    try:
        return deploy.router_creation(stanza, uniswap_artifact(ROUTER))
    except AnvilError as error:
        raise Rejected(str(error), code="not_installed") from None
