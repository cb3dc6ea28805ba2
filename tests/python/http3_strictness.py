"""The cases of h3spec (kazu-yamamoto/h3spec), by their names, with aioquic as the peer that misbehaves. Prints one line a case."""
import asyncio
import ssl
import sys

from aioquic import tls
from aioquic.asyncio.client import connect
from aioquic.asyncio.protocol import QuicConnectionProtocol
from aioquic.buffer import Buffer
from aioquic.quic import crypto
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from aioquic.quic.events import ConnectionTerminated, HandshakeCompleted, StreamReset
from aioquic.quic.packet import QuicPacketType

address, ca, host = sys.argv[1:4]
ip, port = address.rsplit(":", 1)

# What the current case does wrong.
case = {}


def varint(value):
    buffer = Buffer(capacity=8)
    buffer.push_uint_var(value)
    return buffer.data


def frame(kind, payload=b""):
    return varint(kind) + varint(len(payload)) + payload


def field(name, value):
    name, value = name.encode(), value.encode()
    assert len(value) < 127
    head = bytes([0x20 | len(name)]) if len(name) < 7 else bytes([0x27, len(name) - 7])
    return head + name + bytes([len(value)]) + value


def head(*fields):
    return frame(1, b"\0\0" + b"".join(field(*pair) for pair in fields))


GET = [(":method", "GET"), (":scheme", "https"), (":authority", host), (":path", "/")]
SETTINGS = b"\0" + frame(4)


class BadConnection(QuicConnection):
    def _serialize_transport_parameters(self):
        good, out = Buffer(data=super()._serialize_transport_parameters()), {}
        while not good.eof():
            kind = good.pull_uint_var()
            out[kind] = good.pull_bytes(good.pull_uint_var())
        for kind, value in case.get("parameters", {}).items():
            out.pop(kind, None)
            if value is not None:
                out[kind] = value
        return b"".join(varint(kind) + varint(len(value)) + value for kind, value in out.items())

    def _initialize(self, peer_cid):
        super()._initialize(peer_cid)
        extensions = self.tls.handshake_extensions
        self.tls.handshake_extensions = [(case.get("extension", kind), value) for kind, value in extensions if "no_extension" not in case]

    def _push_crypto_data(self):
        buffer = self._crypto_buffers[tls.Epoch.HANDSHAKE]
        if "handshake_message" in case and buffer.tell() > 0:
            self._crypto_streams[tls.Epoch.HANDSHAKE].sender.write(case.pop("handshake_message"))
        super()._push_crypto_data()

    def _write_crypto_frame(self, builder, space, stream):
        if "handshake_frame" in case and builder._packet_type == case["level"]:
            kind, payload = case.pop("handshake_frame")
            builder.start_frame(kind, capacity=len(payload) + 8).push_bytes(payload)
        return super()._write_crypto_frame(builder=builder, space=space, stream=stream)

    def _write_ping_frame(self, builder, uids=[], comment=""):
        if "frame" in case:
            kind, payload = case.pop("frame")
            builder.start_frame(kind, capacity=len(payload) + 8).push_bytes(payload)
            return
        super()._write_ping_frame(builder, uids, comment)


encrypt = crypto.CryptoPair.encrypt_packet


def bad_encrypt(self, plain_header, plain_payload, packet_number):
    is_long, is_handshake = plain_header[0] & 0x80, plain_header[0] & 0xB0 == 0xA0
    if case.get("reserved") == "handshake" and is_handshake:
        plain_header = bytes([plain_header[0] | 0x0C]) + plain_header[1:]
    if case.get("reserved") == "short" and not is_long:
        plain_header = bytes([plain_header[0] | 0x18]) + plain_header[1:]
    if case.get("empty") and not is_long:
        # Four bytes of number, so that there is enough to be protected.
        plain_header = bytes([plain_header[0] | 0x03]) + plain_header[1:-2] + packet_number.to_bytes(4, "big")
        plain_payload = b""
    return encrypt(self, plain_header, plain_payload, packet_number)


crypto.CryptoPair.encrypt_packet = bad_encrypt


class Peer(QuicConnectionProtocol):
    def __init__(self, quic, *args, **kwargs):
        quic.__class__ = BadConnection
        super().__init__(quic, *args, **kwargs)
        self.seen = asyncio.get_running_loop().create_future()
        self.reset = asyncio.get_running_loop().create_future()

    def quic_event_received(self, event):
        if isinstance(event, HandshakeCompleted):
            self.begin()
        if isinstance(event, StreamReset) and not self.reset.done():
            self.reset.set_result(event.error_code)
        if isinstance(event, ConnectionTerminated) and not self.seen.done():
            self.seen.set_result((event.frame_type is None, event.error_code, event.reason_phrase))

    def begin(self):
        if "message" in case:
            self._quic._crypto_streams[tls.Epoch.ONE_RTT].sender.write(case["message"])
        for stream, data, end in case.get("streams", []):
            self._quic.send_stream_data(stream, data, end)
        if case.keys() & {"frame", "reserved", "empty", "message"}:
            self._quic.send_ping(1)
        self.transmit()


