"""A gRPC server with one method of each kind; messages are plain bytes, so that no generated code is needed."""
import time
from concurrent import futures

import grpc


def unary(request, context):
    context.send_initial_metadata((("x-initial", "yes"),))
    context.set_trailing_metadata((("x-trailing", request[:20].decode(errors="replace") if request.isascii() else "binary"),))
    return request[::-1]


def server_stream(request, context):
    for number in range(int(request)):
        yield b"%d" % number


def client_stream(requests, context):
    return b"%d" % sum(len(request) for request in requests)


def bidi(requests, context):
    for request in requests:
        yield b"echo " + request


def fail(request, context):
    context.set_trailing_metadata((("x-why", "asked for"),))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, "as you wished: 100 % sure")


def slow(request, context):
    deadline = time.monotonic() + float(request)
    while time.monotonic() < deadline and context.is_active():
        time.sleep(0.02)
    return b"%.1f" % (context.time_remaining() or -1)


class Handler(grpc.GenericRpcHandler):
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "ServerStream": grpc.unary_stream_rpc_method_handler(server_stream),
        "ClientStream": grpc.stream_unary_rpc_method_handler(client_stream),
        "Bidi": grpc.stream_stream_rpc_method_handler(bidi),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Slow": grpc.unary_unary_rpc_method_handler(slow),
    }

    def service(self, call):
        return self.methods.get(call.method.rsplit("/", 1)[-1])


server = grpc.server(futures.ThreadPoolExecutor(8), handlers=(Handler(),), options=[("grpc.max_receive_message_length", -1)])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(f"listening on 127.0.0.1:{port}", flush=True)
server.wait_for_termination()
