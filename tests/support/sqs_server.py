"""An SQS server of the tests' own: moto's, in a process of its own. It checks no access keys."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import httpx
from boto3.session import Session

from tests.support.ports import free_port

START_TIMEOUT_S = 120
REGION = "us-east-1"


@dataclass
class SqsServer:
    port: int
    process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @cached_property
    def client(self) -> Any:
        return Session().client(
            "sqs",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="tests",
            aws_secret_access_key="tests",
        )

    def queue(self, name: str) -> Queue:
        return Queue(self.client, self.client.create_queue(QueueName=name)["QueueUrl"])

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def start(self) -> None:
        """Without the queues of its life before."""
        self.process = _process(self.port)
        self.wait()

    def wait(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                httpx.get(f"{self.url}/moto-api/", timeout=5)
                return
            except httpx.TransportError:
                time.sleep(0.1)
        raise AssertionError("the SQS server did not start")


@dataclass(frozen=True)
class Queue:
    client: Any
    url: str

    def send(self, body: Mapping[str, Any] | str, **attributes: str) -> str:
        """The ID of the message."""
        sent = self.client.send_message(
            QueueUrl=self.url,
            MessageBody=body if isinstance(body, str) else json.dumps(body),
            MessageAttributes={
                name: {"DataType": "String", "StringValue": value}
                for name, value in attributes.items()
            },
        )
        return str(sent["MessageId"])

    def receive(self, wait_s: int = 0) -> list[Letter]:
        """What can be received, and is gone from then on."""
        found = self.client.receive_message(
            QueueUrl=self.url,
            MaxNumberOfMessages=10,
            WaitTimeSeconds=wait_s,
            MessageAttributeNames=["All"],
        ).get("Messages", [])
        for message in found:
            self.client.delete_message(QueueUrl=self.url, ReceiptHandle=message["ReceiptHandle"])
        return [
            Letter(
                message["MessageId"],
                message["Body"],
                {
                    name: value["StringValue"]
                    for name, value in message.get("MessageAttributes", {}).items()
                },
            )
            for message in found
        ]

    def counts(self) -> tuple[int, int]:
        """How many messages anybody may receive, and how many somebody has in hand."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        answer = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=names)
        visible, in_hand = (int(answer["Attributes"][name]) for name in names)
        return visible, in_hand

    def is_empty(self) -> bool:
        return self.counts() == (0, 0)


@dataclass(frozen=True)
class Letter:
    id: str
    body: str
    attributes: dict[str, str]


def _process(port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@contextmanager
def running_sqs() -> Iterator[SqsServer]:
    port = free_port()
    server = SqsServer(port, _process(port))
    try:
        server.wait()
        yield server
    finally:
        server.kill()
