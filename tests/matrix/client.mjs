// The TypeScript SDK as a client of the matrix. The only argument is a JSON object:
//
//     {"generation": 1, "transport": "http", "url": "http://…/mcp", "headers": {…}}
//
// Reads the name of a row from each line, and prints a line of JSON for it: `null`, or why it does not work.
import { createInterface } from "node:readline";
import { ROWS, within } from "./rows.mjs";

const MODERN = "2026-07-28";
const PATIENCE = 25_000;
const CAPABILITIES = { elicitation: {}, sampling: {}, roots: {} };
const ANSWERS = {
  "elicitation/create": { action: "accept", content: { name: "Ada" } },
  "sampling/createMessage": { role: "assistant", content: { type: "text", text: "Paris" }, model: "m" },
  "roots/list": { roots: [{ uri: "file:///home" }] },
};
const INFO = { name: "typescript", version: "1" };

const order = JSON.parse(process.argv[2]);
const connect = order.generation === 1 ? await first() : await second();
for await (const row of createInterface({ input: process.stdin })) {
  console.log(JSON.stringify(await attempt(ROWS[row])));
}
process.exit(0);

async function attempt(row) {
  const heard = [];
  let peer;
  try {
    await within(PATIENCE, async () => row((peer = await connect((news) => heard.push(news))), heard));
    return null;
  } catch (error) {
    return `${error.name}: ${error.message}`.slice(0, 300);
  } finally {
    await peer?.leave().catch(() => {});
  }
}

// The SDK of the first generation: every handler comes with a schema.
async function first() {
  const { Client } = await import("@modelcontextprotocol/sdk/client/index.js");
  const { SSEClientTransport } = await import("@modelcontextprotocol/sdk/client/sse.js");
  const { StreamableHTTPClientTransport } = await import("@modelcontextprotocol/sdk/client/streamableHttp.js");
  const types = await import("@modelcontextprotocol/sdk/types.js");
  const questions = {
    "elicitation/create": types.ElicitRequestSchema,
    "sampling/createMessage": types.CreateMessageRequestSchema,
    "roots/list": types.ListRootsRequestSchema,
  };
  const Transport = order.transport === "sse" ? SSEClientTransport : StreamableHTTPClientTransport;
  return async (hear) => {
    const client = new Client(INFO, { capabilities: CAPABILITIES });
    for (const [method, answer] of Object.entries(ANSWERS)) {
      client.setRequestHandler(questions[method], () => answer);
    }
    client.setNotificationHandler(types.ProgressNotificationSchema, hear);
    client.fallbackNotificationHandler = async (news) => hear(news);
    const call = (params, options) => client.callTool(params, undefined, options);
    return connected(client, new Transport(new URL(order.url), { requestInit: { headers: order.headers } }), call);
  };
}

// The SDK of the second generation: handlers go by the method's name, and the revision is what is asked for.
async function second() {
  const { Client, StreamableHTTPClientTransport } = await import("@modelcontextprotocol/client");
  return async (hear) => {
    const client = new Client(INFO, { capabilities: CAPABILITIES, versionNegotiation: { mode: { pin: MODERN } } });
    for (const [method, answer] of Object.entries(ANSWERS)) {
      client.setRequestHandler(method, () => answer);
    }
    client.setNotificationHandler("notifications/progress", hear);
    client.fallbackNotificationHandler = async (news) => hear(news);
    const transport = new StreamableHTTPClientTransport(new URL(order.url), { requestInit: { headers: order.headers } });
    return connected(client, transport, (params, options) => client.callTool(params, options));
  };
}

// What the rows know of a client.
async function connected(client, transport, call) {
  await client.connect(transport);
  const leave = async () => {
    await transport.terminateSession?.();
    await client.close();
  };
  return { client, call, leave, isModern: order.generation === 2 };
}