# Error codes of QUIC (RFC 9000 section 20), TLS alerts in it (section 20.1), HTTP/3 (RFC 9114 section 8.1), QPACK (RFC 9204 section 6).
FLOW_CONTROL, STREAM_LIMIT, STREAM_STATE, FRAME_ENCODING, PARAMETER, VIOLATION = 0x3, 0x4, 0x5, 0x7, 0x8, 0xA
UNEXPECTED_MESSAGE, MISSING_EXTENSION, NO_ALPN = 0x100 + 10, 0x100 + 109, 0x100 + 120
CRITICAL, UNEXPECTED, MISSING_SETTINGS, MESSAGE = 0x104, 0x105, 0x10A, 0x10E
DECOMPRESSION, ENCODER, DECODER = 0x200, 0x201, 0x202
REQUEST, CONTROL, ENCODERS, DECODERS = 0, 2, 6, 10


def stream_frame(stream, offset, data):
    return (0x0E, varint(stream) + varint(offset) + varint(len(data)) + data)


def transport():
    def parameters(kind, value):
        return {"parameters": {kind: value}}

    def message(kind, payload=b""):
        return bytes([kind]) + len(payload).to_bytes(3, "big") + payload

    preferred = b"\x7f\0\0\1\1\xbb" + bytes(18) + b"\x08" + bytes(8) + bytes(16)
    new_id = lambda retire, length: (0x18, varint(1) + varint(retire) + bytes([length]) + b"x" * length + bytes(16))
    yield "MUST send FLOW_CONTROL_ERROR if a STREAM frame with a large offset is received [Transport 4.1]", {"frame": stream_frame(0, 100_000_000, b"GET /\r\n")}, [FLOW_CONTROL]
    yield "MUST send STREAM_LIMIT_ERROR if a stream ID exceeding the limit", {"frame": stream_frame(1_000_000_000, 0, b"GET /\r\n")}, [STREAM_LIMIT]
    yield "MUST send TRANSPORT_PARAMETER_ERROR if initial_source_connection_id is missing [Transport 7.3]", parameters(0x0F, None), [PARAMETER]
    yield "MUST send TRANSPORT_PARAMETER_ERROR if original_destination_connection_id is received [Transport 18.2]", parameters(0x00, b"DUMMY"), [PARAMETER]
    yield "MUST send TRANSPORT_PARAMETER_ERROR if preferred_address, is received [Transport 18.2]", parameters(0x0D, preferred), [PARAMETER]
    yield "MUST send TRANSPORT_PARAMETER_ERROR if retry_source_connection_id is received [Transport 18.2]", parameters(0x10, b"DUMMY"), [PARAMETER]
    yield "MUST send TRANSPORT_PARAMETER_ERROR if stateless_reset_token is received [Transport 18.2]", parameters(0x02, bytes(16)), [PARAMETER]
    yield "MUST send TRANSPORT_PARAMETER_ERROR if max_udp_payload_size < 1200 [Transport 7.4 and 18.2]", parameters(0x03, varint(1090)), [PARAMETER]
    yield "MUST send TRANSPORT_PARAMETER_ERROR if ack_delay_exponen > 20 [Transport 7.4 and 18.2]", parameters(0x0A, varint(30)), [PARAMETER]
    yield "MUST send TRANSPORT_PARAMETER_ERROR if max_ack_delay >= 2^14 [Transport 7.4 and 18.2]", parameters(0x0B, varint(2**15)), [PARAMETER]
    yield "MUST send FRAME_ENCODING_ERROR if a frame of unknown type is received [Transport 12.4]", {"frame": (0x20, b"")}, [FRAME_ENCODING]
    yield "MUST send PROTOCOL_VIOLATION on no frames [Transport 12.4]", {"empty": True}, [VIOLATION]
    yield "MUST send PROTOCOL_VIOLATION if reserved bits in Handshake are non-zero [Transport 17.2]", {"reserved": "handshake"}, [VIOLATION]
    yield "MUST send PROTOCOL_VIOLATION if PATH_CHALLENGE in Handshake is received [Transport 17.2.4]", {"handshake_frame": (0x1A, b"01234567"), "level": QuicPacketType.HANDSHAKE}, [VIOLATION]
    yield "MUST send PROTOCOL_VIOLATION if reserved bits in Short are non-zero [Transport 17.2]", {"reserved": "short"}, [VIOLATION]
    yield "MUST send STREAM_STATE_ERROR if RESET_STREAM is received for a send-only stream [Transport 19.4]", {"frame": (0x04, varint(3) + varint(0) + varint(0))}, [STREAM_STATE]
    yield "MUST send STREAM_STATE_ERROR if STOP_SENDING is received for a non-existing stream [Transport 19.5]", {"frame": (0x05, varint(101) + varint(0))}, [STREAM_STATE]
    yield "MUST send PROTOCOL_VIOLATION if NEW_TOKEN is received [Transport 19.7]", {"frame": (0x07, varint(5) + b"token")}, [VIOLATION]
    yield "MUST send STREAM_STATE_ERROR if it receives a STREAM frame for a locally-initiated stream that has not yet been created [Transport 19.8]", {"frame": stream_frame(1, 0, b"x")}, [STREAM_STATE]
    yield "MUST send STREAM_STATE_ERROR if it receives a STREAM frame for a send-only stream [Transport 19.8]", {"frame": stream_frame(3, 0, b"x")}, [STREAM_STATE]
    yield "MUST send STREAM_STATE_ERROR if MAX_STREAM_DATA is received for a stream that has not yet been created [Transport 19.10]", {"frame": (0x11, varint(101) + varint(1_000_000))}, [STREAM_STATE]
    yield "MUST send STREAM_STATE_ERROR if MAX_STREAM_DATA is received for a receive-only stream [Transport 19.10]", {"frame": (0x11, varint(2) + varint(1_000_000))}, [STREAM_STATE]
    yield "MUST send FRAME_ENCODING_ERROR if invalid MAX_STREAMS is received [Transport 19.11]", {"frame": (0x12, varint(2**60 + 1))}, [FRAME_ENCODING]
    yield "MUST send STREAM_LIMIT_ERROR or FRAME_ENCODING_ERROR if invalid STREAMS_BLOCKED is received [Transport 19.14]", {"frame": (0x16, varint(2**60 + 1))}, [STREAM_LIMIT, FRAME_ENCODING]
    yield "MUST send FRAME_ENCODING_ERROR if NEW_CONNECTION_ID with invalid Retire_Prior_To is received [Transport 19.15]", {"frame": new_id(10, 8)}, [FRAME_ENCODING]
    yield "MUST send FRAME_ENCODING_ERROR if NEW_CONNECTION_ID with 0-byte CID is received [Transport 19.15]", {"frame": new_id(0, 0)}, [FRAME_ENCODING]
    yield "MUST send PROTOCOL_VIOLATION if HANDSHAKE_DONE is received [Transport 19.20]", {"frame": (0x1E, b"")}, [VIOLATION]
    yield "MUST send unexpected_message TLS alert if KeyUpdate in Handshake is received [TLS 6]", {"handshake_message": message(24, b"\1")}, [UNEXPECTED_MESSAGE]
    yield "MUST send unexpected_message TLS alert if KeyUpdate in 1-RTT is received [TLS 6]", {"message": message(24, b"\1")}, [UNEXPECTED_MESSAGE]
    yield "MUST send no_application_protocol TLS alert if no application protocols are supported [TLS 8.1]", {"alpn": ["dummy"]}, [NO_ALPN]
    yield "MUST send missing_extension TLS alert if the quic_transport_parameters extension does not included [TLS 8.2]", {"no_extension": True}, [MISSING_EXTENSION]
    yield "MUST send missing_extension TLS alert if the quic_transport_parameters extension does not included (draft's number) [TLS 8.2]", {"extension": 0xFFA5}, [MISSING_EXTENSION]
    yield "MUST send unexpected_message TLS alert if EndOfEarlyData is received [TLS 8.3]", {"handshake_message": message(5)}, [UNEXPECTED_MESSAGE]


