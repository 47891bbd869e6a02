// What the TypeScript servers of the matrix share: the tools of `matrix_server.py`, and the HTTP server around them.

import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';

const WAIT_MS = 20_000;
const SCHEMAS = JSON.parse(readFileSync(new URL('../../fixtures/servers/matrix_tools.json', import.meta.url)));

export const options = parseArgs({
  options: {
    name: { type: 'string' }, // what the names of its tools begin with
    era: { type: 'string', default: 'handshake' },
    stdio: { type: 'boolean', default: false }, // serve standard input and output instead of HTTP
  },
}).values;

export const form = {
  mode: 'form',
  message: `Who calls ${options.name}?`,
  requestedSchema: { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] },
};
export const sample = {
  messages: [{ role: 'user', content: { type: 'text', text: `Praise ${options.name}` } }],
  maxTokens: 10,
};

/** What a client has answered to `form` or to `sample`. */
export function said(answer) {
  if ('action' in answer) {
    return `${answer.action} ${answer.content?.name}`;
  }
  return [answer.content].flat()[0].text;
}

export function text(value) {
  return { content: [{ type: 'text', text: String(value) }] };
}

const grown = [];
const events = new Map();

/** The tools that ask nothing of a client; `call` is `{signal, report, changed}`. */
export const TOOLS = {
  add: ({ a, b }) => text(a + b),
  async count({ to }, call) {
    for (let number = 1; number <= to; number++) {
      await call.report(number, to);
    }
    return text(`counted to ${to}`);
  },
  async hang({ key }, { signal }) {
    event(`begun ${key}`).happen();
    await new Promise((resolve) => {
      const timer = setTimeout(resolve, 3 * WAIT_MS);
      signal.addEventListener('abort', () => {
        clearTimeout(timer);
        event(`cancelled ${key}`).happen();
        resolve();
      });
    });
    return text('nobody cancelled');
  },
  begun: ({ key }) => happens('begun', key),
  fate: ({ key }) => happens('cancelled', key),
  async grow({ key }, call) {
    grown.push(key);
    await call.changed();
    return text('grown');
  },
};

async function happens(what, key) {
  await Promise.race([event(`${what} ${key}`).happened, fails(WAIT_MS, `not ${what}`)]);
  return text(what);
}

function event(name) {
  if (!events.has(name)) {
    const made = {};
    made.happened = new Promise((resolve) => {
      made.happen = resolve;
    });
    events.set(name, made);
  }
  return events.get(name);
}

function fails(afterMs, message) {
  return new Promise((_, reject) => setTimeout(() => reject(new Error(message)), afterMs).unref());
}

export function listed() {
  const tools = { ...SCHEMAS, ...Object.fromEntries(grown.map((key) => [key, SCHEMAS.ask])) };
  return {
    tools: Object.entries(tools).map(([tool, inputSchema]) => ({ name: `${options.name}_${tool}`, inputSchema })),
  };
}

/** The name of a tool without what all names of this server begin with. */
export function own(name) {
  return name.replace(`${options.name}_`, '');
}

/** Serve on a free port, which the first line of the output tells. */
export function listen(handle) {
  const server = createServer((request, response) => {
    handle(request, response).catch((error) => {
      console.error(error);
      response.destroy();
    });
  });
  server.listen(0, '127.0.0.1', () => console.log(`listening http://127.0.0.1:${server.address().port}/mcp`));
  process.on('SIGTERM', () => process.exit(0));
}

/** Serve sessions of the handshake era: `Transport` and `connect(transport)`, once for each of them. */
export function sessions(Transport, connect) {
  const open = new Map();
  return async (request, response) => {
    let transport = open.get(request.headers['mcp-session-id']);
    if (transport === undefined) {
      transport = new Transport({
        sessionIdGenerator: randomUUID,
        onsessioninitialized: (id) => open.set(id, transport),
        onsessionclosed: (id) => open.delete(id),
      });
      await connect(transport);
    }
    await transport.handleRequest(request, response);
  };
}
