"""Child processes of a run: started with a log file each, and stopped again whatever happens."""

import asyncio
import os
import random
import socket
import time
from pathlib import Path

PATIENCE = 90.0


class Failed(Exception):
    """A run that could not be made; its text says why."""


class Process:
    """A program, running while it is entered."""

    def __init__(self, name: str, command: list[str], folder: Path, env: dict[str, str] | None = None):
        self.name, self.command, self.env = name, command, env or {}
        self.log = folder / f"{name}.log"

    async def __aenter__(self):
        with self.log.open("w") as log:
            env = os.environ | self.env
            self.child = await asyncio.create_subprocess_exec(*self.command, stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log, env=env)
        return self

    async def __aexit__(self, *_):
        if self.child.returncode is None:
            self.child.kill()
            await self.child.wait()

    def said(self) -> str:
        return self.log.read_text()

    def assert_alive(self):
        if self.child.returncode is not None:
            raise Failed(f"{self.name} ended with {self.child.returncode}:\n{self.said()[-4000:]}")


# Below those that the system gives to connections that go out, which would take one before it is listened on.
PORTS = iter(random.sample(range(10_000, 12_000), 2_000))


def free_address() -> str:
    """An address that nobody listens on, given out once."""
    for port in PORTS:
        with socket.socket() as taken:
            try:
                taken.bind(("127.0.0.1", port))
            except OSError:
                continue
            return f"127.0.0.1:{port}"
    raise Failed("no port is free")


async def eventually(what: str, process: Process, attempt):
    """Waits until `attempt` gives something, for as long as the process lives."""
    deadline, trouble = time.monotonic() + PATIENCE, "nothing yet"
    while time.monotonic() < deadline:
        process.assert_alive()
        try:
            if found := await attempt():
                return found
        except (OSError, Failed) as error:
            trouble = error
        await asyncio.sleep(0.05)
    raise Failed(f"{what}: not within {PATIENCE:.0f} s ({trouble})\n{process.name} said last:\n{process.said()[-4000:]}")
