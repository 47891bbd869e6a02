// The official TypeScript client, 2.x: `plan.mode` is `auto` (asks which revision), `legacy` (handshake) or a revision.

import { createRequire } from 'node:module';
import { drive } from './steps.mjs';

const require = createRequire(`${process.env.NODE_PACKAGES}/package.json`);
const { Client, SSEClientTransport, StreamableHTTPClientTransport } = require('@modelcontextprotocol/client');

await drive(async (plan) => {
  const mode = plan.mode === 'auto' || plan.mode === 'legacy' ? plan.mode : { pin: plan.mode };
  const client = new Client({ name: 'typescript-2', version: '1.0.0' }, { versionNegotiation: { mode } });
  const Transport = plan.url.endsWith('/sse') ? SSEClientTransport : StreamableHTTPClientTransport;
  await client.connect(new Transport(new URL(plan.url)));
  return { client, version: client.getNegotiatedProtocolVersion() };
});
