"""Calls one kind of method through an edge over TLS, checks everything, and prints what came."""
import itertools
import queue
import sys
import time

import grpc

address, ca, host, kind = sys.argv[1:5]
with open(ca, "rb") as file:
    credentials = grpc.ssl_channel_credentials(file.read())
options = [
    ("grpc.ssl_target_name_override", host),
    ("grpc.default_authority", host),
    ("grpc.max_receive_message_length", -1),
]
channel = grpc.secure_channel(address, credentials, options)
WAIT = 20


def unary():
    call = channel.unary_unary("/test.Service/Unary")
    answer, done = call.with_call(b"abc", timeout=WAIT)
    assert answer == b"cba", answer
    assert ("x-initial", "yes") in done.initial_metadata(), done.initial_metadata()
    assert ("x-trailing", "abc") in done.trailing_metadata(), done.trailing_metadata()
    empty, _ = call.with_call(b"", timeout=WAIT)
    assert empty == b"", empty
    big = bytes(range(256)) * 16384
    assert call(big, timeout=WAIT) == big[::-1]


def server_stream():
    answers = list(channel.unary_stream("/test.Service/ServerStream")(b"500", timeout=WAIT))
    assert answers == [b"%d" % n for n in range(500)], answers


def client_stream():
    answer = channel.stream_unary("/test.Service/ClientStream")((b"x" * n for n in range(300)), timeout=WAIT)
    assert answer == b"%d" % sum(range(300)), answer


def bidi():
    """Each message waits for the answer to the one before: nothing may be held back in either direction."""
    outgoing = queue.Queue()
    answers = channel.stream_stream("/test.Service/Bidi")(iter(outgoing.get, None), timeout=WAIT)
    slowest = 0.0
    for n in range(50):
        since = time.monotonic()
        outgoing.put(b"%d" % n)
        assert next(answers) == b"echo %d" % n
        slowest = max(slowest, time.monotonic() - since)
    outgoing.put(None)
    assert list(itertools.islice(answers, 1)) == []
    print(f"slowest round {slowest * 1000:.1f} ms")


def steady():
    """Rounds at a steady pace for as long as the caller says: none may be lost, however long one of them takes."""
    outgoing = queue.Queue()
    seconds = float(sys.argv[5])
    answers = channel.stream_stream("/test.Service/Bidi")(iter(outgoing.get, None), timeout=seconds * 3 + WAIT)
    slowest, until, n = 0.0, time.monotonic() + seconds, 0
    while time.monotonic() < until:
        since = time.monotonic()
        outgoing.put(b"%d" % n)
        assert next(answers) == b"echo %d" % n
        slowest = max(slowest, time.monotonic() - since)
        if n == 0:
            print("steady begins", flush=True)
        n += 1
        time.sleep(0.02)
    outgoing.put(None)
    assert list(itertools.islice(answers, 1)) == []
    print(f"{n} rounds, slowest {slowest * 1000:.1f} ms")


def fail():
    try:
        channel.unary_unary("/test.Service/Fail")(b"", timeout=WAIT)
        raise SystemExit("no error came")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.FAILED_PRECONDITION, error
        assert error.details() == "as you wished: 100 % sure", error.details()
        assert ("x-why", "asked for") in error.trailing_metadata(), error.trailing_metadata()


def unimplemented():
    try:
        channel.unary_unary("/test.Service/Nothing")(b"", timeout=WAIT)
        raise SystemExit("no error came")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED, error


def deadline():
    since = time.monotonic()
    try:
        channel.unary_unary("/test.Service/Slow")(b"30", timeout=0.5)
        raise SystemExit("no error came")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED, error
    assert time.monotonic() - since < 2


def cancel():
    call = channel.unary_stream("/test.Service/ServerStream")(b"100000000", timeout=WAIT)
    assert next(call) == b"0"
    call.cancel()
    assert channel.unary_unary("/test.Service/Unary")(b"still here", timeout=WAIT) == b"ereh llits"


{name: function for name, function in list(globals().items()) if callable(function)}[kind]()
print(f"{kind} passed")
