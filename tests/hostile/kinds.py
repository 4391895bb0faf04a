"""The bad replies, as data: what each is called, what it sends, and what must become of the session."""

from __future__ import annotations

import gzip
import json
import time
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

from .server import Send, Talk

TAKEN = ""
"""The reply is as good as any: its proposals are taken."""
_ITEM = {"text": "a photo of a shark.", "kind": "look_alike", "rationale": "it has fins"}
GOOD = json.dumps({"antibodies": [_ITEM]})
_USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}
_KEY = "sk-live-0123456789abcdef"


class Kind(NamedTuple):
    """One bad reply. `problem`: what is said of it where it was for one class only; TAKEN where nothing is lost.

    `answered`: the model did say something, which is recorded. Else the class has no answer, and where no class has one
    the session pauses; with `for_all` it pauses although only one had none. `tries`: how often it was asked, of two;
    0 where a server that always says when to ask again is asked until patience ends.
    """

    name: str
    send: Send
    problem: str
    answered: bool = True
    for_all: bool = False
    tries: int = 1
    quick: bool = False
    """Run by `make test`."""


def http(body: bytes, status: str = "200 OK", *headers: str, length: int | str | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body) if length is None else length}", *headers]
    if not any(line.lower().startswith("content-type") for line in headers):
        lines.append("content-type: application/json")
    return "\r\n".join([*lines, "", ""]).encode() + body


def completion(message: Any = None, *, finish: Any = "stop", usage: Any = _USAGE, **more: Any) -> bytes:
    """A body with changes to the message, the choice (finish) or the whole."""
    said = {"role": "assistant", "content": GOOD} | message if message is None or isinstance(message, dict) else message
    body = {"id": "1", "object": "chat.completion", "created": 0, "model": "tiny", "usage": usage}
    return json.dumps(body | {"choices": [{"index": 0, "finish_reason": finish, "message": said}]} | more).encode()


_GOOD_BODY = completion({})


def sending(data: bytes) -> Send:
    return lambda talk: talk.send(data)


def _said(name: str, body: bytes, problem: str = TAKEN, **more: Any) -> Kind:
    """The model said something odd."""
    return Kind(name, sending(http(body)), problem, **more)


def _content(name: str, content: Any, problem: str = TAKEN, **more: Any) -> Kind:
    return _said(f"content: {name}", completion({"content": content}), problem, **more)


def _usage(name: str, count: Any, **more: Any) -> Kind:
    return _said(f"usage: {name}", completion({}, usage={**_USAGE, "completion_tokens": count}), **more)


def _broken(name: str, send: bytes | Send, problem: str = "no usable reply", **more: Any) -> Kind:
    """No reply, although it may pass by itself: tried again."""
    send = sending(send) if isinstance(send, bytes) else send
    return Kind(name, send, problem, **{"answered": False, "tries": 2} | more)


def _status(
    status: str, *headers: str, body: bytes = b'{"error": {"message": "no"}}', of: str = "", **more: Any
) -> Kind:
    name = " ".join([f"HTTP {status}", *headers, of]).strip()
    problem = f"HTTP {status.split()[0]}"
    return Kind(name, sending(http(body, status, *headers)), problem, **{"answered": False} | more)


def _moved(
    name: str, status: int, where: Callable[[Talk], str] | str, problem: str = "another server", *, tries: int = 1
) -> Kind:
    def send(talk: Talk) -> None:
        location = where if isinstance(where, str) else where(talk)
        talk.send(http(b"", f"{status} Moved", f"location: {location}"))

    return Kind(f"redirect {status}: {name}", send, problem, answered=False, for_all=True, tries=tries)


def _port_of(talk: Talk) -> str:
    return talk.server.address.split(":")[2].split("/")[0]


ELSEWHERE: list[str] = []
"""The address of the server that nobody is to ask, while the kinds are run."""


def _moved_once(talk: Talk) -> None:
    if talk.path.endswith("/"):
        talk.send(http(_GOOD_BODY))
    else:
        talk.send(http(b"", "307 Moved", f"location: {talk.path}/"))


def _poured(*headers: str, status: str = "200 OK", piece: bytes = b" " * 65536, start: bytes = b"{") -> Send:
    def send(talk: Talk) -> None:
        talk.send(http(start, status, *headers, length=2**40))
        talk.pour(piece)

    return send


