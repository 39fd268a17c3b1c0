// Drives the official TypeScript client through everything the fixture server offers and prints what it saw.
// Read from standard input by node, so that the package is found from the working directory:
//   node --input-type=module - URL MODE < typescript.mjs     MODE: default | legacy | auto | REVISION (pinned)
import { Client, LOG_LEVEL_META_KEY, StreamableHTTPClientTransport } from '@modelcontextprotocol/client';

const [url, mode] = process.argv.slice(2);
const wait_ms_max = 10_000;

const seen = { asked: [], logs: [], progress: [], tools_changed: 0 };

// `default` leaves the option out altogether: what a newcomer's program does.
const negotiation = {
    default: {},
    legacy: { versionNegotiation: { mode: 'legacy' } },
    auto: { versionNegotiation: { mode: 'auto' } },
}[mode] ?? { versionNegotiation: { mode: { pin: mode } } };

const client = new Client(
    { name: 'ringhub-test-typescript', version: '1' },
    { capabilities: { elicitation: {}, sampling: {} }, ...negotiation },
);

client.setRequestHandler('elicitation/create', async ({ params }) => {
    seen.asked.push(params.message);
    const fields = Object.keys(params.requestedSchema.properties);
    const content = Object.fromEntries(fields.map(f => [f, f === 'email' ? 'ada@example.com' : 'ada']));
    return { action: 'accept', content };
});
client.setRequestHandler('sampling/createMessage', async ({ params }) => {
    const turn = params.messages.at(-1).content;
    seen.asked.push((Array.isArray(turn) ? turn[0] : turn).text);
    return { model: 'none', role: 'assistant', content: { type: 'text', text: 'Paris' } };
});
client.setNotificationHandler('notifications/message', ({ params }) => {
    seen.logs.push(`${params.level}: ${params.data}`);
});
const changed = Promise.withResolvers();
client.setNotificationHandler('notifications/tools/list_changed', () => {
    seen.tools_changed += 1;
    changed.resolve();
});

const text = result => result.content.map(block => block.text).join('\n');
const call = async (name, args = {}, options) => text(await client.callTool({ name, arguments: args }, options));

function within(promise, what) {
    let timer;
    const late = new Promise((_, reject) => {
        timer = setTimeout(() => reject(new Error(`${what}: nothing within ${wait_ms_max} ms`)), wait_ms_max);
    });
    return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

async function lists() {
    seen.tools = (await client.listTools()).tools.map(tool => tool.name);
    seen.resources = (await client.listResources()).resources.map(resource => resource.uri);
    seen.templates = (await client.listResourceTemplates()).resourceTemplates.map(t => t.uriTemplate);
    seen.prompts = (await client.listPrompts()).prompts.map(prompt => prompt.name);
}

async function calls() {
    seen.simple_text = await call('test_simple_text');
    await client.callTool(
        { name: 'test_tool_with_progress', arguments: {} },
        { onprogress: ({ progress, total }) => seen.progress.push([progress, total]) },
    );
    const failed = await client.callTool({ name: 'test_error_handling', arguments: {} });
    seen.tool_error = failed.isError === true;
    seen.unknown_tool_code = await client
        .callTool({ name: 'no_such_tool', arguments: {} })
        .then(() => 0, error => error.code);
    seen.resource_text = (await client.readResource({ uri: 'test://static-text' })).contents[0].text;
    const prompt = await client.getPrompt({ name: 'test_simple_prompt' });
    seen.prompt_text = prompt.messages[0].content.text;
}

async function legacy_only() {
    await client.setLoggingLevel('info');
    await call('test_tool_with_logging');
    seen.elicited = await call('test_elicitation', { message: 'Who are you?' });
    seen.sampled = await call('test_sampling', { prompt: 'What is the capital of France?' });
}

async function modern_only() {
    await client.callTool({ name: 'test_logging_tool', arguments: {}, _meta: { [LOG_LEVEL_META_KEY]: 'info' } });
    seen.elicited = await call('test_input_required_result_elicitation');
    seen.sampled = await call('test_input_required_result_sampling');
    // The client mirrors an annotated argument into a header, base64 because it is not ASCII.
    seen.mirrored = await call('test_x_mcp_header', { region: 'Zürich' });
    const listen = await client.listen({ toolsListChanged: true });
    seen.listens_to = Object.keys(listen.honoredFilter).filter(key => listen.honoredFilter[key]);
    await call('test_trigger_tool_change');
    await within(changed.promise, 'tools/list_changed');
    await listen.close();
}

// It only adds to what node says of an error that nobody caught.
process.on('uncaughtExceptionMonitor', () => console.error('seen until then:', JSON.stringify(seen)));

const transport = new StreamableHTTPClientTransport(new URL(url));
await client.connect(transport);
seen.protocol = client.getNegotiatedProtocolVersion();
seen.session = transport.sessionId !== undefined;
seen.server = client.getServerVersion()?.name;
await lists();
await calls();
const legacy = client.getProtocolEra() === 'legacy';
await (legacy ? legacy_only() : modern_only());
if (legacy) await transport.terminateSession();
await client.close();
seen.closed = true;
console.log(JSON.stringify(seen));
