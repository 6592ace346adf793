// The server of the matrix on the TypeScript SDK of the first generation: what `server.py http` does, on Streamable HTTP.
// Serves a free port of 127.0.0.1 and prints the URL. It knows nothing of a gateway.
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { Server } from "@modelcontextprotocol/sdk/server/index.js";
import { StreamableHTTPServerTransport } from "@modelcontextprotocol/sdk/server/streamableHttp.js";
import * as types from "@modelcontextprotocol/sdk/types.js";

const BIG = 1_000_000;
const WATCHED = "memo://watched";
const CITIES = ["lima", "lisbon", "oslo"];
const FORM = { type: "object", properties: { name: { type: "string" } }, required: ["name"] };
const CAPITAL = { role: "user", content: { type: "text", text: "Capital?" } };
const CAPABILITIES = {
  tools: { listChanged: true },
  resources: { listChanged: true, subscribe: true },
  prompts: { listChanged: true },
  completions: {},
  logging: {},
};

const fates = new Map();
const sessions = new Map();

// What the tools do: each gives the text of its result.
const TOOLS = {
  echo: ({ text }) => text,
  progress: async (_args, call) => {
    for (const step of [1, 2, 3]) {
      const params = { progressToken: call._meta?.progressToken, progress: step, total: 3, message: `step ${step}` };
      await call.sendNotification({ method: "notifications/progress", params });
    }
    return "done";
  },
  log: async (_args, call) => {
    const params = { level: "warning", data: "watch out", logger: "matrix" };
    await call.sendNotification({ method: "notifications/message", params });
    return "logged";
  },
  elicit: async (_args, call) => {
    const params = { message: "Who?", requestedSchema: FORM };
    const answer = await call.sendRequest({ method: "elicitation/create", params }, types.ElicitResultSchema);
    return `${answer.action} ${answer.content.name}`;
  },
  sample: async (_args, call) => {
    const params = { messages: [CAPITAL], maxTokens: 10 };
    const answer = await call.sendRequest({ method: "sampling/createMessage", params }, types.CreateMessageResultSchema);
    return answer.content.text;
  },
  roots: async (_args, call) => {
    const answer = await call.sendRequest({ method: "roots/list" }, types.ListRootsResultSchema);
    return answer.roots.map((root) => root.uri).join(" ");
  },
  slow: async ({ key }, call) => {
    fates.set(key, "running");
    call.signal.addEventListener("abort", () => fates.set(key, "cancelled"));
    await sleep(60_000, null, { signal: call.signal });
    return "too late";
  },
  fate: ({ key }) => fates.get(key) ?? "unknown",
  grow: async () => {
    const name = `grown${Object.keys(TOOLS).length}`;
    TOOLS[name] = () => name;
    await tell((server) => server.sendToolListChanged());
    return name;
  },
  touch: async () => {
    await tell((server) => server.sendResourceUpdated({ uri: WATCHED }));
    return "touched";
  },
  big: () => "x".repeat(BIG),
  fail: () => {
    throw new Error("it went wrong");
  },
  refuse: () => {
    throw Object.assign(new Error("refused"), { code: -31999, data: { why: "matrix" } });
  },
};

// Whoever has gone hears nothing.
async function tell(notify) {
  await Promise.allSettled([...sessions.values()].map(({ server }) => notify(server)));
}

async function callTool({ params: { name, arguments: args } }, call) {
  if (!TOOLS[name]) {
    throw new types.McpError(types.ErrorCode.InvalidParams, `unknown tool: ${name}`);
  }
  try {
    return { content: [{ type: "text", text: await TOOLS[name](args ?? {}, call) }] };
  } catch (error) {
    if (name !== "fail") {
      throw error;
    }
    return { content: [{ type: "text", text: error.message }], isError: true };
  }
}

function listTools() {
  const inputSchema = { type: "object" };
  return { tools: Object.keys(TOOLS).map((name) => ({ name, description: name, inputSchema })) };
}

function offer() {
  const server = new Server({ name: "matrix", version: "1" }, { capabilities: CAPABILITIES });
  server.setRequestHandler(types.ListToolsRequestSchema, listTools);
  server.setRequestHandler(types.CallToolRequestSchema, callTool);
  server.setRequestHandler(types.ListResourcesRequestSchema, () => ({ resources: [{ uri: WATCHED, name: "watched" }] }));
  server.setRequestHandler(types.SubscribeRequestSchema, () => ({}));
  server.setRequestHandler(types.UnsubscribeRequestSchema, () => ({}));
  server.setRequestHandler(types.ListPromptsRequestSchema, () => ({
    prompts: [{ name: "travel", arguments: [{ name: "city" }] }],
  }));
  server.setRequestHandler(types.CompleteRequestSchema, ({ params }) => {
    const values = CITIES.filter((city) => city.startsWith(params.argument.value));
    return { completion: { values, total: values.length, hasMore: false } };
  });
  return server;
}

// Keeps every event of every stream, so that a stream that broke off can be gone on with.
class Events {
  kept = [];

  async storeEvent(stream, message) {
    return String(this.kept.push({ stream, message }));
  }

  async getStreamIdForEventId(last) {
    return this.kept[Number(last) - 1]?.stream;
  }

  async replayEventsAfter(last, { send }) {
    const stream = await this.getStreamIdForEventId(last);
    for (const [index, event] of this.kept.entries()) {
      if (index >= Number(last) && event.stream === stream) {
        await send(String(index + 1), event.message);
      }
    }
    return stream;
  }
}

async function open() {
  const server = offer();
  const transport = new StreamableHTTPServerTransport({
    sessionIdGenerator: randomUUID,
    eventStore: new Events(),
    retryInterval: 100,
    onsessioninitialized: (id) => sessions.set(id, { server, transport }),
    onsessionclosed: (id) => sessions.delete(id),
  });
  await server.connect(transport);
  return { server, transport };
}

const listener = createServer(async (request, response) => {
  const id = request.headers["mcp-session-id"];
  if (id && !sessions.has(id)) {
    return response.writeHead(404).end();
  }
  const { transport } = sessions.get(id) ?? (await open());
  await transport.handleRequest(request, response);
});
listener.listen(0, "127.0.0.1", () => console.log(`http://127.0.0.1:${listener.address().port}/mcp`));
