// The TypeScript SDK of the first generation as a client, over each of its transports. See README.md for its argument
// and its output.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { SSEClientTransport } from "@modelcontextprotocol/sdk/client/sse.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { WebSocketClientTransport } from "@modelcontextprotocol/sdk/client/websocket.js";
import { drive } from "./drive.mjs";

const order = JSON.parse(process.argv[2]);
const requestInit = { headers: { Authorization: `Bearer ${order.bearer}` } };

// What a page does, which can send no header with a WebSocket: it takes a ticket, and offers it as a subprotocol.
async function webSocket(url) {
  const response = await fetch(`${url}/ticket`, { method: "POST", ...requestInit });
  const { ticket } = await response.json();
  const Plain = globalThis.WebSocket;
  globalThis.WebSocket = class extends Plain {
    constructor(address, subprotocol) {
      super(address, [subprotocol, `mcp.auth.${ticket}`]);
    }
  };
  return new WebSocketClientTransport(new URL(url.replace(/^http/, "ws")));
}

const transports = {
  http: () => new StreamableHTTPClientTransport(new URL(order.url), { requestInit }),
  sse: () => new SSEClientTransport(new URL(order.url), { requestInit }),
  websocket: () => webSocket(order.url),
};
const transport = await transports[order.transport ?? "http"]();
let negotiated;
transport.setProtocolVersion ??= (version) => (negotiated = version);
const client = new Client({ name: "ts1", version: "1.0.0" });
await drive(client, transport, order, () => negotiated ?? transport.protocolVersion ?? transport._protocolVersion);
