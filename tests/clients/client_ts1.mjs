// The TypeScript SDK of the first generation as a client. See README.md for its argument and its output.
import { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { StreamableHTTPClientTransport } from "@modelcontextprotocol/sdk/client/streamableHttp.js";
import { drive } from "./drive.mjs";

const order = JSON.parse(process.argv[2]);
const transport = new StreamableHTTPClientTransport(new URL(order.url), {
  requestInit: { headers: { Authorization: `Bearer ${order.bearer}` } },
});
const client = new Client({ name: "ts1", version: "1.0.0" });
await drive(client, transport, order, () => transport.protocolVersion);
