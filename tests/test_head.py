"""The page's own head is in the document before Gradio's scripts, and nothing else is touched."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from app.head import Head

OURS = "<script>/* 我们的 */</script>"


def page(request: Request) -> Response:
    return HTMLResponse("<html><head><script>theirs</script><script>too</script></head></html>")


def streamed(request: Request) -> Response:
    return StreamingResponse(iter(["<html><scr", "ipt>theirs</script></html>"]), media_type="text/html")


def plain(request: Request) -> Response:
    return PlainTextResponse("<script>text</script>")


APP = Starlette(
    routes=[Route("/page", page), Route("/streamed", streamed), Route("/plain", plain)],
    middleware=[Middleware(Head, html=OURS)],
)


def test_the_first_script_is_ours() -> None:
    answer = TestClient(APP).get("/page")
    assert answer.text == f"<html><head>{OURS}<script>theirs</script><script>too</script></head></html>"
    assert int(answer.headers["content-length"]) == len(answer.content)


def test_a_document_in_pieces_is_put_together() -> None:
    assert TestClient(APP).get("/streamed").text == f"<html>{OURS}<script>theirs</script></html>"


def test_other_answers_pass() -> None:
    assert TestClient(APP).get("/plain").text == "<script>text</script>"
    assert TestClient(APP).head("/page").status_code == 200
    assert TestClient(APP).get("/nothing").status_code == 404