def http():
    def request(data, *more, end=True):
        return {"streams": [(CONTROL, SETTINGS, False), (REQUEST, data, end), *more]}

    def control(data):
        return {"streams": [(CONTROL, b"\0" + data, False)]}

    behind = [GET[0], GET[1], GET[2], ("x-own", "y"), GET[3]]
    yield "MUST send H3_FRAME_UNEXPECTED if DATA is received before HEADERS [HTTP/3 4.1]", request(frame(0) + head(*GET)), [UNEXPECTED]
    yield "MUST send H3_MESSAGE_ERROR if a pseudo-header is duplicated [HTTP/3 4.1.1]", request(head(*GET, GET[0])), [MESSAGE]
    yield "MUST send H3_MESSAGE_ERROR if mandatory pseudo-header fields are absent [HTTP/3 4.1.3]", request(head(*GET[:1])), [MESSAGE]
    yield "MUST send H3_MESSAGE_ERROR if prohibited pseudo-header fields are present[HTTP/3 4.1.3]", request(head((":foo", "bar"), *GET)), [MESSAGE]
    yield "MUST send H3_MESSAGE_ERROR if pseudo-header fields exist after fields [HTTP/3 4.1.3]", request(head(*behind)), [MESSAGE]
    yield "MUST send H3_MISSING_SETTINGS if the first control frame is not SETTINGS [HTTP/3 6.2.1]", control(frame(0) + frame(4)), [MISSING_SETTINGS]
    yield "MUST send H3_FRAME_UNEXPECTED if a DATA frame is received on a control stream [HTTP/3 7.2.1]", control(frame(4) + frame(0)), [UNEXPECTED]
    yield "MUST send H3_FRAME_UNEXPECTED if a HEADERS frame is received on a control stream [HTTP/3 7.2.2]", control(frame(4) + frame(1)), [UNEXPECTED]
    yield "MUST send H3_FRAME_UNEXPECTED if a second SETTINGS frame is received [HTTP/3 7.2.4]", control(frame(4) + frame(4)), [UNEXPECTED]
    yield "MUST send H3_FRAME_UNEXPECTED if CANCEL_PUSH is received in a request stream [HTTP/3 7.2.5]", request(frame(3) + head(*GET)), [UNEXPECTED]
    yield "MUST send QPACK_DECOMPRESSION_FAILED if an invalid static table index exits in a field line representation [QPACK 3.1]", request(frame(1, b"\0\0\xff\x24")), [DECOMPRESSION]
    yield "MUST send QPACK_ENCODER_STREAM_ERROR if a new dynamic table capacity value exceeds the limit [QPACK 4.1.3]", {"streams": [(CONTROL, SETTINGS, False), (ENCODERS, b"\2\x3f\xe1\xff\x03", False)]}, [ENCODER]
    yield "MUST send H3_CLOSED_CRITICAL_STREAM if a control stream is closed [QPACK 4.2]", {"streams": [(CONTROL, SETTINGS, True)]}, [CRITICAL]
    yield "MUST send QPACK_DECODER_STREAM_ERROR if Insert Count Increment is 0 [QPACK 4.4.3]", {"streams": [(CONTROL, SETTINGS, False), (DECODERS, b"\3\0", False)]}, [DECODER]
    # Not in that list, and as much a promise.
    yield "own: a body that ends within a DATA frame ends the connection with H3_FRAME_ERROR", request(head((":method", "POST"), *GET[1:]) + b"\0\x0ahalf"), [0x106]
    yield "own: a body shorter than its declared length is H3_MESSAGE_ERROR", request(head((":method", "POST"), *GET[1:], ("content-length", "9")) + frame(0, b"half")), [MESSAGE]
    yield "own: a body longer than its declared length is H3_MESSAGE_ERROR", request(head((":method", "POST"), *GET[1:], ("content-length", "2")) + frame(0, b"half")), [MESSAGE]
    yield "own: a stream that ends without a head is H3_REQUEST_INCOMPLETE", request(frame(0x21, b"x")), [0x10D]
    yield "own: HTTP/2's settings are H3_SETTINGS_ERROR", control(frame(4, b"\2\0")), [0x109]
    yield "own: a second control stream is H3_STREAM_CREATION_ERROR", {"streams": [(CONTROL, SETTINGS, False), (ENCODERS, SETTINGS, False)]}, [0x103]
    yield "own: a push stream is H3_STREAM_CREATION_ERROR", {"streams": [(CONTROL, SETTINGS, False), (ENCODERS, b"\1\0", False)]}, [0x103]


