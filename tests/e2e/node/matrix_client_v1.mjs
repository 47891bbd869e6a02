// One row of the matrix of official SDKs, by the TypeScript SDK 1.x.

import { createRequire } from 'node:module';
import { drive } from './matrix_steps.mjs';

const require = createRequire(`${process.env.NODE_PACKAGES}/package.json`);
const { Client } = require('@modelcontextprotocol/sdk/client/index.js');
const { StreamableHTTPClientTransport } = require('@modelcontextprotocol/sdk/client/streamableHttp.js');
const types = require('@modelcontextprotocol/sdk/types.js');

await drive(async (cell) => {
  const capabilities = { elicitation: {}, sampling: {} };
  const client = new Client({ name: cell.name, version: '1' }, { capabilities });
  client.setRequestHandler(types.ElicitRequestSchema, ({ params }) => cell.form(params));
  client.setRequestHandler(types.CreateMessageRequestSchema, ({ params }) => cell.sample(params));
  client.setNotificationHandler(types.ToolListChangedNotificationSchema, () => cell.told());
  await client.connect(new StreamableHTTPClientTransport(cell.url));
  return {
    client,
    callTool: (params, options) => client.callTool(params, undefined, options),
    listen: () => {},
  };
});
