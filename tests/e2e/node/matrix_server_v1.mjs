// What the matrix of official SDKs calls, made with the TypeScript SDK 1.x, which knows the handshake era only.

import { createRequire } from 'node:module';
import { TOOLS, form, listed, listen, options, own, said, sample, sessions, text } from './matrix_tools.mjs';

const require = createRequire(`${process.env.NODE_PACKAGES}/package.json`);
const { Server } = require('@modelcontextprotocol/sdk/server/index.js');
const { StdioServerTransport } = require('@modelcontextprotocol/sdk/server/stdio.js');
const { StreamableHTTPServerTransport } = require('@modelcontextprotocol/sdk/server/streamableHttp.js');
const types = require('@modelcontextprotocol/sdk/types.js');

const servers = new Set();
const ASKING = {
  ask: (_, call) => call.elicit(),
  sample: (_, call) => call.sample(),
  async interview(_, call) {
    await call.report(1, 2);
    const first = await call.elicit();
    await call.report(2, 2);
    return `${first}, ${await call.sample()}`;
  },
};

function build() {
  const server = new Server(
    { name: options.name, version: '1' },
    { capabilities: { tools: { listChanged: true } } },
  );
  server.setRequestHandler(types.ListToolsRequestSchema, listed);
  server.setRequestHandler(types.CallToolRequestSchema, async ({ params }, extra) => {
    const token = extra._meta?.progressToken;
    const ask = async (method, params, schema) => said(await extra.sendRequest({ method, params }, schema));
    const call = {
      signal: extra.signal,
      elicit: () => ask('elicitation/create', form, types.ElicitResultSchema),
      sample: () => ask('sampling/createMessage', sample, types.CreateMessageResultSchema),
      changed: () => Promise.all([...servers].map((each) => each.sendToolListChanged())),
      async report(progress, total) {
        if (token !== undefined) {
          const params = { progressToken: token, progress, total };
          await extra.sendNotification({ method: 'notifications/progress', params });
        }
      },
    };
    const tool = own(params.name);
    return tool in ASKING ? text(await ASKING[tool](params.arguments, call)) : TOOLS[tool](params.arguments, call);
  });
  return server;
}

async function connect(transport) {
  const server = build();
  servers.add(server);
  server.onclose = () => servers.delete(server);
  await server.connect(transport);
}

if (options.stdio) {
  await connect(new StdioServerTransport());
} else {
  listen(sessions(StreamableHTTPServerTransport, connect));
}