async def play(name, wrong, codes):
    case.clear()
    case.update(wrong)
    configuration = QuicConfiguration(is_client=True, alpn_protocols=case.get("alpn", ["h3"]), server_name=host, cafile=ca, verify_mode=ssl.CERT_REQUIRED)
    is_http = "streams" in case
    async with connect(ip, int(port), configuration=configuration, create_protocol=Peer, wait_connected=False) as peer:
        peer.transmit()
        done, _ = await asyncio.wait([peer.seen, peer.reset], timeout=5, return_when=asyncio.FIRST_COMPLETED)
        if peer.seen in done:
            is_application, code, reason = peer.seen.result()
            said = f"closed by {'HTTP' if is_application else 'QUIC'} {code:#x} {reason}"
            right = is_application == is_http and code in codes
        elif peer.reset in done:
            code = peer.reset.result()
            said = f"stream reset {code:#x}"
            # RFC 9114 section 4.1.2: a malformed message is an error of its stream.
            right = is_http and code in codes
        else:
            said, right = "no reaction", False
        case.clear()
    print("ok  " if right else "FAIL", name, "" if right else f"({said})", flush=True)


async def main():
    wanted = " ".join(sys.argv[4:])
    for name, wrong, codes in [*transport(), *http()]:
        if wanted in name:
            await play(name, wrong, codes)


asyncio.run(main())
