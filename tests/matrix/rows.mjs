// The rows of the matrix for clients on the TypeScript SDK: what rows.py has, under the same names. They know no transport
// and no gateway. Each takes a connected client, and the notifications that it hears.
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

const BIG = 1_000_000;
const WATCHED = "memo://watched";

export async function within(milliseconds, work) {
  const clock = new AbortController();
  const late = sleep(milliseconds, null, { signal: clock.signal }).then(() => {
    throw new Error(`not within ${milliseconds / 1000} s`);
  });
  try {
    return await Promise.race([work(clock.signal), late]);
  } finally {
    late.catch(() => {});
    clock.abort();
  }
}

function until(true_) {
  return within(10_000, async (over) => {
    while (!over.aborted && !(await true_())) {
      await sleep(50);
    }
  });
}

function expect(found, wanted) {
  const [left, right] = [found, wanted].map((value) => JSON.stringify(value));
  if (left !== right) {
    throw new Error(`${left?.slice(0, 200)} instead of ${right.slice(0, 200)}`);
  }
}

async function text(peer, name, args = {}, more = {}) {
  const result = await peer.call({ name, arguments: args, ...more });
  return result.content[0].text;
}

async function names(peer) {
  return (await peer.client.listTools()).tools.map((tool) => tool.name);
}

async function plainCall(peer) {
  expect(await text(peer, "echo", { text: "žluťoučký kůň" }), "žluťoučký kůň");
}

// Not by the SDK's `onprogress`: it lets go of it at a call's result, also while progress that came before is not told yet.
async function progress(peer, heard) {
  const progressToken = randomUUID();
  expect(await text(peer, "progress", {}, { _meta: { progressToken } }), "done");
  await until(() => heard.length === 3);
  const steps = heard.map(({ params }) => [params.progressToken, params.progress, params.total, params.message]);
  expect(steps, [1, 2, 3].map((step) => [progressToken, step, 3, `step ${step}`]));
}

async function logging(peer, heard) {
  const meta = peer.isModern ? { _meta: { "io.modelcontextprotocol/logLevel": "info" } } : {};
  if (!peer.isModern) {
    await peer.client.setLoggingLevel("info");
  }
  expect(await text(peer, "log", {}, meta), "logged");
  const logs = () => heard.filter(({ method }) => method === "notifications/message");
  await until(() => logs().length > 0);
  expect(logs().map(({ params }) => params.data), ["watch out"]);
}

async function elicitation(peer) {
  expect(await text(peer, "elicit"), "accept Ada");
}

async function sampling(peer) {
  expect(await text(peer, "sample"), "Paris");
}

async function roots(peer) {
  expect(await text(peer, "roots"), "file:///home");
}

async function cancel(peer) {
  const key = randomUUID();
  const fate = (wanted) => until(async () => (await text(peer, "fate", { key })) === wanted);
  const stop = new AbortController();
  const ended = peer.call({ name: "slow", arguments: { key } }, { signal: stop.signal }).then(
    () => "answered",
    () => "stopped",
  );
  await fate("running");
  stop.abort();
  expect(await ended, "stopped");
  await fate("cancelled");
}

// In the legacy era nothing says when a stream is heard, so there are changes until one is.
async function listChanged(peer, heard) {
  const subscription = peer.isModern ? await peer.client.listen({ toolsListChanged: true }) : null;
  let grown = await text(peer, "grow");
  await until(async () => {
    const told = heard.some(({ method }) => method === "notifications/tools/list_changed");
    if (!told && !subscription) {
      grown = await text(peer, "grow");
    }
    return told;
  });
  await until(async () => (await names(peer)).includes(grown));
  await subscription?.close();
}

async function resourceUpdated(peer, heard) {
  const subscription = peer.isModern ? await peer.client.listen({ resourceSubscriptions: [WATCHED] }) : null;
  if (!subscription) {
    await peer.client.subscribeResource({ uri: WATCHED });
  }
  const updates = () => heard.filter(({ method }) => method === "notifications/resources/updated");
  await text(peer, "touch");
  await until(async () => {
    if (updates().length === 0 && !subscription) {
      await text(peer, "touch");
    }
    return updates().length > 0;
  });
  expect(updates()[0].params.uri, WATCHED);
  await (subscription ? subscription.close() : peer.client.unsubscribeResource({ uri: WATCHED }));
}

async function completion(peer) {
  const ref = { type: "ref/prompt", name: "travel" };
  const found = await peer.client.complete({ ref, argument: { name: "city", value: "li" } });
  expect(found.completion.values, ["lima", "lisbon"]);
}

async function bigResult(peer) {
  expect(await text(peer, "big"), "x".repeat(BIG));
}

async function error(peer) {
  const result = await peer.call({ name: "fail", arguments: {} });
  expect([result.isError, result.content[0].text], [true, "it went wrong"]);
  const refusal = await peer.call({ name: "refuse", arguments: {} }).catch((refused) => refused);
  // The first generation puts the code before the message.
  const message = refusal.message?.replace("MCP error -31999: ", "");
  expect([refusal.code, message, refusal.data], [-31999, "refused", { why: "matrix" }]);
}

export const ROWS = {
  "plain call": plainCall,
  progress,
  logging,
  elicitation,
  sampling,
  roots,
  cancel,
  list_changed: listChanged,
  "resource updated": resourceUpdated,
  completion,
  "big result": bigResult,
  error,
};