_BOMBS: list[tuple[str, ...]] = []


def pack_bombs() -> None:
    """Pack what takes seconds, once: whoever asks for a bomb has not so long."""
    for packings in _BOMBS:
        _packed(*packings)


def _bomb(*packings: str) -> Send:
    """0.5 GiB of blanks, packed by each; `pack_bombs` comes before it is sent."""
    _BOMBS.append(packings)
    return lambda talk: talk.send(http(_packed(*packings), "200 OK", f"content-encoding: {', '.join(packings)}"))


@cache
def _packed(*packings: str) -> bytes:
    packed = b"{"
    for packing in packings:
        pack = zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16 if packing == "gzip" else zlib.MAX_WBITS)
        if packed == b"{":
            packed = b"".join([pack.compress(packed), *(pack.compress(b" " * 2**20) for _ in range(512)), pack.flush()])
        else:
            packed = pack.compress(packed) + pack.flush()
    return packed


def _dripped(start: bytes, dripped: bytes) -> Send:
    def send(talk: Talk) -> None:
        talk.send(start)
        talk.drip(dripped)

    return send


def _endless(start: bytes, piece: bytes) -> Send:
    def send(talk: Talk) -> None:
        talk.send(start)
        talk.pour(piece)

    return send


def _silent(talk: Talk) -> None:
    talk.server.closing.wait(20)


def _late(talk: Talk) -> None:
    time.sleep(0.3)
    talk.send(http(_GOOD_BODY))


def _chunked(*chunks: bytes, last: bytes = b"0\r\n\r\n") -> bytes:
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + last


def _items(*texts: str) -> str:
    return json.dumps({"antibodies": [{**_ITEM, "text": text} for text in texts]})


def _calls(*arguments: Any) -> list[dict[str, Any]]:
    return [{"id": "1", "type": "function", "function": {"name": "Proposals", "arguments": one}} for one in arguments]


_DRAFT = _items("a photo of a draft.")
_FINAL = "<|start|>assistant<|channel|>final <|constrain|>json<|message|>"
CALLED = (
    ("whole", {"content": None, "tool_calls": _calls(GOOD)}),
    ("beside blanks", {"content": "\n\n", "tool_calls": _calls(GOOD)}),
    ("beside a text", {"content": "Here you are.", "tool_calls": _calls(GOOD)}),
    ("beside a thought", {"content": f"<think>maybe {_DRAFT}", "tool_calls": _calls(GOOD)}),
    ("two", {"content": None, "tool_calls": _calls(_items("a photo of a whale."), GOOD)}),
    ("two, one broken", {"content": None, "tool_calls": _calls(_items("a photo of a whale.")[:-3], GOOD)}),
    ("broken off", {"content": None, "tool_calls": _calls(GOOD[:-1] + ', {"text": "a ph')}),
    ("an object", {"content": None, "tool_calls": _calls(json.loads(GOOD))}),
    ("a list", {"content": None, "tool_calls": _calls(json.dumps([_ITEM]))}),
    ("encoded twice", {"content": None, "tool_calls": _calls(json.dumps(GOOD))}),
    ("as functions were called", {"content": None, "function_call": {"name": "Proposals", "arguments": GOOD}}),
)
"""Ways to say it in tool calls."""
_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
TIMED_OUT = "timed out"
_LIST = "the JSON in the reply is not what was asked for"

