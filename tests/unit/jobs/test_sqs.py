"""Messages of the SQS queue: what they ask for, and how long they can be held."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from app.config.settings import load_settings
from app.config.sqs import LONGEST_VISIBILITY_S
from app.domain.errors import ConfigurationError, UnsupportedOption
from app.formats.orator import Order
from app.jobs.audio_urls import AudioPlaces, s3_object
from app.jobs.job import S3Object, Url
from app.jobs.sqs import build_sqs_worker, client_of, webhook_of
from app.jobs.sqs_orders import MAX_ID_CHARS, NOT_JSON, BadMessage, key_of, read_order
from app.jobs.sqs_queue import Message, QueueUnavailable, SqsQueue, build_client, build_sqs_queue
from app.storage.egress import EgressRules
from tests.support.keys import BOB

PLACES = AudioPlaces(("bucket", "my.bucket"), "http://minio:9000")
KEY = "presentations/456/audio.mp3"


@pytest.mark.parametrize(
    "url",
    [
        f"s3://bucket/{KEY}",
        f"https://s3.amazonaws.com/bucket/{KEY}",
        f"https://s3.ap-southeast-1.amazonaws.com/bucket/{KEY}",
        f"https://s3-ap-southeast-1.amazonaws.com/bucket/{KEY}",
        f"https://s3.dualstack.ap-southeast-1.amazonaws.com/bucket/{KEY}",
        f"https://bucket.s3.amazonaws.com/{KEY}",
        f"https://bucket.s3.ap-southeast-1.amazonaws.com/{KEY}?X-Amz-Signature=abc",
        f"https://bucket.s3.dualstack.eu-west-1.amazonaws.com/{KEY}",
        f"https://bucket.s3-eu-west-1.amazonaws.com/{KEY}",
        f"https://bucket.s3.cn-north-1.amazonaws.com.cn/{KEY}",
        f"http://minio:9000/bucket/{KEY}",
    ],
)
def test_addresses_of_an_object(url: str) -> None:
    assert PLACES.source_of(url) == S3Object(bucket="bucket", key=KEY)


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("s3://bucket/a b?c#d%20.mp3", "a b?c#d%20.mp3"),
        ("https://bucket.s3.amazonaws.com/b%C3%A0i%20n%C3%B3i.mp3", "bài nói.mp3"),
        ("https://my.bucket.s3.eu-west-1.amazonaws.com/a.mp3", "a.mp3"),
    ],
)
def test_names_of_objects(url: str, key: str) -> None:
    found = PLACES.source_of(url)
    assert isinstance(found, S3Object)
    assert found.key == key


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("s3://other/a.mp3", "'other' is not a bucket"),
        ("s3://bucket?/../other/a.mp3", "is not a bucket"),
        ("https://other.s3.amazonaws.com/a.mp3", "'other' is not a bucket"),
        ("s3://bucket/", "the key of the object must have 1 to 1024"),
        ("s3://bucket", "the key of the object must have 1 to 1024"),
        (f"s3://bucket/{'é' * 513}", "the key of the object must have 1 to 1024"),
        ("https://s3.amazonaws.com.evil.example/bucket/a.mp3", "URLs are not accepted"),
        ("https://example.com/a.mp3", "URLs are not accepted"),
        ("https://[::1/a.mp3", "URLs are not accepted"),
        ("file:///etc/passwd", "URLs are not accepted"),
        ("a.mp3", "URLs are not accepted"),
    ],
)
def test_addresses_that_are_refused(url: str, sentence: str) -> None:
    with pytest.raises(UnsupportedOption, match=sentence):
        PLACES.source_of(url)


def test_where_urls_are_accepted() -> None:
    places = AudioPlaces(("bucket",), urls=EgressRules())
    signed = "https://other.s3.amazonaws.com/a.mp3?X-Amz-Signature=abc"
    assert places.source_of(signed) == Url(url=signed)
    assert places.source_of(f"s3://bucket/{KEY}") == S3Object(bucket="bucket", key=KEY)
    for refused in ("http://127.0.0.1/a.mp3", "http://0x7f000001/", "file:///a", "s3://other/a"):
        with pytest.raises(UnsupportedOption):
            places.source_of(refused)
    assert s3_object("https://example.com/a.mp3") is None


BODY = {"jobId": 1, "presentationId": 2, "audioUrl": f"s3://bucket/{KEY}"}


def message(**more: Any) -> str:
    return json.dumps({name: v for name, v in {**BODY, **more}.items() if v is not ...})


def test_what_a_message_asks_for() -> None:
    sent = message(metadata={"a": [1]}, queueType="asr", sentAt="now", version="1.0")
    found = read_order(sent, PLACES)
    assert (found.order, found.metadata) == (Order(1, 2, "mp3"), {"a": [1]})
    assert read_order(message(presentationId=..., jobId="j"), PLACES).order.job_id == "j"


@pytest.mark.parametrize(
    ("body", "sentence", "job_id"),
    [
        ("", NOT_JSON, None),
        ("{", NOT_JSON, None),
        ("[" * 100_000, NOT_JSON, None),
        ('"text"', NOT_JSON, None),
        ("[]", NOT_JSON, None),
        (message(jobId=...), "jobId: it is missing.", None),
        (message(jobId=True), "jobId: ", None),
        (message(jobId=""), "jobId: ", None),
        (message(jobId="x" * (MAX_ID_CHARS + 1)), "jobId: ", None),
        (message(jobId={"a": 1}), "jobId: ", None),
        (message(jobId=2**63), "jobId: ", None),
        (message(jobId=1.5), "jobId: ", None),
        (message(audioUrl="s3://bucket/a\0b"), "audioUrl: the key of the object must", 1),
        (message(audioUrl=...), "audioUrl: it is missing.", 1),
        (message(audioUrl=5), "audioUrl: should be a valid string.", 1),
        (message(audioUrl="s3://bucket/" + "x" * 5000), "audioUrl: ", 1),
        (message(metadata="text"), "metadata: should be an object.", 1),
        (message(presentationId=[1]), "presentationId: ", 1),
        (message(queueType="report"), "queueType: this worker takes only 'asr'.", 1),
        (message(audioUrl="s3://other/a"), "audioUrl: 'other' is not a bucket", 1),
    ],
)
def test_messages_with_mistakes(body: str, sentence: str, job_id: int | None) -> None:
    with pytest.raises(BadMessage) as caught:
        read_order(body, PLACES)
    assert caught.value.reason.startswith(sentence)
    assert (caught.value.order.job_id if caught.value.order else None) == job_id


def test_the_same_order() -> None:
    first = key_of("q", Order(1, 2), Url(url="https://a/b.mp3?X-Amz-Signature=1"))
    assert first == key_of("q", Order("1", "2"), Url(url="https://a/b.mp3?X-Amz-Signature=2"))
    others = {
        key_of("q", Order(1, 3), Url(url="https://a/b.mp3")),
        key_of("q", Order(2, 2), Url(url="https://a/b.mp3")),
        key_of("q", Order(1, 2), Url(url="https://a/c.mp3")),
        key_of("staging", Order(1, 2), Url(url="https://a/b.mp3")),
        key_of("q", Order(1, 2), S3Object(bucket="a", key="b.mp3")),
    }
    assert len(others | {first}) == 6


# -- the queue -----------------------------------------------------------------------------------


class Client:
    """Answers as SQS does where the tests' server does not: `answers` by operation."""

    def __init__(self, **answers: Any) -> None:
        self.answers = answers
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __getattr__(self, operation: str) -> Any:
        def call(**arguments: Any) -> Any:
            self.calls.append((operation, arguments))
            answer = self.answers.get(operation, {})
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def queue(client: Client, dead_letters: str = "") -> SqsQueue:
    return SqsQueue(client, "https://sqs.eu-west-1.amazonaws.com/1/asr", dead_letters, 300)


