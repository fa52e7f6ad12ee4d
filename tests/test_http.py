"""The HTTP server: what is answered to GET, what is refused and how, and that nothing else can be asked for."""

import re
from importlib.resources import files
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from curhat_trio import __version__
from curhat_trio.config import Settings
from curhat_trio.conformance import wire
from curhat_trio.documents.schemas import schemas
from curhat_trio.http import MAX_HEAD_BYTES
from tests.peers import HttpClient, HttpResponse, RunningServer, open_peer, running_server

DOCUMENTS = {
    "/": "text/html; charset=utf-8",
    "/test-client": "text/html; charset=utf-8",
    "/curhat.js": "text/javascript; charset=utf-8",
    "/page.js": "text/javascript; charset=utf-8",
    "/curhat.d.ts": "text/plain; charset=utf-8",
    "/page.css": "text/css; charset=utf-8",
    "/favicon.svg": "image/svg+xml",
    "/health": "application/json",
    "/v1/info": "application/json",
    "/v1/asyncapi.json": "application/json",
    "/v1/schemas/": "application/json",
    "/v1/schemas/client.json": "application/json",
    "/v1/schemas/server/join.json": "application/json",
}
FILES = [path for path in DOCUMENTS if path not in ("/health", "/v1/info")]


async def ask(target: str, method: str = "GET", settings: Settings | None = None, **headers: str) -> HttpResponse:
    """One request to a server of its own."""
    async with running_server(settings) as server:
        return await HttpClient(await server.dial()).get(target, method, **headers)


async def ask_raw(request: bytes, method: str = "GET") -> HttpResponse:
    """Bytes in place of a request, to a server that has to end the connection after its answer."""
    async with running_server() as server:
        browser = HttpClient(await server.dial())
        answer = await browser.request_raw(request, method)
        assert "close" in answer.headers["connection"]
        assert await browser.is_closed()
        return answer


# ---------------------------------------------------------------- what there is


@pytest.mark.parametrize(("path", "content_type"), DOCUMENTS.items())
async def test_get_answers_with_the_content_type_and_head_with_the_same_head(path: str, content_type: str) -> None:
    async with running_server() as server:
        browser = HttpClient(await server.dial())
        got = await browser.get(path)
        assert got.status == 200
        assert got.headers["content-type"] == content_type
        assert int(got.headers["content-length"]) == len(got.body) > 0
        head = await browser.get(path, "HEAD")
        assert (head.status, head.body) == (200, b"")
        assert head.headers.keys() == got.headers.keys()
        if path in FILES:
            assert head.headers["content-length"] == got.headers["content-length"]
        assert (await browser.get("/health")).status == 200, "HEAD had no body that could be taken for an answer"


async def test_the_page_is_the_file_in_the_static_folder() -> None:
    page = files("curhat_trio").joinpath("static", "index.html").read_bytes()
    assert (await ask("/")).body == page
    assert (await ask("/test-client?x=1")).body == page
    assert (await ask("http://curhat.test/")).body == page, "absolute form (RFC 9112, section 3.2.2)"


async def test_every_file_of_the_static_folder_is_served_as_it_is() -> None:
    async with running_server() as server:
        browser = HttpClient(await server.dial())
        for file in files("curhat_trio").joinpath("static").iterdir():
            got = await browser.get(f"/{file.name}")
            assert (got.status, got.body) == (200, file.read_bytes()), file.name


async def test_everything_that_the_page_refers_to_is_served() -> None:
    async with running_server() as server:
        browser = HttpClient(await server.dial())
        page = (await browser.get("/")).body.decode()
        references = set(re.findall(r'(?:src|href)="([^"#:]+)"', page))
        assert references
        for reference in references:
            assert (await browser.get("/" + reference.lstrip("./"))).status == 200, reference


