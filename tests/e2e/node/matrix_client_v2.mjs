// One row of the matrix of official SDKs, by the TypeScript SDK 2.x, in the era that the plan's `mode` says.

import { createRequire } from 'node:module';
import { drive } from './matrix_steps.mjs';

const require = createRequire(`${process.env.NODE_PACKAGES}/package.json`);
const { Client, StreamableHTTPClientTransport } = require('@modelcontextprotocol/client');

await drive(async (cell) => {
  const capabilities = { elicitation: {}, sampling: {} };
  const options = { capabilities, versionNegotiation: { mode: cell.mode } };
  const client = new Client({ name: cell.name, version: '2' }, options);
  client.setRequestHandler('elicitation/create', ({ params }) => cell.form(params));
  client.setRequestHandler('sampling/createMessage', ({ params }) => cell.sample(params));
  client.setNotificationHandler('notifications/tools/list_changed', () => cell.told());
  await client.connect(new StreamableHTTPClientTransport(cell.url));
  return {
    client,
    callTool: (params, options) => client.callTool(params, options),
    listen: () => (client.getNegotiatedProtocolVersion() < '2026' ? undefined : client.listen({ toolsListChanged: true })),
  };
});
