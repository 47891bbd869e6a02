// What the matrix of official SDKs calls, made with the TypeScript SDK 2.x: one definition for both eras.

import { createRequire } from 'node:module';
import { TOOLS, form, listed, listen, options, own, said, sample, sessions, text } from './matrix_tools.mjs';

const require = createRequire(`${process.env.NODE_PACKAGES}/package.json`);
const { Server, createMcpHandler, inputRequired } = require('@modelcontextprotocol/server');
const { serveStdio } = require('@modelcontextprotocol/server/stdio');
const { NodeStreamableHTTPServerTransport, toNodeHandler } = require('@modelcontextprotocol/node');

const servers = new Set();
let published = () => {};

// Each is called again with the answers; where the client is of the handshake era, the SDK asks it itself.
const ASKING = {
  ask: ({ answers }) => (answers.form ? text(said(answers.form)) : asks({ form: inputRequired.elicit(form) })),
  sample: ({ answers }) =>
    answers.sample ? text(said(answers.sample)) : asks({ sample: inputRequired.createMessage(sample) }),
  async interview({ answers, state, report }) {
    if (answers.sample) {
      return text(`${state}, ${said(answers.sample)}`);
    }
    if (answers.form) {
      await report(2, 2);
      return asks({ sample: inputRequired.createMessage(sample) }, said(answers.form));
    }
    await report(1, 2);
    return asks({ form: inputRequired.elicit(form) });
  },
};

function asks(inputRequests, requestState) {
  return inputRequired({ inputRequests, ...(requestState === undefined ? {} : { requestState }) });
}

function build() {
  const server = new Server(
    { name: options.name, version: '2' },
    { capabilities: { tools: { listChanged: true } } },
  );
  server.setRequestHandler('tools/list', listed);
  server.setRequestHandler('tools/call', async ({ params }, { mcpReq }) => {
    const token = mcpReq._meta?.progressToken;
    const call = {
      signal: mcpReq.signal,
      answers: mcpReq.inputResponses ?? {},
      state: mcpReq.requestState(),
      async changed() {
        published();
        await Promise.all([...servers].map((each) => each.sendToolListChanged()));
      },
      async report(progress, total) {
        if (token !== undefined) {
          const params = { progressToken: token, progress, total };
          await mcpReq.notify({ method: 'notifications/progress', params });
        }
      },
    };
    const tool = own(params.name);
    return tool in ASKING ? ASKING[tool](call) : TOOLS[tool](params.arguments, call);
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
  serveStdio(() => {
    const server = build();
    servers.add(server);
    server.onclose = () => servers.delete(server);
    return server;
  });
} else if (options.era === 'handshake') {
  listen(sessions(NodeStreamableHTTPServerTransport, connect));
} else {
  const handler = createMcpHandler(build, { legacy: 'reject' });
  published = handler.notify.toolsChanged;
  listen(toNodeHandler(handler));
}
