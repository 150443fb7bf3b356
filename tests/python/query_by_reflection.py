#!/usr/bin/env python3
"""Asks a collector for its sessions with a client that knows nothing of auditty:
grpcio, and the schema by server reflection (v1alpha).

    query_by_reflection.py TARGET [FILTER]

TARGET is what grpcio takes: 127.0.0.1:7443 or unix:/run/auditty/collector.sock.
Prints one JSON array of sessions in canonical proto3 JSON, all pages of it.
"""

import json
import sys

import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.json_format import MessageToDict
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)

DEADLINE_SECONDS = 20


def unary(channel, pool, service, method, /, **fields):
    """Calls a method whose types were found by reflection."""
    descriptor = pool.FindServiceByName(service).FindMethodByName(method)
    request_class = GetMessageClass(descriptor.input_type)
    response_class = GetMessageClass(descriptor.output_type)
    call = channel.unary_unary(
        f"/{service}/{method}",
        request_serializer=request_class.SerializeToString,
        response_deserializer=response_class.FromString,
    )
    return call(request_class(**fields), timeout=DEADLINE_SECONDS)


def sessions(channel, pool, filter_text):
    token = ""
    while True:
        page = unary(
            channel,
            pool,
            "auditty.v1.SessionService",
            "ListSessions",
            page_size=2,
            filter=filter_text,
            page_token=token,
        )
        yield from page.sessions
        token = page.next_page_token
        if not token:
            return


def main():
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    filter_text = sys.argv[2] if len(sys.argv) == 3 else ""
    options = [
        # A proxy of the environment is not for a server on this machine.
        ("grpc.enable_http_proxy", 0),
        # For a Unix socket grpcio would send the escaped path as :authority,
        # which HTTP/2 servers other than its own refuse.
        ("grpc.default_authority", "localhost"),
    ]
    with grpc.insecure_channel(sys.argv[1], options) as channel:
        database = ProtoReflectionDescriptorDatabase(channel)
        pool = DescriptorPool(database)
        services = set(database.get_services())
        wanted = {
            "auditty.v1.SessionService",
            "auditty.v1.IngestService",
            "grpc.health.v1.Health",
        }
        if not wanted <= services:
            sys.exit(f"reflection does not list {sorted(wanted - services)}")
        for service in ("auditty.v1.SessionService", "auditty.v1.IngestService"):
            health = unary(channel, pool, "grpc.health.v1.Health", "Check", service=service)
            if MessageToDict(health).get("status") != "SERVING":
                sys.exit(f"{service} is not serving: {health}")
        found = [MessageToDict(session) for session in sessions(channel, pool, filter_text)]
        json.dump(found, sys.stdout, indent=2)
        print()


if __name__ == "__main__":
    try:
        main()
    except grpc.RpcError as error:
        sys.exit(f"{error.code().name}: {error.details()}")
