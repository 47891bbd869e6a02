// The official TypeScript client, 1.x: handshake era only.

import { createRequire } from 'node:module';
import { drive } from './steps.mjs';

const require = createRequire(`${process.env.NODE_PACKAGES}/package.json`);
const { Client } = require('@modelcontextprotocol/sdk/client/index.js');
const { SSEClientTransport } = require('@modelcontextprotocol/sdk/client/sse.js');
const { StreamableHTTPClientTransport } = require('@modelcontextprotocol/sdk/client/streamableHttp.js');

await drive(async (plan) => {
  const client = new Client({ name: 'typescript-1', version: '1.0.0' });
  const Transport = plan.url.endsWith('/sse') ? SSEClientTransport : StreamableHTTPClientTransport;
  const transport = new Transport(new URL(plan.url));
  await client.connect(transport);
  return { client, version: transport.protocolVersion ?? transport._protocolVersion };
});
