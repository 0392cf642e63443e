// What the drivers share: the unchanged SDK, sent to the ledger, and JSON that shows dates.
import * as checkoutSettings from '@wix/auto_sdk_ecom_checkout-settings';
import * as ordersSettings from '@wix/auto_sdk_ecom_orders-settings';
import { ApiKeyStrategy, AppStrategy, createClient } from '@wix/sdk';

/** Every request that was sent: its path, the status of its reply, the header that a client echoes. */
export const sent = [];

/** The SDK knows one address; from here on its requests go to the ledger at `url`. */
export function sendTo(url) {
  const realFetch = globalThis.fetch;
  globalThis.fetch = async (address, init) => {
    const reply = await realFetch(String(address).replace('https://www.wixapis.com', url), init);
    const consistent = init?.headers?.['X-Wix-Consistent'];
    sent.push({ path: new URL(address).pathname, status: reply.status, consistent });
    return reply;
  };
}

/** A client of both kinds; `auth` is what ApiKeyStrategy or AppStrategy takes. */
export async function clientOf({ elevated, ...auth }, headers) {
  const given = auth.apiKey ? ApiKeyStrategy(auth) : AppStrategy(auth);
  const strategy = elevated ? await given.elevated() : given;
  return createClient({ auth: strategy, headers, modules: { checkoutSettings, ordersSettings } });
}

/** What the Python side asks, as JSON on stdin. */
export async function asked() {
  const chunks = [];
  for await (const chunk of process.stdin) chunks.push(chunk);
  return JSON.parse(Buffer.concat(chunks).toString('utf8'));
}

/** Print the answer as JSON; a Date shows as {"date": "…"}, so that text cannot pass for one. */
export function answer(value) {
  const dated = (key, item, whole) => (whole[key] instanceof Date ? { date: item } : item);
  process.stdout.write(JSON.stringify(value, function (key, item) { return dated(key, item, this); }));
}
