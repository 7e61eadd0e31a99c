"""SQS: messages received, kept hidden, deleted, and laid aside. The only module that imports boto3
for SQS, and only once a client is built: it is an extra.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from app.config.settings import Settings
from app.config.sqs import LONGEST_VISIBILITY_S
from app.domain.errors import ConfigurationError

CONNECT_TIMEOUT_S, READ_TIMEOUT_S = 10, 30  # the latter besides the wait for a message
NUM_TRIES = 2
BATCH = 10  # SQS's own limit
MAX_ATTRIBUTES = 10
MAX_REASON_CHARS = 500
MARGIN_S = 5  # before SQS's limit of 12 hours
KEY_PROBLEMS = frozenset(
    {
        "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch",
        "InvalidSignatureException", "IncompleteSignature", "ExpiredToken",
        "ExpiredTokenException", "MissingAuthenticationToken", "InvalidSecurity",
    }
)  # fmt: skip
DENIED = frozenset({"AccessDenied", "AccessDeniedException"})
NO_QUEUE = frozenset({"QueueDoesNotExist", "NonExistentQueue", "QueueDoesNotExistException"})


class QueueUnavailable(Exception):
    """SQS did not do what it was asked for; another try may help. The text is for the log."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message in our hands. `receipt`: for this receipt only. `received`: by the process's
    monotonic clock.
    """

    id: str
    receipt: str
    body: str
    attributes: Mapping[str, Any] = field(default_factory=dict)
    received: float = field(default_factory=time.monotonic)

    @property
    def left_s(self) -> float:
        """How long it can be kept hidden at most."""
        return LONGEST_VISIBILITY_S - MARGIN_S - (time.monotonic() - self.received)


class SqsQueue:
    """A queue and the one for dead letters. Its methods block; any thread may call them.

    All raise QueueUnavailable.
    """

    def __init__(self, client: Any, url: str, dead_letter_url: str, visibility_s: int) -> None:
        self._client = client
        self.url = url
        self._dead_letter_url = dead_letter_url
        self.visibility_s = visibility_s
        self._laid_aside: set[str] = set()  # IDs of messages that are in both queues

    def receive(self, num_messages: int, wait_s: int) -> list[Message]:
        """Up to so many messages, hidden from others from now on."""
        answer = self._call(
            "receive_message",
            QueueUrl=self.url,
            MaxNumberOfMessages=min(num_messages, BATCH),
            WaitTimeSeconds=wait_s,
            VisibilityTimeout=self.visibility_s,
            MessageAttributeNames=["All"],
        )
        return [_message_of(found) for found in answer.get("Messages", ())]

    def extend(self, messages: Sequence[Message]) -> list[Message]:
        """Keep messages hidden for the visibility time from now on, or up to SQS's limit. Those of
        which we have lost hold: they come again.
        """
        lost = [message for message in messages if message.left_s <= 0]
        ours = [message for message in messages if message.left_s > 0]
        for first in range(0, len(ours), BATCH):
            batch = ours[first : first + BATCH]
            answer = self._call(
                "change_message_visibility_batch",
                QueueUrl=self.url,
                Entries=[
                    _entry(index, message, self.visibility_s) for index, message in enumerate(batch)
                ],
            )
            lost += [
                batch[int(entry["Id"])]
                for entry in answer.get("Failed", ())
                if entry.get("SenderFault")
            ]
        return lost

    def release(self, message: Message, delay_s: int = 0) -> None:
        """Let others have a message."""
        self._call(
            "change_message_visibility",
            QueueUrl=self.url,
            ReceiptHandle=message.receipt,
            VisibilityTimeout=delay_s,
        )

    def delete(self, message: Message) -> None:
        self._call("delete_message", QueueUrl=self.url, ReceiptHandle=message.receipt)

    def lay_aside(self, message: Message, facts: Mapping[str, str]) -> bool:
        """Move a message to the dead letters, with facts as attributes. False: there is no such
        queue, so the message stays. If the process ends in between, it is in both.
        """
        if not self._dead_letter_url:
            return False
        if message.id not in self._laid_aside:
            self._call(
                "send_message",
                QueueUrl=self._dead_letter_url,
                MessageBody=message.body,
                MessageAttributes=_with_facts(message.attributes, facts),
                **self._order_of_sending(message),
            )
            self._laid_aside.add(message.id)
        self.delete(message)
        self._laid_aside.discard(message.id)
        return True

    def _order_of_sending(self, message: Message) -> dict[str, str]:
        if not self._dead_letter_url.endswith(".fifo"):
            return {}
        return {"MessageGroupId": message.id, "MessageDeduplicationId": message.id}

    def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            answer: dict[str, Any] = getattr(self._client, operation)(**arguments)
        except ClientError as error:
            raise QueueUnavailable(_sentence(error.response, operation)) from None
        except BotoCoreError as error:
            raise QueueUnavailable(_unreachable(error)) from None
        return answer


def _message_of(found: Mapping[str, Any]) -> Message:
    return Message(
        found["MessageId"],
        found["ReceiptHandle"],
        found.get("Body", ""),
        found.get("MessageAttributes", {}),
    )


def _entry(index: int, message: Message, visibility_s: int) -> dict[str, Any]:
    return {
        "Id": str(index),
        "ReceiptHandle": message.receipt,
        "VisibilityTimeout": max(0, min(visibility_s, int(message.left_s))),
    }


def _with_facts(attributes: Mapping[str, Any], facts: Mapping[str, str]) -> dict[str, Any]:
    """Ours first: there may be only ten."""
    ours = {
        name: {"DataType": "String", "StringValue": _printable(value)[:MAX_REASON_CHARS]}
        for name, value in facts.items()
        if value
    }
    theirs = [(name, value) for name, value in attributes.items() if name not in ours]
    return {**ours, **dict(theirs[: MAX_ATTRIBUTES - len(ours)])}


def _printable(text: str) -> str:
    """SQS refuses what XML cannot hold."""
    return "".join(char if char.isprintable() else "?" for char in text)


# -- errors --------------------------------------------------------------------------------------


def _sentence(response: Mapping[str, Any], operation: str) -> str:
    code = str(response.get("Error", {}).get("Code", ""))
    plain = code.rpartition(".")[2]  # AWS.SimpleQueueService.NonExistentQueue
    if plain in KEY_PROBLEMS:
        return (
            f"SQS does not accept the access key ({plain}): check AWS_ACCESS_KEY_ID, "
            "AWS_SECRET_ACCESS_KEY and the machine's clock"
        )
    if plain in DENIED:
        return f"SQS does not permit {operation} to this access key ({plain})"
    if plain in NO_QUEUE:
        return "the queue does not exist: check AWS_SQS_ASR_QUEUE_URL and AWS_REGION"
    return f"SQS refused {operation} ({plain or 'no reason given'})"


def _unreachable(error: Exception) -> str:
    name = type(error).__name__
    if "Credential" in name or "Token" in name:
        return (
            f"there is no access key for SQS ({name}): set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or give the machine a role"
        )
    return f"SQS cannot be reached ({name})"


# -- building ------------------------------------------------------------------------------------


def build_sqs_queue(settings: Settings) -> SqsQueue:
    """Connects to nothing yet.

    Raises:
        ConfigurationError: no queue, no region, half a key, or boto3 is missing.
    """
    if not settings.sqs_queue_url:
        raise ConfigurationError("AWS_SQS_ASR_QUEUE_URL: worker --sqs needs the URL of a queue.")
    return SqsQueue(
        build_client(settings),
        settings.sqs_queue_url,
        settings.sqs_dead_letter_queue_url,
        settings.sqs_visibility_s,
    )


def build_client(settings: Settings) -> Any:
    """A client of the server in the queue's URL. Raises ConfigurationError."""
    try:
        from boto3.session import Session
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise ConfigurationError(
            "SQS needs an extra: pip install 'whisperx-asr-service[s3]'."
        ) from None
    key = settings.aws_access_key_id.get_secret_value()
    secret = settings.aws_secret_access_key.get_secret_value()
    if bool(key) != bool(secret):
        raise ConfigurationError(
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY: set both, or neither."
        )
    address = urlsplit(settings.sqs_queue_url)
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S + settings.sqs_wait_s,
        retries={"mode": "standard", "total_max_attempts": NUM_TRIES},
        tcp_keepalive=True,
    )
    try:
        return Session().client(
            "sqs",
            endpoint_url=f"{address.scheme}://{address.netloc}",
            region_name=settings.sqs_region or settings.aws_region or None,
            aws_access_key_id=key or None,
            aws_secret_access_key=secret or None,
            aws_session_token=settings.aws_session_token.get_secret_value() or None,
            config=config,
        )
    except (BotoCoreError, ValueError) as error:
        raise ConfigurationError(f"SQS: {error} (AWS_REGION)") from None
