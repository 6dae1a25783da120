"""Encoded secrets, and what only looks like one: the canaries that no sink may hold.

Some secrets are *told*: they stand in the environment or were loaded, so every form of them must go. The others turn
up in what strangers write; of those only a pattern can tell. Nothing can tell a stranger's private key from a
transaction hash, which must survive.
"""

import base64
import html
import json
from urllib.parse import quote, quote_plus

KEY = "0x" + "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"
DIGITS = KEY[2:]
RAW = bytes.fromhex(DIGITS)
WORDS = 'hunter2 & "friends" / naïve+pass=1'
PATTERN = "c4n4ry" * 4
MNEMONIC = "legal winner thank year wave sausage worth useful legal winner thank yellow"
TOKEN = "c4n4ry0Token1Of2An3Address"

KNOWN: dict[str, tuple[str, str]] = {
    # of a private key
    "0x": (KEY, KEY),
    "bare": (KEY, DIGITS),
    "upper case": (KEY, DIGITS.upper()),
    "0X upper case": (KEY, "0X" + DIGITS.upper()),
    "mixed case": (KEY, DIGITS[:20].upper() + DIGITS[20:]),
    "told bare, seen 0x": (DIGITS, KEY),
    "base64 of the bytes": (KEY, base64.b64encode(RAW).decode()),
    "url-safe base64": (KEY, base64.urlsafe_b64encode(RAW).decode()),
    "base64 of the text": (KEY, base64.b64encode(KEY.encode()).decode()),
    "base64 of the digits": (KEY, base64.b64encode(DIGITS.encode()).decode()),
    "base32": (KEY, base64.b32encode(RAW).decode()),
    "decimal": (KEY, str(int(DIGITS, 16))),
    "list of bytes": (KEY, str(list(RAW))),
    "bytes without spaces": (KEY, json.dumps(list(RAW), separators=(",", ":"))),
    "with colons": (KEY, RAW.hex(":")),
    "with spaces": (KEY, RAW.hex(" ")),
    "python bytes": (KEY, "".join(f"\\x{byte:02x}" for byte in RAW)),
    "backwards": (KEY, KEY[::-1]),
    # of a password
    "as it is": (WORDS, WORDS),
    "capitals": (WORDS, WORDS.upper()),
    "url": (WORDS, quote(WORDS, safe="")),
    "url, small letters": (WORDS, quote(WORDS, safe="").lower()),
    "form": (WORDS, quote_plus(WORDS)),
    "url twice": (WORDS, quote(quote(WORDS, safe=""), safe="")),
    "every sign as %xx": (WORDS, "".join(f"%{byte:02X}" for byte in WORDS.encode())),
    "json": (WORDS, json.dumps(WORDS)),
    "json, ascii off": (WORDS, json.dumps(WORDS, ensure_ascii=False)),
    "json in json": (WORDS, json.dumps(json.dumps(WORDS))),
    "repr": (WORDS, repr(WORDS)),
    "html": (WORDS, html.escape(WORDS)),
    "hex": (WORDS, WORDS.encode().hex()),
    "base64": (WORDS, base64.b64encode(WORDS.encode()).decode()),
    "basic authorization": (WORDS, base64.b64encode(f"user:{WORDS}".encode()).decode()),
    "base64, second place": (WORDS, base64.b64encode(f"u:{WORDS}:x".encode()).decode()),
    "base64, third place": (WORDS, base64.b64encode(f"a{WORDS}".encode()).decode()),
    "unicode escapes": (WORDS, "".join(f"\\u{ord(sign):04x}" for sign in WORDS)),
    # of a mnemonic
    "mnemonic": (MNEMONIC, MNEMONIC),
    "mnemonic, one word a line": (MNEMONIC, MNEMONIC.replace(" ", "\n")),
    "mnemonic with commas": (MNEMONIC, MNEMONIC.replace(" ", ", ")),
    "mnemonic, url": (MNEMONIC, quote_plus(MNEMONIC)),
    "mnemonic, base64": (MNEMONIC, base64.b64encode(MNEMONIC.encode()).decode()),
    # of an address that holds a token
    "token in an address": (TOKEN, f"https://rpc.example/v3/{TOKEN}"),
    # by pattern, never told
    "openai key": ("", f"sk-proj-{PATTERN}"),
    "anthropic key": ("", f"sk-ant-api03-{PATTERN}"),
    "bearer": ("", f"Authorization: Bearer {PATTERN}"),
    "variable": ("", f"OPENAI_API_KEY={PATTERN}"),
    "quoted variable": ("", f'export X_CLIENT_SECRET="{PATTERN}"'),
    "json field in text": ("", f'{{"api_key": "{PATTERN}"}}'),
    "url password": ("", f"redis://default:{PATTERN}@cache:6379/0"),
    "query": ("", f"https://api.example.com/v1?api_key={PATTERN}&x=1"),
    "e-mail": ("", f"{PATTERN}@example.com"),
    "github": ("", f"ghp_{PATTERN}"),
    "jwt": ("", f"eyJhbGciOiJIUzI1NiJ9.{PATTERN}.{PATTERN}"),
    "aws": ("", f"AKIA{'C4N4RY7' * 2}AB"),
    "telegram": ("", f"123456789:AA{PATTERN}{PATTERN[:9]}"),
    "slack": ("", f"xoxb-1234-{PATTERN}"),
    "stripe": ("", f"sk_live_{PATTERN}"),
    "google": ("", f"AIza{PATTERN}{PATTERN[:11]}"),
    "perplexity": ("", f"pplx-{PATTERN}"),
    "bearer in lower case": ("", f"authorization: bearer {PATTERN}"),
    "dsn": ("", f"postgresql://maxxit:{PATTERN}@db.example:5432/maxxit"),
    "basic authorization, unknown": (
        "",
        f"Authorization: Basic {base64.b64encode(PATTERN.encode()).decode()}",
    ),
    "pem": ("", f"-----BEGIN PRIVATE KEY-----\n{PATTERN}\n-----END PRIVATE KEY-----"),
}
"""Name -> (the secret that is told, or nothing; what turns up)."""
SURVIVE = {
    "post id": "936389222470004736",
    "amount in wei": "115792089237316195423570985008687907853269984665640564039457584007913129639935",
    "transaction hash": "0x88df016429689c079f3b2f6ad39fa052532c56795b733da78a91ebe344f1a1b6",
    "bare hash": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "address": "0xd8dA6BF26964aF9D7eEd9e03E53415D37aA96045",
    "uuid": "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
    "handle": "@SatoshiLite thanks for selling your 1 LTC!",
    "bearer instrument": "Bitcoin is a bearer instrument and I am bearish on gold",
    "price": "$BTC target 20-22k, stop 14,354.50",
    "url": "https://t.co/KyJK7cVwz9",
    "task": "ask-for-skins and risk-adjusted-returns-matter",
    "tokens": '{"tokens": {"BTC": ["btc"]}, "token": "BTC", "prompt_tokens": 12}',
}
"""Name -> what must stay as it is."""


def core(name: str) -> str:
    """The part of an encoded secret, in lower case, that must be gone."""
    told, encoded = KNOWN[name]
    if told == TOKEN:
        return TOKEN.lower()
    if told:
        return encoded.strip('"').lower()
    if name == "aws":
        return encoded.lower()
    if name == "basic authorization, unknown":
        return encoded.rpartition(" ")[2].lower()
    return PATTERN