async def test_health_has_the_format_of_the_go_server() -> None:
    health = (await ask("/health")).json()
    assert health["success"] is True
    assert health["message"] == "Server is running"
    assert health["data"]["status"] == "healthy"
    assert health["data"]["room_count"] == 0
    assert health["data"]["version"] == __version__


async def test_health_counts_rooms_like_the_go_server(autojump_clock: MockClock) -> None:
    async with running_server() as server:
        await server.connect_pair()
        waiting = await server.connect()
        await waiting.send("join")
        await waiting.receive("ready")
        await server.connect()
        health = await server.health()
        assert (health["room_count"], health["connections"], health["waiting"]) == (2, 4, 1)
        await trio.sleep(12.5)
        assert (await server.health())["uptime_seconds"] == 12.5


async def test_info_has_what_a_client_needs_before_it_connects() -> None:
    info = (await ask("/v1/info", settings=Settings(max_message_bytes=2048, ping_seconds=7))).json()
    assert info["protocols"] == ["curhat.v1"]
    assert info["limits"]["messageBytes"] == 2048
    assert info["limits"]["messageBurst"] == 200
    assert info["pingSeconds"] == 7
    assert info["server"] == f"curhat_trio/{__version__}"


async def test_the_index_of_schemas_lists_each_that_is_served() -> None:
    async with running_server() as server:
        browser = HttpClient(await server.dial())
        index = (await browser.get("/v1/schemas/")).json()
        listed = [path for side in index.values() for path in (side["all"], *side["messages"].values())]
        assert sorted(listed) == sorted(f"/v1/{name}" for name in schemas())
        for path in listed:
            assert (await browser.get(path)).json() == schemas()[path.removeprefix("/v1/")]


@pytest.mark.parametrize("path", ["/health", "/v1/info"])
async def test_dynamic_documents_are_not_cached_and_readable_from_any_origin(path: str) -> None:
    headers = (await ask(path)).headers
    assert headers["cache-control"] == "no-store"
    assert headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize("path", FILES)
async def test_files_have_security_headers(path: str) -> None:
    headers = (await ask(path)).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "camera=(self)" in headers["permissions-policy"]


# ---------------------------------------------------------------- files that are known already


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("template", ["{}", "W/{}", '"other", {}', "*"])
async def test_an_unchanged_file_is_answered_with_304(template: str, method: str) -> None:
    async with running_server() as server:
        browser = HttpClient(await server.dial())
        etag = (await browser.get("/page.css")).headers["etag"]
        again = await browser.get("/page.css", method, if_none_match=template.format(etag))
        assert (again.status, again.body) == (304, b"")
        assert again.headers["etag"] == etag
        assert (await browser.get("/page.css")).status == 200, "the connection lives on"


async def test_a_changed_file_is_sent() -> None:
    assert (await ask("/page.css", if_none_match='"of another version"')).status == 200
    assert (await ask("/page.css")).headers["etag"] != (await ask("/page.js")).headers["etag"]


# ---------------------------------------------------------------- what there is not


@pytest.mark.parametrize("path", ["/nothing", "/index.htm", "/v1", "/v1/", "/ws/", "/wss", "/health/", "*"])
async def test_an_unknown_path_is_answered_with_404(path: str) -> None:
    assert (await ask(path)).status == 404


@pytest.mark.parametrize(
    "target",
    [
        "/../pyproject.toml",
        "/../http.py",
        "/%2e%2e/http.py",
        "/%2e%2e%2fhttp.py",
        "/..%5chttp.py",
        "/..\\http.py",
        "//etc/passwd",
        "///etc/passwd",
        "/etc/passwd",
        "/static/../http.py",
        "/static/index.html",
        "/static/..",
        "/index.html%00",
        "/index.html%00.js",
        "/./index.html",
        "/%2findex.html",
        "//[",
        "//[::x]/",
        "file:///etc/passwd",
        "/%",
        "/%zz",
        "/%ff%fe",
    ],
)
async def test_paths_outside_the_static_folder_are_not_served(target: str) -> None:
    answer = await ask(target)
    assert answer.status in (400, 404)
    assert b"root:" not in answer.body
    assert b"import" not in answer.body


