"""uvicorn, for tests: it is gone at once when it is told to go, and all its connections are cut."""

from __future__ import annotations

import asyncio
import socket

import uvicorn


class QuickServer(uvicorn.Server):
    """A server that looks often whether it shall go, and waits for nobody: the original takes a fifth of a second."""

    async def main_loop(self) -> None:
        await self.on_tick(0)
        while not self.should_exit:
            await asyncio.sleep(0.005)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=5)
        await self.lifespan.shutdown()
