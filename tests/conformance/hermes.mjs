// Pyth's own client asks Hermes at argv[2] for the feeds argv[4…], argv[3] saying whether unknown ones are ignored, and
// prints what its schemas let through.
import { HermesClient } from "@pythnetwork/hermes-client";

const [url, lenient, ...ids] = process.argv.slice(2);
const client = new HermesClient(url, { timeout: 5000, httpRetries: 0 });
try {
  console.log(JSON.stringify(await client.getLatestPriceUpdates(ids, { parsed: true, ignoreInvalidPriceIds: lenient === "true" })));
} catch (error) {
  console.log(JSON.stringify({ error: error.constructor.name, words: String(error.message) }));
}
