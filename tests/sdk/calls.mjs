// Calls methods of one client in turn: [module, method, ...arguments]; answers values or errors.
import { answer, asked, clientOf, sendTo, sent } from './ledger.mjs';

const { url, auth, headers, calls } = await asked();
sendTo(url);
const client = await clientOf(auth, headers);
const results = [];
for (const [module, method, ...parameters] of calls) {
  try {
    results.push({ value: await client[module][method](...parameters) });
  } catch (error) {
    const { status, message, details, requestId } = error;
    results.push({ error: { status, message, details, requestId } });
  }
}
answer({ results, sent });
