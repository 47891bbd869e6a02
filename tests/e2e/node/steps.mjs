// What both TypeScript clients share: reads a plan from stdin, runs its steps on a connected client, prints JSON.

import { text } from 'node:stream/consumers';

const LISTS = {
  'tools/list': ['listTools', 'tools'],
  'resources/list': ['listResources', 'resources'],
  'resources/templates/list': ['listResourceTemplates', 'resourceTemplates'],
  'prompts/list': ['listPrompts', 'prompts'],
};
const CALLS = {
  'tools/call': 'callTool',
  'resources/read': 'readResource',
  'prompts/get': 'getPrompt',
  'completion/complete': 'complete',
};

/** `connect(plan)` returns `{client, version}`. */
export async function drive(connect) {
  const plan = JSON.parse(await text(process.stdin));
  const { client, version } = await connect(plan);
  const report = {
    version,
    server: client.getServerVersion()?.name,
    capabilities: client.getServerCapabilities(),
    steps: [],
  };
  for (const [method, params] of plan.steps) {
    report.steps.push(await run(client, method, params));
  }
  await client.close();
  process.stdout.write(JSON.stringify(report));
}

async function run(client, method, params) {
  try {
    return method in LISTS ? await everything(client, ...LISTS[method]) : await client[CALLS[method]](params);
  } catch (error) {
    return { error: { code: error.code, message: error.message } };
  }
}

async function everything(client, call, member) {
  const items = [];
  let cursor;
  do {
    const page = await client[call](cursor === undefined ? {} : { cursor });
    items.push(...page[member]);
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  return items;
}
