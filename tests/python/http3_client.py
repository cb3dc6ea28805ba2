"""An HTTP/3 visitor of another make (aioquic): requests of every kind through an edge, a WebSocket over extended CONNECT, a change of address; and, when told to, requests within the hello (0-RTT)."""
import asyncio
import hashlib
import json
import socket
import ssl
import sys
from collections import defaultdict

from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.h3.connection import H3_ALPN, ErrorCode, H3Connection, Setting
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, StreamReset

address, ca, host = sys.argv[1:4]
ip, port = address.rsplit(":", 1)


class Visitor(QuicConnectionProtocol):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.http = H3Connection(self._quic)
        self.events = defaultdict(asyncio.Queue)
        self.early = None

    def quic_event_received(self, event):
        if isinstance(event, HandshakeCompleted):
            self.early = event.early_data_accepted
        if isinstance(event, StreamReset):
            self.events[event.stream_id].put_nowait(event)
        if isinstance(event, ConnectionTerminated):
            for queue in self.events.values():
                queue.put_nowait(event)
        for event in self.http.handle_event(event):
            self.events[event.stream_id].put_nowait(event)

    def ask(self, method, path, headers=(), protocol=None, end=True):
        stream = self._quic.get_next_available_stream_id()
        head = [(b":method", method.encode()), (b":scheme", b"https"), (b":authority", host.encode()), (b":path", path.encode())]
        if protocol:
            head.append((b":protocol", protocol.encode()))
        self.events[stream]
        self.http.send_headers(stream, head + list(headers), end_stream=end)
        self.transmit()
        return stream

    def send(self, stream, data, end=False):
        self.http.send_data(stream, data, end_stream=end)
        self.transmit()

    async def answer(self, stream):
        heads, body = [], bytearray()
        while True:
            event = await asyncio.wait_for(self.events[stream].get(), 20)
            if isinstance(event, HeadersReceived):
                heads.append(dict(event.headers))
            elif isinstance(event, DataReceived):
                body += event.data
            else:
                raise AssertionError(f"cut off: {event}")
            if event.stream_ended:
                return heads, bytes(body)

    async def get(self, path, **more):
        heads, body = await self.answer(self.ask("GET", path, **more))
        assert heads[0][b":status"] == b"200", heads
        return heads, body


async def requests(visitor):
    _, body = await visitor.get("/inspect?a=1&b=%2F", headers=[(b"x-own", b"kept"), (b"cookie", b"a=1"), (b"cookie", b"b=2")])
    seen = json.loads(body)
    assert (seen["method"], seen["target"]) == ("GET", "/inspect?a=1&b=%2F"), seen
    assert "kept" in body.decode() and "a=1; b=2" in body.decode(), seen

    # No HEAD: aioquic takes an answer to it for one that was cut off.
    _, body = await visitor.get("/bytes/1000000")
    assert len(body) == 1_000_000
    stream = visitor.ask("POST", "/sink", end=False)
    for piece in range(0, len(body), 100_000):
        visitor.send(stream, body[piece : piece + 100_000])
    visitor.send(stream, b"", end=True)
    _, seen = await visitor.answer(stream)
    seen = json.loads(seen)
    assert seen["bytes"] == len(body) and seen["sha256"] == hashlib.sha256(body).hexdigest(), seen

    many = await asyncio.gather(*(visitor.get(f"/bytes/{n}") for n in range(90)))
    assert [len(body) for _, body in many] == list(range(90))

    stream = visitor._quic.get_next_available_stream_id()
    visitor.http.send_headers(stream, [(b":method", b"CONNECT"), (b":authority", host.encode() + b":22")], end_stream=True)
    visitor.transmit()
    heads, _ = await visitor.answer(stream)
    assert heads[0][b":status"] in (b"400", b"405", b"501"), heads


async def websocket(visitor):
    while visitor.http.received_settings is None:
        await visitor.ping()
    settings = visitor.http.received_settings
    assert settings.get(Setting.ENABLE_CONNECT_PROTOCOL) == 1, settings
    stream = visitor.ask("CONNECT", "/ws", headers=[(b"sec-websocket-version", b"13")], protocol="websocket", end=False)
    event = await asyncio.wait_for(visitor.events[stream].get(), 20)
    assert dict(event.headers)[b":status"] == b"200", event
    mask = b"\1\2\3\4"
    for text in [b"one", b"two" * 20]:
        visitor.send(stream, bytes([0x81, 0x80 | len(text)]) + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(text)))
        got = b""
        while len(got) < len(text) + 2:
            got += (await asyncio.wait_for(visitor.events[stream].get(), 20)).data
        assert got == bytes([0x81, len(text)]) + text, got
    # Closing handshake, then the end of the stream.
    visitor.send(stream, bytes([0x88, 0x82]) + mask + bytes([0x03 ^ 1, 0xE8 ^ 2]))
    got = b""
    while True:
        event = await asyncio.wait_for(visitor.events[stream].get(), 20)
        got += event.data
        if event.stream_ended:
            break
    assert got[:1] == b"\x88", got


async def phone(visitor):
    """The address changes in the middle of a download."""
    stream = visitor.ask("GET", "/bytes/3000000")
    first = await asyncio.wait_for(visitor.events[stream].get(), 20)
    assert isinstance(first, HeadersReceived)
    loop = asyncio.get_running_loop()
    old = visitor._transport
    phone = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    phone.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    phone.bind(("::", 0))
    transport, _ = await loop.create_datagram_endpoint(lambda: Relay(visitor), sock=phone)
    visitor._transport = transport
    old.close()
    visitor._quic.change_connection_id()
    visitor.transmit()
    total = 0
    while True:
        event = await asyncio.wait_for(visitor.events[stream].get(), 20)
        assert isinstance(event, DataReceived), event
        total += len(event.data)
        if event.stream_ended:
            break
    assert total == 3_000_000, total
    await visitor.get("/bytes/1")


class Relay(asyncio.DatagramProtocol):
    """Hands what comes to the new address to the visitor."""

    def __init__(self, visitor):
        self.visitor = visitor

    def datagram_received(self, data, addr):
        self.visitor.datagram_received(data, addr)


async def early(configuration):
    """Comes back twice with one ticket, and asks within the hello."""
    tickets = []

    def connected(**more):
        return connect(ip, int(port), configuration=configuration, create_protocol=Visitor, session_ticket_handler=tickets.append, **more)

    async with connected() as visitor:
        await visitor.get("/bytes/1")
        while not tickets:
            await visitor.ping()
    configuration.session_ticket = tickets[0]
    for time in ["first", "again"]:
        async with connected(wait_connected=False) as visitor:
            streams = {method: visitor.ask(method, "/inspect") for method in ["GET", "POST"]}
            seen = {method: (await visitor.answer(stream))[1] for method, stream in streams.items()}
            marked = [method for method, body in seen.items() if b"early-data" in body.lower()]
            print(time, f"taken={visitor.early} marked={','.join(marked)}")


async def main():
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name=host, cafile=ca, verify_mode=ssl.CERT_REQUIRED)
    configuration.max_datagram_size = 1350
    if sys.argv[4:] == ["early"]:
        return await early(configuration)
    for kind in [requests, websocket, phone]:
        if sys.argv[4:] and kind.__name__ not in sys.argv[4:]:
            continue
        async with connect(ip, int(port), configuration=configuration, create_protocol=Visitor) as visitor:
            await visitor.ping()
            await kind(visitor)
            visitor._quic.close(error_code=ErrorCode.H3_NO_ERROR)
        print("passed", kind.__name__)


asyncio.run(asyncio.wait_for(main(), 90))