@pytest.mark.parametrize("target", ["http://[/", "http://[::1/health", "http://\x7e[]@:99999/", "/?" + "%" * 99])
async def test_malformed_targets_are_answered(target: str) -> None:
    assert (await ask(target)).status in (200, 400, 404)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["/", "/health"])
async def test_a_405_names_the_allowed_methods(path: str, method: str) -> None:
    answer = await ask(path, method)
    assert answer.status == 405
    assert answer.headers["allow"] == "GET, HEAD"


# ---------------------------------------------------------------- the upgrade and its refusals


async def test_a_101_has_the_accept_key_of_rfc_6455() -> None:
    async with running_server() as server:
        stream = await server.dial()
        await stream.send_all(wire.upgrade_request(sec_websocket_key="dGhlIHNhbXBsZSBub25jZQ=="))
        head = bytes(await stream.receive_some()).lower()
        assert head.startswith(b"http/1.1 101 ")
        assert b"\r\nsec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo=\r\n" in head


async def test_a_plain_get_of_the_websocket_is_answered_with_426() -> None:
    answer = await ask("/ws")
    assert answer.status == 426
    assert answer.headers["upgrade"] == "websocket"
    assert answer.headers["sec-websocket-version"] == "13"
    assert "upgrade" in answer.headers["connection"].lower()


@pytest.mark.parametrize("version", [None, "8", "14", "13, 8", ""])
async def test_a_426_names_the_supported_version(version: str | None) -> None:
    answer = await ask_raw(wire.upgrade_request(sec_websocket_version=version))
    assert answer.status == 426
    assert answer.headers["sec-websocket-version"] == "13"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sec_websocket_key", None),
        ("sec_websocket_key", ""),
        ("sec_websocket_key", "too short"),
        ("sec_websocket_key", "AAAA"),
        ("sec_websocket_key", wire.KEY + "AAAA"),
        ("sec_websocket_key", f"{wire.KEY}, {wire.KEY}"),
        ("sec_websocket_key", "\xff" * 24),
        ("sec_websocket_protocol", "curhat.v1,\xff"),
        ("sec_websocket_protocol", "curhat v1"),
        ("sec_websocket_protocol", "cur(hat)"),
        ("sec_websocket_protocol", "curhat.v1\x85"),
        ("sec_websocket_protocol", "\xa0, curhat.v1"),
        ("host", None),
        ("host", "\xff"),
        ("host", "curhat.test/evil"),
        ("host", "curhat test"),
        ("host", "a@b"),
        ("origin", "null\x00"),
        ("host", "a\x01b"),
        ("sec_websocket_key", "\x7f" + wire.KEY),
        ("sec_websocket_protocol", "a\x01b"),
        ("x_anything", "a\x00b"),
    ],
)
async def test_a_malformed_upgrade_is_answered_with_400(name: str, value: str | None) -> None:
    header: dict[str, Any] = {name: value}
    assert (await ask_raw(wire.upgrade_request(**header))).status == 400


async def test_a_list_header_may_be_split_over_several_lines() -> None:
    """RFC 9110, section 5.3."""
    offers = b"sec-websocket-protocol: chat\r\nSEC-WEBSOCKET-PROTOCOL: , curhat.v1\t,\r\n\r\n"
    async with running_server() as server:
        stream = await server.dial()
        await stream.send_all(wire.upgrade_request().removesuffix(b"\r\n") + offers)
        head = bytes(await stream.receive_some()).lower()
        assert head.startswith(b"http/1.1 101 ")
        assert b"\r\nsec-websocket-protocol: curhat.v1\r\n" in head


