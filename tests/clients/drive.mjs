// What both generations of the TypeScript SDK do alike: list, call, print one line of JSON.

export async function drive(client, transport, order, protocol) {
  await client.connect(transport);
  const tools = [];
  let cursor;
  do {
    const page = await client.listTools(cursor === undefined ? undefined : { cursor });
    tools.push(...page.tools.map((tool) => tool.name));
    cursor = page.nextCursor;
  } while (cursor !== undefined);
  const calls = [];
  for (const { name, arguments: args } of order.calls) {
    calls.push(await call(client, name, args));
  }
  console.log(JSON.stringify({ protocol: protocol(), tools, calls }));
  await client.close();
}

async function call(client, name, args) {
  try {
    const result = await client.callTool({ name, arguments: args });
    const text = result.content.filter((part) => part.type === "text").map((part) => part.text).join("");
    return result.isError ? { text, is_error: true } : { text };
  } catch (error) {
    return { error: { code: error.code, message: error.message } };
  }
}
