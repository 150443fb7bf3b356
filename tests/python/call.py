"""Calls a gRPC method through server reflection, without any generated code.

    call.py ADDRESS list
    call.py ADDRESS package.Service/Method '{"json": "request"}'
"""

import signal
import sys

import grpc
from google.protobuf import descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)


def main() -> None:
    address, method = sys.argv[1:3]
    # For a unix socket grpc makes an authority of the path, which servers built
    # on hyper refuse.
    options = [("grpc.default_authority", "localhost")]
    channel = grpc.insecure_channel(address.removeprefix("http://"), options)
    reflection = ProtoReflectionDescriptorDatabase(channel)
    if method == "list":
        print("\n".join(sorted(reflection.get_services())))
        return
    pool = descriptor_pool.DescriptorPool(reflection)
    service_name, method_name = method.split("/")
    described = pool.FindServiceByName(service_name).FindMethodByName(method_name)
    request_type = message_factory.GetMessageClass(described.input_type)
    response_type = message_factory.GetMessageClass(described.output_type)
    call = channel.unary_unary(
        f"/{method}",
        request_serializer=request_type.SerializeToString,
        response_deserializer=response_type.FromString,
    )
    request = json_format.Parse(sys.argv[3], request_type())
    print(json_format.MessageToJson(call(request, timeout=10), indent=None))


if __name__ == "__main__":
    # Reflection has no deadline of its own.
    signal.alarm(20)
    try:
        main()
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