@pytest.mark.parametrize("line", [f"Sec-WebSocket-Key: {wire.KEY}", "Sec-WebSocket-Version: 13"])
async def test_a_single_value_header_may_not_be_repeated(line: str) -> None:
    request = wire.upgrade_request().removesuffix(b"\r\n") + line.encode() + b"\r\n\r\n"
    assert (await ask_raw(request)).status in (400, 426)


@pytest.mark.parametrize("value", ["\xff", "Upgrade, \xff", "keep-alive, Upgrade"])
async def test_odd_bytes_in_the_connection_header_are_handled(value: str) -> None:
    async with running_server() as server:
        stream = await server.dial()
        await stream.send_all(wire.upgrade_request(connection=value))
        assert bytes(await stream.receive_some()).startswith(
            (b"HTTP/1.1 101 ", b"HTTP/1.1 426 ", b"HTTP/1.1 400 ")
        )


@pytest.mark.parametrize("method", ["HEAD", "POST", "OPTIONS"])
async def test_an_upgrade_with_another_method_than_get_is_refused(method: str) -> None:
    async with running_server() as server:
        browser = HttpClient(await server.dial())
        answer = await browser.request_raw(wire.upgrade_request().replace(b"GET", method.encode(), 1), method)
        assert answer.status == 426
        assert (answer.body == b"") == (method == "HEAD")
        assert (await browser.get("/health")).status == 200


async def test_an_upgrade_of_another_path_is_answered_like_a_plain_get() -> None:
    async with running_server() as server:
        browser = HttpClient(await server.dial())
        assert (await browser.request_raw(wire.upgrade_request("/health"))).status == 200
        assert (await browser.request_raw(wire.upgrade_request("/nowhere"))).status == 404


async def test_a_websocket_can_be_opened_after_other_requests_on_the_same_connection() -> None:
    async with running_server() as server:
        browser = HttpClient(await server.dial())
        await browser.get("/")
        peer = await open_peer(browser.stream)
        await peer.receive("welcome")


async def test_frames_pipelined_with_the_upgrade_are_processed() -> None:
    async with running_server() as server:
        peer = await open_peer(
            await server.dial(), pipelined=wire.message_frame("ping", data="early") + wire.message_frame("join")
        )
        assert (await peer.receive("welcome", "pong"))["data"] == "early"
        await peer.receive("ready")


async def test_frames_pipelined_with_the_upgrade_may_arrive_in_any_pieces() -> None:
    async with running_server() as server:
        stream = await server.dial()
        request = wire.upgrade_request(sec_websocket_protocol="curhat.v1") + wire.message_frame(
            "ping", data="early"
        )
        for byte in request:
            await stream.send_all(bytes([byte]))
        answer = b""
        while b'"early"' not in answer:
            answer += bytes(await stream.receive_some())


# ---------------------------------------------------------------- requests that are none


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n folded: x\r\nbad header\r\n\r\n",
        b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\r\n\r\n",
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 a TLS hello\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n",
    ],
)
async def test_an_invalid_request_is_answered_with_4xx_or_501_and_a_close(request_bytes: bytes) -> None:
    assert (await ask_raw(request_bytes)).status in (400, 501, 505)


async def test_a_head_over_16_kib_is_answered_with_431() -> None:
    request = b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * (MAX_HEAD_BYTES + 1)
    assert (await ask_raw(request)).status == 431


async def test_a_head_of_many_small_lines_is_answered_with_431() -> None:
    request = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 4000
    assert (await ask_raw(request)).status == 431


async def test_a_head_just_below_16_kib_is_accepted() -> None:
    async with running_server() as server:
        answer = await HttpClient(await server.dial()).get("/health", x="x" * (MAX_HEAD_BYTES - 200))
        assert answer.status == 200


# ---------------------------------------------------------------- keeping a connection


