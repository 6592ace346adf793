// The TypeScript SDK of the second generation as a client. See README.md for its argument and its output.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { drive } from "./drive.mjs";

const order = JSON.parse(process.argv[2]);
const transport = new StreamableHTTPClientTransport(new URL(order.url), {
  requestInit: { headers: { Authorization: `Bearer ${order.bearer}` } },
});
const client = new Client(
  { name: "ts2", version: "1.0.0" },
  { versionNegotiation: { mode: order.mode ?? "auto" } },
);
await drive(client, transport, order, () => client.getNegotiatedProtocolVersion());
