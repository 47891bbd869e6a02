// What both TypeScript clients of the matrix do; plan and report are those of `matrix_client.py`.

import { text as read } from 'node:stream/consumers';

const FEATURE_MS = 30_000;
const CELL_MS = 120_000;

/**
 * `open(cell)` connects a client of the plan's `mode` to `cell.url` and returns how this SDK is spoken to:
 * `{client, callTool(params, options), listen()}`. It answers with `cell.form` and `cell.sample`, and tells `cell.told`.
 */
export async function drive(open) {
  const plan = JSON.parse(await read(process.stdin));
  const report = {};
  for (const { server, url, key } of plan.cells) {
    report[server] = await attempt(() => everything(new Cell(plan, server, url, key), open), CELL_MS);
  }
  process.stdout.write(JSON.stringify(report));
}

class Cell {
  asked = [];
  progress = [];

  constructor({ client, mode }, server, url, key) {
    Object.assign(this, { name: client, mode, server, url: new URL(url), key });
    this.awaitChange();
  }

  awaitChange() {
    this.changed = new Promise((resolve) => {
      this.told = resolve;
    });
  }

  form({ message }) {
    this.asked.push(message);
    return { action: 'accept', content: { name: this.name } };
  }

  sample({ messages }) {
    this.asked.push([messages[0].content].flat()[0].text);
    return { role: 'assistant', model: 'none', content: { type: 'text', text: `${this.name} praises` } };
  }
}

async function everything(cell, open) {
  const peer = await open(cell);
  const report = {};
  try {
    for (const [name, feature] of Object.entries(FEATURES)) {
      report[name] = await attempt(() => feature(cell, peer));
    }
  } finally {
    await peer.client.close();
  }
  return report;
}

const FEATURES = {
  list,
  call: (cell, peer) => seen(cell, peer, 'add', { a: 2, b: 3 }),
  elicitation: (cell, peer) => seen(cell, peer, 'ask'),
  sampling: (cell, peer) => seen(cell, peer, 'sample'),
  'both in turn': (cell, peer) => seen(cell, peer, 'interview'),
  progress: (cell, peer) => seen(cell, peer, 'count', { to: 3 }),

  async cancellation(cell, peer) {
    const aborting = new AbortController();
    const hanging = call(cell, peer, 'hang', { key: cell.key }, aborting.signal).catch((error) => error);
    await call(cell, peer, 'begun', { key: cell.key });
    aborting.abort('enough');
    await hanging;
    return call(cell, peer, 'fate', { key: cell.key });
  },

  async 'list change'(cell, peer) {
    await peer.listen();
    const grown = `${cell.server}_${cell.key}`;
    const before = (await list(cell, peer)).includes(grown);
    await call(cell, peer, 'grow', { key: cell.key });
    // Look into the list whenever it is said to have changed: others change it, too.
    do {
      await cell.changed;
      cell.awaitChange();
    } while (!(await list(cell, peer)).includes(grown));
    return { before, after: true };
  },
};

async function list(cell, { client }) {
  const names = [];
  let cursor;
  do {
    const page = await client.listTools(cursor === undefined ? {} : { cursor });
    names.push(...page.tools.map((tool) => tool.name));
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  return names.filter((name) => name.startsWith(`${cell.server}_`));
}

async function seen(cell, peer, tool, args) {
  cell.asked = [];
  cell.progress = [];
  const text = await call(cell, peer, tool, args);
  return { text, asked: cell.asked, progress: cell.progress };
}

async function call(cell, peer, tool, args = {}, signal = undefined) {
  const onprogress = ({ progress, total }) => cell.progress.push([progress, total]);
  const params = { name: `${cell.server}_${tool}`, arguments: args };
  const result = await peer.callTool(params, { onprogress, signal });
  const text = result.content[0].text;
  return result.isError ? `error: ${text}` : text;
}

async function attempt(feature, timeoutMs = FEATURE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${timeoutMs} ms`)), timeoutMs);
  });
  try {
    return await Promise.race([feature(), late]);
  } catch (error) {
    return { error: `${error.name}: ${error.message}` };
  } finally {
    clearTimeout(timer);
  }
}