SAID = (
    _usage("2^63", 2**63, quick=True),
    _usage("-10^9", -(10**9), quick=True),
    _usage("1.5", 1.5, quick=True),
    _usage("true", True),
    _usage("a text", "7"),
    _usage("null", None),
    _usage("a list", [7]),
    _usage("10^30", 10**30),
    _said("usage: infinite", completion({}).replace(b'"completion_tokens": 7', b'"completion_tokens": 1e999')),
    _said("usage: NaN", completion({}).replace(b'"completion_tokens": 7', b'"completion_tokens": NaN')),
    _said("usage: a text itself", completion({}, usage="many")),
    _said("usage: a list itself", completion({}, usage=[1, 2])),
    _said("usage: odd details", completion({}, usage={**_USAGE, "prompt_tokens_details": "x"})),
    *(
        _said(f"role: {role}", completion({"role": role}), quick=role == "system")
        for role in ("system", "user", "tool", "function", "developer", None, 7, ["assistant"])
    ),
    _content("parts", [{"type": "text", "text": GOOD}]),
    _content("parts that are texts", [GOOD]),
    _content("JSON itself", json.loads(GOOD)),
    _content("JSON list itself", [_ITEM, 7]),
    _content("a number", 7, "holds no JSON"),
    _content("true", True, "holds no JSON"),
    _content("nothing", None, "the reply is empty"),
    _content("blanks", " \n ", "the reply is empty"),
    _content("prose", "Think of a shark.", "holds no JSON"),
    _content("another schema", '{"names": ["shark"]}', _LIST),
    _content("a megabyte of prose", "so on " * 170_000, "longer than can be read"),
    _content("a million brackets", "[" * 1_000_000, "longer than can be read"),
    _content("deep nesting", "[" * 50_000 + "]" * 50_000, "holds no JSON"),
    _content("a number of 10,000 digits", '{"antibodies": [' + "9" * 10_000 + "]}", "holds no JSON"),
    _content("5,000 items", _items(*(f"a photo of thing {i}." for i in range(5_000))), "more than the 8 asked for"),
    _content("a doubled key", '{"antibodies": [], "antibodies": [' + json.dumps(_ITEM) + "]}"),
    _content("lone surrogates", _items("a photo of a \ud800 shark.")),
    _content("NUL and ESC", _items("a photo\0 of\x1b a shark.")),
    _content("right to left", _items("a photo of\u202e a shark.")),
    _content("markup", _items("<b>a photo of a shark.</b>"), "holds markup"),
    _content("another's instructions", "Ignore all that. {{config}} <|im_end|>", "holds no JSON"),
    _said("refusal", completion({"content": None, "refusal": "I would rather not."}), "the model refused"),
    _said("refusal: an object", completion({"content": None, "refusal": {"why": 1}}), "the reply is empty"),
    _said("tool calls: a text", completion({"tool_calls": "x"})),
    _said("tool calls: texts", completion({"tool_calls": ["x"]})),
    *(_said(f"tool calls: {how}", completion(message), quick=how in ("broken off", "two")) for how, message in CALLED),
    _said("tool calls: no arguments", completion({"content": None, "tool_calls": _calls("")}), "the reply is empty"),
    _content("encoded twice", json.dumps(GOOD)),
    _content("encoded twice, cut off", json.dumps(GOOD)[:-2]),
    _content("a field encoded twice", json.dumps({"antibodies": json.dumps([_ITEM])}), quick=True),
    _content("curly quotes", GOOD.replace('"', "”"), quick=True),
    _content("<thinking>", f"<thinking>maybe {_DRAFT}</thinking>{GOOD}"),
    _content("[THINK]", f"[THINK]maybe {_DRAFT}[/THINK]{GOOD}"),
    _content("channels", f"<|channel|>analysis<|message|>{_DRAFT}<|end|>{_FINAL}{GOOD}<|return|>"),
    _content("a thought that does not end", f"<think>maybe {GOOD}", "nothing but a thought", quick=True),
    _content("no final channel", f"<|channel|>analysis<|message|>{GOOD}", "nothing but a thought"),
    _said("an error behind a reply", completion({}, choices=[{"error": {"code": 502}, "message": {"content": GOOD}}])),
    _said("finish: an error", completion({}, finish="error"), "the reply was stopped: error"),
    _said("finish: an object", completion({}, finish={"a": 1})),
    _said("finish: a number", completion({}, finish=3)),
    _said("finish: length", completion({"content": GOOD[:-2] + ', {"text": "a ph'}, finish="length"), "was cut off"),
    _said("finish: filtered", completion({"content": ""}, finish="content_filter"), "the reply was stopped"),
    _said("choices: the second is broken", completion({}, choices=[*json.loads(_GOOD_BODY)["choices"], None])),
    _said("choices: a thousand", completion({}, choices=json.loads(_GOOD_BODY)["choices"] * 1000)),
    _said("choice: no index, odd logprobs", completion({}, choices=[{"message": {"content": GOOD}, "logprobs": 7}])),
    _said("odd id, created, model, tier", completion({}, id=7, created="x", model={}, service_tier={}, object=None)),
    _said("unknown keys", completion({"secret": [1]}, nonsense={"a": [None]})),
    _said("an error beside a reply", completion({}, error="odd")),
    _said("UTF-8 with a mark", b"\xef\xbb\xbf" + _GOOD_BODY),
    _said("UTF-16", _GOOD_BODY.decode().encode("utf-16")),
    _said("a megabyte of blanks before", b" " * 2**20 + _GOOD_BODY),
    Kind("content-type: text/plain", sending(http(_GOOD_BODY, "200 OK", "content-type: text/plain")), TAKEN),
    Kind("content-type: HTML", sending(http(_GOOD_BODY, "200 OK", "content-type: text/html")), TAKEN),
    Kind("charset=klingon", sending(http(_GOOD_BODY, "200 OK", "content-type: a/b; charset=klingon")), TAKEN),
    Kind("HTTP 201", sending(http(_GOOD_BODY, "201 Created")), TAKEN),
    Kind("gzip, not asked for", sending(http(gzip.compress(_GOOD_BODY), "200 OK", "content-encoding: gzip")), TAKEN),
    Kind("deflate", sending(http(zlib.compress(_GOOD_BODY), "200 OK", "content-encoding: deflate")), TAKEN),
    Kind("a hundred cookies", sending(http(_GOOD_BODY, "200 OK", *["set-cookie: a=b"] * 99)), TAKEN),
    Kind("late, but in time", _late, TAKEN),
    Kind("chunks", sending(_chunked(_GOOD_BODY[:9], _GOOD_BODY[9:])), TAKEN),
    Kind("no length, ends with the connection", sending(_HEAD + b"\r\n" + _GOOD_BODY), TAKEN),
    Kind("garbage behind the reply", sending(http(_GOOD_BODY) + b"\0\xff garbage"), TAKEN),
    Kind("redirect 307: the same server", _moved_once, TAKEN, tries=2, quick=True),
)