async def test_two_requests_on_one_connection() -> None:
    async with running_server() as server:
        browser = HttpClient(await server.dial())
        for path, status in [("/", 200), ("/nothing", 404), ("/health", 200), ("/ws", 426), ("/", 200)]:
            assert (await browser.get(path)).status == status


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with running_server() as server:
        browser = HttpClient(await server.dial())
        paths = ["/health", "/nothing", "/page.css", "/health"]
        await browser.stream.send_all(
            b"".join(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for path in paths)
        )
        statuses = []
        for _ in paths:
            browser.expect_response()
            statuses.append((await browser.receive_response()).status)
        assert statuses == [200, 404, 200, 200]


@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /health HTTP/1.0\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
        b"GET /health HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    ],
)
async def test_a_request_with_connection_close_is_answered_and_the_connection_closed(request_bytes: bytes) -> None:
    assert (await ask_raw(request_bytes)).json()["success"] is True


async def test_a_body_is_never_parsed_as_the_next_request() -> None:
    smuggled = b"GET /page.css HTTP/1.1\r\nHost: a\r\n\r\n"
    request = f"POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: {len(smuggled)}\r\n\r\n".encode() + smuggled
    assert (await ask_raw(request)).status == 405


async def test_a_disconnect_at_any_point_of_a_request_is_handled() -> None:
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    async with running_server() as server:
        for size in range(0, len(request) + 1, 5):
            stream = await server.dial()
            await stream.send_all(request[:size])
            await trio.aclose_forcefully(stream)
        assert (await server.health())["status"] == "healthy"


@pytest.mark.parametrize("size", [1, 40, len(wire.upgrade_request())])
async def test_a_half_closed_connection_gets_the_outstanding_responses(size: int) -> None:
    async with running_server() as server:
        stream = await server.dial()
        assert isinstance(stream, trio.abc.HalfCloseableStream)
        await stream.send_all(wire.upgrade_request()[:size])
        await stream.send_eof()
        with trio.fail_after(5):
            while await stream.receive_some():
                pass


# ---------------------------------------------------------------- the username in the query


async def name_of(query: str) -> str:
    """The username that the partner of a client with this query receives."""
    async with running_server() as server:
        return await _name_told(server, query)


async def _name_told(server: RunningServer, query: str) -> str:
    partner = await server.connect()
    await partner.send("join")
    await partner.receive("ready")
    named = await open_peer(await server.dial(), username=query, subprotocol=None)
    await named.send("join")
    name: str = (await partner.receive("join"))["username"]
    return name


@pytest.mark.shows("P-2.8")
@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("Ann", "Ann"),
        ("Bj%C3%B6rk", "Björk"),
        ("a+b%2Bc%26d", "a b+c&d"),
        ("%F0%9F%99%82" * 64, "\N{SLIGHTLY SMILING FACE}" * 64),
        ("x" * 65, "x" * 64),
        ("", "Anonymous"),
        ("%00", "Anonymous"),
        ("two%0Alines", "Anonymous"),
        ("%C2%85", "Anonymous"),
        ("First&username=Second", "First"),
        ("&name=else", "Anonymous"),
        ("%FF", "\N{REPLACEMENT CHARACTER}"),
        ("%ED%A0%80", "\N{REPLACEMENT CHARACTER}" * 3),
        ('<b>"quoted"', '<b>"quoted"'),
    ],
)
async def test_the_username_is_taken_from_the_query(query: str, name: str) -> None:
    assert await name_of(query.replace('"', "%22")) == name


async def test_without_a_query_the_username_is_anonymous() -> None:
    async with running_server() as server:
        partner = await server.connect()
        await partner.send("join")
        await partner.receive("ready")
        unnamed = await open_peer(await server.dial(), subprotocol=None)
        await unnamed.send("join")
        assert (await partner.receive("join"))["username"] == "Anonymous"


async def test_the_username_in_join_overrides_the_query() -> None:
    async with running_server() as server:
        partner, named = await server.connect(), await server.connect_legacy("FromQuery")
        await partner.send("join")
        await partner.receive("ready")
        await named.send("join", username="FromJoin")
        assert (await partner.receive("join"))["username"] == "FromJoin"
