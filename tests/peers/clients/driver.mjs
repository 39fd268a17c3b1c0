// The client under test of the official suite's `client` mode: ringhub, told to front the suite's server, and the official TypeScript client
// before it, which asks for what the scenario wants to see asked. The suite judges what arrives at its server.
//   node driver.mjs RINGHUB MODE ERA URL     MODE: of the client, legacy | auto     ERA: of the server, as ringhub is told
// The suite says which scenario it runs in MCP_CONFORMANCE_SCENARIO.
import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

const [ringhub, mode, era, url] = process.argv.slice(2);
const scenario = process.env.MCP_CONFORMANCE_SCENARIO;
const context = JSON.parse(process.env.MCP_CONFORMANCE_CONTEXT ?? '{}');
const wait_ms_max = 20_000;

const pause = ms => new Promise(resolve => setTimeout(resolve, ms));

async function until(what, look) {
    const deadline = Date.now() + wait_ms_max;
    for (;;) {
        const found = await look();
        if (found) return found;
        if (Date.now() > deadline) throw new Error(`${what}: not within ${wait_ms_max} ms`);
        await pause(20);
    }
}

// The suite's server behind ringhub, by its own names, and where ringhub listens.
async function front(directory) {
    const config = join(directory, 'ringhub.toml');
    const upstream = `[[upstream]]\nname = "suite"\nurl = "${url}"\nera = "${era}"\nnames = "plain"\nrequired = true\n`;
    writeFileSync(config, `${upstream}[[endpoint]]\npath = "/mcp"\nservers = ["suite"]\n`);
    const args = ['serve', '--config', config, '--listen', '127.0.0.1:0', '--admin', '127.0.0.1:0', '--cores', '2', '--no-pin'];
    const node = spawn(ringhub, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    const said = [];
    for (const pipe of [node.stdout, node.stderr]) {
        createInterface({ input: pipe }).on('line', line => {
            said.push(line);
            console.error(`ringhub: ${line}`);
        });
    }
    const said_url = path => said.map(line => line.match(new RegExp(`http://[0-9.]+:[0-9]+(?=${path})`))?.[0]).find(Boolean);
    const mcp = await until('the MCP address', () => said_url('/mcp'));
    const admin = await until('the admin address', () => said_url('/health'));
    // Ready: what is required behind it was seen.
    await until('the server behind', async () => (await fetch(`${admin}/health/ready`)).ok);
    return { node, mcp: `${mcp}/mcp` };
}

async function connect(mcp) {
    const client = new Client(
        { name: 'ringhub-test-driver', version: '1' },
        { capabilities: { elicitation: {} }, versionNegotiation: { mode } },
    );
    client.setRequestHandler('elicitation/create', async () => ({ action: 'accept', content: { confirmed: true } }));
    await client.connect(new StreamableHTTPClientTransport(new URL(mcp)));
    return client;
}

const named = (client, name) =>
    until(`the tool ${name}`, async () => (await client.listTools()).tools.find(tool => tool.name === name));
const call = (client, name, args = {}) => client.callTool({ name, arguments: args });
const say = (result, text) => {
    const said = result.content.map(block => block.text).join('\n');
    if (said !== text) throw new Error(`not ${text}, but ${said}`);
};

const scenarios = {
    initialize: () => {},
    'request-metadata': () => {},
    async tools_call(client) {
        await named(client, 'add_numbers');
        await call(client, 'add_numbers', { a: 5, b: 3 });
    },
    async 'sse-retry'(client) {
        await named(client, 'test_reconnection');
        say(await call(client, 'test_reconnection'), 'Reconnection test completed successfully');
    },
    async 'http-standard-headers'(client) {
        await named(client, 'test_headers');
        await call(client, 'test_headers');
        await call(client, 'my-hyphenated-tool');
        for (const { uri } of (await client.listResources()).resources) await client.readResource({ uri });
        for (const { name } of (await client.listPrompts()).prompts) await client.getPrompt({ name });
    },
    async 'http-custom-headers'(client) {
        for (const { name, arguments: args } of context.toolCalls) {
            await named(client, name);
            await call(client, name, args);
        }
    },
    async 'http-invalid-tool-headers'(client) {
        // Whatever is shown can be called.
        await named(client, 'valid_tool');
        for (const { name } of (await client.listTools()).tools) await call(client, name, { region: 'eu' });
    },
    async 'sep-2322-client-request-state'(client) {
        await named(client, 'test_mrtr_echo_state');
        say(await call(client, 'test_mrtr_echo_state'), 'echo-state-ok');
        say(await call(client, 'test_mrtr_unrelated'), 'unrelated-ok');
        say(await call(client, 'test_mrtr_no_state'), 'no-state-ok');
        // A client of the modern era refuses a result that does not say what it is, and ringhub passes results on as they are.
        const untyped = call(client, 'test_mrtr_no_result_type');
        if (client.getProtocolEra() === 'legacy') say(await untyped, 'no-result-type-test-ok');
        else await untyped.catch(() => {});
    },
    async 'json-schema-ref-no-deref'(client) {
        await until('a tool', async () => (await client.listTools()).tools.length > 0);
    },
    async 'json-schema-2020-12-preservation'(client) {
        const tool = await named(client, 'json_schema_2020_12_tool');
        await named(client, 'json_schema_echo');
        await call(client, 'json_schema_echo', { schema: tool.inputSchema });
    },
};

const directory = mkdtempSync(join(tmpdir(), 'ringhub-driver-'));
let node;
try {
    const run = scenarios[scenario];
    if (!run) throw new Error(`no such scenario: ${scenario}`);
    const started = await front(directory);
    node = started.node;
    const client = await connect(started.mcp);
    await run(client);
    await client.close();
} finally {
    if (node) {
        const ended = new Promise(resolve => node.once('exit', resolve));
        node.kill('SIGTERM');
        await ended;
    }
    rmSync(directory, { recursive: true });
}
