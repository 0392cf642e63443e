// Gives delivered bodies to the SDK, whose typed handlers tell what they got.
import { answer, asked, clientOf } from './ledger.mjs';

const { auth, bodies } = await asked();
const client = await clientOf(auth);
const handled = [];
client.ordersSettings.onOrdersSettingsUpdated((event) => { handled.push(['orders', event]); });
client.checkoutSettings.onCheckoutSettingsUpdated((event) => { handled.push(['checkout', event]); });
const results = [];
for (const body of bodies) {
  try {
    const request = new Request('https://app.example/hook', { method: 'POST', body });
    results.push({ value: await client.webhooks.processRequest(request) });
  } catch (error) {
    results.push({ error: error.message });
  }
}
answer({ results, handled });
