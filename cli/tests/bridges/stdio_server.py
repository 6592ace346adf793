"""A stdio MCP server for the tests of the bridges: small, of one or both eras, and badly behaved where asked to be."""

import json
import os
import subprocess
import sys
import threading
import time

MODERN = "--modern" in sys.argv
# What is odd about how it writes.
ODD = next((word[len("--odd="):] for word in sys.argv if word.startswith("--odd=")), "")
LOCK = threading.Lock()
CANCELLED = set()
ASKED = {}


def send(message):
    whole = {"jsonrpc": "2.0", **message}
    if ODD == "bare":
        del whole["jsonrpc"]
    if ODD == "ids" and isinstance(whole.get("id"), int):
        whole["id"] = str(whole["id"])
    body = json.dumps(whole, ensure_ascii=False, indent=1 if ODD == "pretty" else None).encode()
    if ODD == "mark":
        body = b"\xef\xbb\xbf" + body
    elif ODD == "noise":
        body = b'{"level":"error","id":1}\n{\n[1,2]\nhello\n' + body
    elif ODD == "prefix":
        body = b"mcp> " + body
    elif ODD == "lsp":
        body = b"Content-Length: %d\r\n\r\n" % len(body) + body
    elif ODD == "utf16":
        body = body.decode().encode("utf-16")
    elif ODD == "latin":
        body = body.decode().encode("latin-1")
    with LOCK:
        sys.stdout.buffer.write(body if ODD == "lsp" else body + b"\n")
        sys.stdout.buffer.flush()


def text(value):
    return {"content": [{"type": "text", "text": value}]}


def count(request, meta):
    for step in range(3):
        send({"method": "notifications/progress", "params": {"progressToken": meta["progressToken"], "progress": step, "total": 3}})
    return text("counted")


def sleep(request, meta):
    if "progressToken" in meta:
        send({"method": "notifications/progress", "params": {"progressToken": meta["progressToken"], "progress": 0}})
    for _ in range(200):
        if request in CANCELLED:
            print(f"cancelled {request}", file=sys.stderr, flush=True)
            return None
        time.sleep(0.05)
    return text("slept")


def slow(request, meta):
    # Longer than a connection may stay on which nothing was asked.
    time.sleep(13)
    return text("at last")


def ask(request, meta):
    answer = ASKED["ask"] = threading.Event()
    send({"id": "ask", "method": "elicitation/create", "params": {"message": "sure?"}})
    answer.wait(10)
    return text(json.dumps(ASKED["ask"]))


def die(request, meta):
    os._exit(3)


TOOLS = {"count": count, "cafe": lambda *_: text("café"), "sleep": sleep, "slow": slow, "ask": ask, "die": die, "pid": lambda *_: text(str(os.getpid())), "env": lambda *_: text(os.environ.get("SECRET", "none"))}
LIST = {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}
INFO = {"name": "fixture", "version": "1"}


def call(request, params):
    result = TOOLS[params["name"]](request, params.get("_meta", {}))
    if result is not None:
        send({"id": request, "result": {**result, "resultType": "complete"} if MODERN else result})


def handle(message):
    method, request, params = message.get("method"), message.get("id"), message.get("params", {})
    if method is None:
        waiting, ASKED["ask"] = ASKED["ask"], message.get("result", message.get("error"))
        waiting.set()
    elif method == "initialize":
        capabilities = {"tools": {"listChanged": True}, "resources": {}}
        send({"id": request, "result": {"protocolVersion": "2025-06-18", "capabilities": capabilities, "serverInfo": INFO, "x": 12345678901234567890123}})
    elif method == "server/discover" and MODERN:
        meta = {"io.modelcontextprotocol/serverInfo": INFO}
        send({"id": request, "result": {"supportedVersions": ["2026-07-28"], "capabilities": {}, "resultType": "complete", "_meta": meta}})
    elif method == "tools/list":
        send({"id": request, "result": LIST})
    elif method == "tools/call":
        threading.Thread(target=call, args=(request, params), daemon=True).start()
    elif method == "notifications/cancelled":
        CANCELLED.add(params["requestId"])
    elif request is not None:
        send({"id": request, "error": {"code": -32601, "message": f"no {method}"}})
    elif method == "notifications/touch":
        send({"method": "notifications/tools/list_changed"})


if "--grandchild" in sys.argv:
    # One that ignores polite requests, to see that it does not survive.
    script = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(1000)"
    subprocess.Popen([sys.executable, "-c", script, sys.argv[-1]], stdin=subprocess.DEVNULL)
if "--deaf" in sys.argv:
    threading.Thread(target=lambda: time.sleep(1000), daemon=False).start()
print("hello on stderr", file=sys.stderr, flush=True)
for line in sys.stdin:
    handle(json.loads(line))