def test_sqs_lets_nobody_hold_a_message_longer_than_twelve_hours() -> None:
    now = time.monotonic()
    fresh = Message("fresh", "r1", "", received=now)
    late = Message("late", "r2", "", received=now - LONGEST_VISIBILITY_S + 100)
    over = Message("over", "r3", "", received=now - LONGEST_VISIBILITY_S)
    client = Client(change_message_visibility_batch={"Failed": [{"Id": "0", "SenderFault": True}]})
    assert queue(client).extend([over, fresh, late]) == [over, fresh]
    [(_, arguments)] = client.calls
    seconds = [entry["VisibilityTimeout"] for entry in arguments["Entries"]]
    assert seconds[0] == 300
    assert 90 <= seconds[1] <= 95


def test_many_messages_are_extended_in_few_calls() -> None:
    client = Client()
    assert queue(client).extend([Message(str(i), "r", "") for i in range(25)]) == []
    assert [len(arguments["Entries"]) for _, arguments in client.calls] == [10, 10, 5]


def test_a_dead_letter_keeps_what_fits() -> None:
    theirs = {f"a{i}": {"DataType": "String", "StringValue": "x"} for i in range(10)}
    client = Client()
    letter = Message("m", "r", "body", theirs)
    facts = {"Reason": "\0" + "r" * 2000, "JobId": ""}
    assert queue(client, "https://sqs/1/dead.fifo").lay_aside(letter, facts)
    (send, sent), (delete, _) = client.calls
    assert (send, delete) == ("send_message", "delete_message")
    assert len(sent["MessageAttributes"]) == 10
    assert sent["MessageAttributes"]["Reason"]["StringValue"] == "?" + "r" * 499
    assert (sent["MessageGroupId"], sent["MessageBody"]) == ("m", "body")
    assert not queue(Client()).lay_aside(letter, facts)


