"""The client under test in the client half of the suite: the gateway, driven by `conformance-client`.

`client.py ADMIN-FILE URL` registers URL as an upstream, lets `conformance-client` do its calls through all edges in
turn, and withdraws it again.
"""

import asyncio
import os
import sys
from pathlib import Path

from balancer import Balancer
from gateway import REVISION, Admin, path_of, until_served
from processes import Failed


async def main(file: Path, url: str) -> int:
    admin, name = Admin.load(file), f"s{os.getpid()}"
    # The suite takes every handshake of the other era for a mistake of the client.
    modern = os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION", "") >= REVISION
    bearer = await admin.expose(name, url, "--era", "modern" if modern else "legacy")
    try:
        for edge in admin.edges:
            # Some of the suite's servers have no tools.
            await until_served(edge, name, bearer, some='"tools"')
        async with Balancer(admin.edges, path_of(name), bearer) as balancer:
            client = Path(admin.programs) / "examples" / "conformance-client"
            child = await asyncio.create_subprocess_exec(client, balancer.url)
            return await child.wait()
    finally:
        # The suite waits until nobody is connected to its server any more.
        await admin.withdraw(name)


if __name__ == "__main__":
    try:
        sys.exit(asyncio.run(main(Path(sys.argv[1]), sys.argv[2])))
    except Failed as error:
        sys.exit(str(error))