BROKEN = (
    _broken("half a JSON", http(_GOOD_BODY[:99]), "HTTP 200 with what is no JSON", quick=True),
    _broken("empty body", http(b""), "HTTP 200 with an empty body", quick=True),
    _broken("HTML", http(b"<!DOCTYPE html><h1>Hello</h1>"), "HTTP 200 with HTML", quick=True),
    _broken("an error object", http(b'{"error": {"message": "overloaded"}}'), "an error: .*overloaded", quick=True),
    _broken(
        "an error of another provider",
        http(
            json.dumps({"error": {"message": "Provider failed", "code": 502, "metadata": {"raw": "no GPU"}}}).encode()
        ),
        "Provider failed no GPU",
    ),
    _broken(
        "an error in the choice",
        http(completion({}, choices=[{"error": {"message": "no GPU"}, "message": {"content": ""}}])),
        "an error: .*no GPU",
    ),
    _broken("an error text", http(b'{"error": "over\\u001b[31mloaded\\n"}'), "an error: .*over"),
    _broken("a number of 10,000 digits", http(b"9" * 10_000)),
    _broken("usage: 10,000 digits", http(_GOOD_BODY.replace(b": 11", b": " + b"9" * 10_000))),
    _broken("no UTF-8", http(_GOOD_BODY.replace(b"shark", b"sh\xff\xferk"))),
    _broken("deep nesting", http(b"[" * 500_000)),
    _broken("deep objects", http(b'{"a":' * 500_000)),
    _broken(
        "events", http(b"data: " + _GOOD_BODY + b"\n\ndata: [DONE]\n\n", "200 OK", "content-type: text/event-stream")
    ),
    _broken("lines of JSON", http(_GOOD_BODY + b"\n" + _GOOD_BODY)),
    _broken("a text", http(b'"hello"')),
    _broken("null", http(b"null")),
    _broken("a list", http(b"[1, 2]")),
    _broken("no choice", http(completion({}, choices=[]))),
    *(_broken(f"choices: {odd!r}", http(completion({}, choices=odd))) for odd in (None, {}, "x", [None], ["x"], [[]])),
    *(_broken(f"message: {odd!r}", http(completion(odd))) for odd in ("x", [], 7)),
    _broken("packed as br", http(b"\x0b\x02\x80{}\x03", "200 OK", "content-encoding: br"), "packed as 'br'"),
    _broken("packed as zstd", http(b"(\xb5/\xfd", "200 OK", "content-encoding: zstd"), "packed as 'zstd'"),
    _broken("packed as ESC", http(b"{}", "200 OK", "content-encoding: a\x1b[31m")),
    _broken("gzip that is none", http(_GOOD_BODY, "200 OK", "content-encoding: gzip"), "a body that is no gzip"),
    _broken("half a gzip", http(gzip.compress(_GOOD_BODY)[:60], "200 OK", "content-encoding: gzip")),
    _broken("a gzip bomb", _bomb("gzip"), "more than 8 MiB", quick=True),
    _broken("a deflate bomb", _bomb("deflate"), "more than 8 MiB"),
    _broken("a bomb in a bomb", _bomb("gzip", "gzip"), "packed as 'gzip, gzip'"),
    _broken("a body without end", _poured(), "more than 8 MiB", quick=True),
    _broken(
        "chunks without end",
        _endless(_HEAD + b"transfer-encoding: chunked\r\n\r\n", b"400\r\n" + b" " * 1024 + b"\r\n"),
    ),
    _broken("a chunk extension without end", _endless(_HEAD + b"transfer-encoding: chunked\r\n\r\n1;", b"a" * 65536)),
    _broken("a trailer without end", _endless(_chunked(_GOOD_BODY, last=b"0\r\n"), b"a: b\r\n" * 9999)),
    _broken("a chunk of 2^63", _HEAD + b"transfer-encoding: chunked\r\n\r\n8000000000000000\r\n{}"),
    _broken("a chunk of no size", _HEAD + b"transfer-encoding: chunked\r\n\r\nxyz\r\n{}"),
    _broken("half a chunk", _chunked(_GOOD_BODY, last=b"fff\r\n{")),
    _broken("a header a byte a time", _dripped(b"", b"HTTP/1.1 200 OK\r\nx: " + b"y" * 200), TIMED_OUT, quick=True),
    _broken("a body a byte a time", _dripped(_HEAD + b"content-length: 9999\r\n\r\n", b"{"), TIMED_OUT, quick=True),
    _broken(
        "chunks a byte a time", _dripped(_HEAD + b"transfer-encoding: chunked\r\n\r\n", b"1\r\n \r\n" * 999), TIMED_OUT
    ),
    _broken("an error a byte a time", _dripped(http(b"", "500 Oops", length=9999), b"{"), TIMED_OUT),
    _broken("a redirect a byte a time", _dripped(b"HTTP/1.1 307 Moved\r\nlocation: /", b"v" * 300), TIMED_OUT),
    _broken("silence", _silent, TIMED_OUT),
    _broken("half a header, then silence", lambda talk: (talk.send(_HEAD), _silent(talk))[0], TIMED_OUT),
    _broken("100 Continue for ever", _endless(b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 99), "no usable reply|timed out"),
    _broken("headers without end", _endless(_HEAD, b"x-a: b\r\n" * 999)),
    _broken("a header of a megabyte", _HEAD + b"x-a: " + b"b" * 2**20 + b"\r\n\r\n"),
    _broken("closed without a byte", lambda talk: None),
    _broken("reset", Talk.reset),
    _broken("dropped half-way", http(_GOOD_BODY[:50], length=len(_GOOD_BODY)), quick=True),
    _broken("length too short", http(_GOOD_BODY, length=20)),
    _broken("length below 0", http(_GOOD_BODY, length=-5)),
    _broken("length of no number", http(_GOOD_BODY, length="many")),
    _broken("two lengths", http(_GOOD_BODY, "200 OK", "content-length: 5")),
    _broken("SSH", b"SSH-2.0-OpenSSH_9.6\r\n"),
    _broken("TLS", b"\x15\x03\x01\x00\x02\x02\x46"),
    _broken("HTTP/2", b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\0" * 18),
    _broken("HTTP/0.9", _GOOD_BODY),
    _broken("a status of no number", b"HTTP/1.1 OK fine\r\n\r\n"),
    _broken("101 Switching Protocols", b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", ""),
    _broken("HTTP 204", b"HTTP/1.1 204 No Content\r\n\r\n"),
    _broken("HTTP 206", http(_GOOD_BODY[:70], "206 Partial", "content-range: bytes 0-69/300")),
)

REFUSED = (
    _status("400 Bad"),
    _status("400 Bad", "content-type: text/html", body=b"<h1>no</h1>"),
    _status("401 Who", for_all=True, body=json.dumps({"error": {"message": f"Incorrect key: {_KEY}"}}).encode()),
    _status("403 No", for_all=True),
    _status("404 Where", for_all=True),
    _status("408 Late", tries=2),
    _status("413 Large"),
    _status("422 Odd", body=b'{"detail": [{"loc": ["body", "seed"], "msg": "no number"}]}')._replace(
        problem="HTTP 422: the server takes a .*body.seed: no number"
    ),
    _status(
        "400 Bad", of="the context", body=b'{"error": {"message": "the request exceeds the available context size"}}'
    )._replace(problem="do not fit into the model's context"),
    _said("an error of the key, as HTTP 200", b'{"error": {"message": "bad key", "code": 401}}', "key")._replace(
        answered=False, for_all=True
    ),
    _status("429 Slow", tries=2),
    _status("429 Slow", "retry-after-ms: 10", for_all=True, tries=0),
    _status("429 Slow", "retry-after: 0", for_all=True, tries=0),
    _status("429 Slow", "retry-after: 99999999999", for_all=True, quick=True),
    _status("429 Slow", "retry-after: Fri, 31 Dec 9999 23:59:59 GMT", for_all=True),
    _status("429 Slow", "retry-after: -5", tries=2),
    _status("429 Slow", "retry-after: nan", tries=2),
    _status("429 Slow", "retry-after: soon", tries=2),
    _status("429 Quota", for_all=True, body=b'{"error": {"message": "no", "code": "insufficient_quota"}}'),
    _status("500 Oops", tries=2),
    _status("500 Oops", tries=2, of="nested deeply", body=b"[" * 500_000),
    _status(
        "500 Oops", tries=2, of="with ESC", body=b'{"error": {"message": "\\u001b[2J\\u202e\\n\\nfailed: all is well"}}'
    ),
    _status("500 Oops", tries=2, of="with a list", body=b'{"error": [1, {"message": null}]}'),
    _status("502 Gate", "content-type: text/html", tries=2, body=b"<html>Bad Gateway</html>"),
    _status("503 Busy", "retry-after-ms: nan", for_all=True, tries=0),
    _status("529 Busy", tries=2),
    _status("999 What", tries=2),
    _status("304 Same", for_all=True),
    _status("500 Oops", "content-encoding: br", tries=2),
    Kind("HTTP 500 with a body without end", _poured(status="500 Oops"), "HTTP 500", answered=False, tries=2),
    _said(
        "an error of the quota, as HTTP 200", b'{"error": {"message": "no", "code": "insufficient_quota"}}', "quota"
    )._replace(answered=False, for_all=True),
    _moved("another port", 307, lambda _: f"{ELSEWHERE[0]}/chat/completions"),
    _moved("another name of this machine", 308, lambda talk: f"http://localhost:{_port_of(talk)}/v1/x"),
    _moved("another host, without a scheme", 307, "//example.invalid/v1"),
    _moved("a host behind an @", 307, lambda talk: f"http://127.0.0.1:{_port_of(talk)}@example.invalid/v1"),
    _moved("a file", 307, "file:///etc/passwd"),
    _moved("as a GET", 302, lambda _: f"{ELSEWHERE[0]}/models", "leads nowhere"),
    _moved("as a GET, here", 301, "/v1/other", "leads nowhere"),
    _moved("to no address", 307, "http://[::1", "leads nowhere"),
    _moved("to nowhere", 307, "", "leads on and on", tries=3),
    _moved("to itself", 307, "/v1/chat/completions", "leads on and on", tries=3),
    Kind(
        "redirect 307 with a body without end",
        _poured("location: http://example.invalid/", status="307 Moved"),
        "another server",
        answered=False,
        for_all=True,
    ),
    Kind(
        "redirect 307 without a location",
        sending(http(b"", "307 Moved")),
        "leads nowhere",
        answered=False,
        for_all=True,
    ),
)
KINDS = (*SAID, *BROKEN, *REFUSED)