def test_a_message_that_cannot_be_deleted_is_one_dead_letter() -> None:
    client = Client(delete_message=refused("AccessDenied"))
    ours, letter = queue(client, "https://sqs/1/dead"), Message("m", "r", "body")
    for _ in range(3):
        with pytest.raises(QueueUnavailable):
            ours.lay_aside(letter, {})
    client.answers.clear()
    assert ours.lay_aside(letter, {})
    assert [name for name, _ in client.calls].count("send_message") == 1


def refused(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "hidden"}}, "ReceiveMessage")


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (refused("InvalidClientTokenId"), "does not accept the access key"),
        (refused("SignatureDoesNotMatch"), "does not accept the access key"),
        (refused("AccessDenied"), "does not permit receive_message"),
        (refused("AWS.SimpleQueueService.NonExistentQueue"), "the queue does not exist"),
        (refused("ServiceUnavailable"), "SQS refused receive_message (ServiceUnavailable)"),
        (NoCredentialsError(), "there is no access key for SQS"),
        (EndpointConnectionError(endpoint_url="https://hidden"), "SQS cannot be reached"),
    ],
)
def test_what_went_wrong(error: Exception, sentence: str) -> None:
    with pytest.raises(QueueUnavailable) as caught:
        queue(Client(receive_message=error)).receive(1, 0)
    assert sentence in str(caught.value)
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.ap-southeast-1.amazonaws.com/1/asr", "ap-southeast-1"),
        ("https://eu-west-1.queue.amazonaws.com/1/asr", "eu-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/asr", "cn-north-1"),
        ("https://queue.amazonaws.com/1/asr", ""),
        ("http://localhost:4566/000000000000/asr", ""),
    ],
)
def test_the_region_of_a_queue(url: str, region: str) -> None:
    assert load_settings({"sqs_queue_url": url}).sqs_region == region


def test_the_server_is_that_of_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "us-east-2")
    local = build_client(load_settings({"sqs_queue_url": "http://localhost:4566/1/asr"})).meta
    assert (local.endpoint_url, local.region_name) == ("http://localhost:4566", "us-east-2")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"sqs_queue_url": "asr"}, "must be such as https://sqs."),
        ({"aws_access_key_id": "half"}, "set both, or neither"),
        ({"sqs_min_speakers": 2, "sqs_max_speakers": 1}, "must not be less than MIN_SPEAKERS, 2"),
        ({"sqs_client": "alice", "api_keys": f"bob:{BOB}"}, "SQS_CLIENT: no key"),
        ({"sqs_client": "alice"}, "SQS_CLIENT: no key"),
        ({"receiver_url": ""}, "NODE_API_URL: worker --sqs needs"),
        ({"receiver_url": "localhost:8080"}, "must be such as https://api.example.com"),
        ({"receiver_url": "http://10.1.2.3"}, "Set EGRESS_ALLOWED_NETWORKS"),
    ],
)
def test_settings_that_cannot_work(settings: dict[str, Any], sentence: str) -> None:
    prepare({})
    with pytest.raises(ConfigurationError, match=sentence):
        prepare(settings)


def prepare(settings: dict[str, Any]) -> None:
    working = {"sqs_queue_url": "http://localhost:4566/1/asr", "aws_region": "us-east-2"}
    loaded = load_settings({**working, "receiver_url": "https://1.1.1.1", **settings})
    client_of(loaded)
    webhook_of(loaded, EgressRules())
    build_sqs_queue(loaded)


def test_a_worker_needs_jobs() -> None:
    service: Any = SimpleNamespace(settings=load_settings())
    with pytest.raises(ConfigurationError, match="JOBS"):
        build_sqs_worker(service, None)
