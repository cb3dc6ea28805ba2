"""A WebSocket client of another make: echoes of every kind through an edge, with ping, fragments, compression offered, and a close code."""
import asyncio
import ssl
import sys

import websockets

address, ca, host = sys.argv[1:4]
ip, port = address.rsplit(":", 1)


async def main():
    context = ssl.create_default_context(cafile=ca)
    async with websockets.connect(
        f"wss://{host}/ws", ssl=context, host=ip, port=int(port), server_hostname=host, max_size=None, ping_interval=None
    ) as socket:
        for message in ["", "text", "ä" * 70_000, b"", bytes(range(256)) * 4096]:
            await socket.send(message)
            assert await socket.recv() == message
        await socket.send(["in ", "three ", "fragments"])
        assert await socket.recv() == "in three fragments"
        await asyncio.wait_for(await socket.ping(), 5)
        await asyncio.gather(*(socket.send(str(n)) for n in range(100)))
        assert sorted([int(await socket.recv()) for _ in range(100)]) == list(range(100))
        await socket.close(code=4000, reason="done")
        assert socket.close_code == 4000, socket.close_code


asyncio.run(asyncio.wait_for(main(), 30))
print("passed")
