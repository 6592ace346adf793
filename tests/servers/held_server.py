"""A stdio MCP server whose tool `held` waits until `release` is called, and that counts how often it has run: `held_server.py`."""

import json
import sys
import threading

LOCK = threading.Lock()
RELEASED = threading.Event()
RUNS = []


def send(message):
    with LOCK:
        sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        sys.stdout.flush()


def held():
    with LOCK:
        RUNS.append(None)
        number = len(RUNS)
    RELEASED.wait(120)
    return str(number)


def release():
    RELEASED.set()
    return "released"


TOOLS = {"held": held, "release": release, "runs": lambda: str(len(RUNS))}


def answer(message):
    method = message["method"]
    if method == "initialize":
        return {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": {"name": "held", "version": "1"}}
    if method == "tools/list":
        return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}
    if method == "tools/call":
        return {"content": [{"type": "text", "text": TOOLS[message["params"]["name"]]()}]}
    return {}


def respond(message):
    send({"id": message["id"], "result": answer(message)})


for line in sys.stdin:
    request = json.loads(line)
    if "id" in request and "method" in request:
        threading.Thread(target=respond, args=(request,), daemon=True).start()
