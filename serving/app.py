"""The addresses of the service: its JSON API, its page, its health and its figures."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from data.names import as_text
from serving.batching import Answer, QueueFull, Upload
from serving.explainer import Form
from serving.guard import Guard
from serving.metrics import Metrics
from serving.options import ServiceOptions
from serving.service import LONGEST_NAME, Question, Service
from serving.uploads import Uploads
from utils import UserError, is_disk_full

PAGE = Path(__file__).parent / "page"
TopK = Annotated[int, Query(ge=1, le=1000, description="artists, and pictures of the gallery, at most")]
Threshold = Annotated[float, Query(ge=0, le=1, description="least probability of an artist that is named")]
Explained = Annotated[str, Query(min_length=1, max_length=LONGEST_NAME,
                                 description="name of an artist that the network knows; top1 or top3 for its answers")]
MapForm = Annotated[Form, Query(description="overlay: each map laid over the picture in grey, red where it speaks for "
                                            "the artist more than its mean, blue less, pale not seen; values: a grey "
                                            "px per place of the map, 128 its mean")]
ArtistName = Annotated[str, Query(min_length=1, max_length=LONGEST_NAME)]
_FORM = {"type": "object", "required": ["files"], "properties": {"files": {
    "type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}}}
_JSON = {"type": "object", "required": ["images"], "properties": {"images": {"type": "array", "minItems": 1, "items": {
    "type": "object", "required": ["data"], "properties": {
        "name": {"type": "string"}, "data": {"type": "string", "description": "base64, or a data: address"}}}}}}
_BODY = {"requestBody": {"required": True, "content": {
    "multipart/form-data": {"schema": _FORM}, "application/json": {"schema": _JSON}}}}
_ERROR = {"application/json": {"schema": {"type": "object", "required": ["error"], "properties": {
    "error": {"type": "string"}, "results": {"type": "array", "items": {"type": "object"}}}}}}
_ERRORS: dict[int | str, dict[str, Any]] = {status: {"description": text, "content": _ERROR} for status, text in {
    400: "a body that cannot be read", 401: "no API key, or a wrong one", 403: "not allowed", 404: "not there",
    408: "the body came too slowly", 413: "too many bytes or pictures", 415: "neither form nor JSON", 421: "wrong Host",
    422: "wrong JSON or values, or no picture that can be read", 429: "the queue is full; try again",
    507: "the gallery cannot be written, such as on a full disk"}.items()}


def make_app(service: Service, options: ServiceOptions, key: str | None) -> Any:
    """The ASGI application."""
    metrics = Metrics(service.batcher.count_waiting)
    service.batcher.note = metrics.batches.observe

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(service.batcher.close)

    app = FastAPI(title="LSNet for artist styles", docs_url=None, redoc_url=None, lifespan=lifespan,
                  redirect_slashes=False, responses={status: _ERRORS[status] for status in (403, 421)})
    _add_errors(app)
    _add_meter(app, metrics)
    _add_facts(app, service, options, metrics)
    uploads = Uploads(options)
    _add_questions(app, service, uploads, metrics)
    _add_maps(app, service, uploads, metrics)
    _add_gallery(app, service, uploads, options, metrics)
    _add_page(app)
    return Guard(app, options, key)


async def ask(service: Service, uploads: list[Upload], metrics: Metrics) -> list[Answer]:
    """The answers to pictures; raises an `HTTPException` 429 where the queue is full."""
    try:
        futures = service.batcher.submit(uploads)
    except QueueFull:
        raise _queue_full() from None
    answers = await asyncio.gather(*map(asyncio.wrap_future, futures))
    for answer in answers:
        metrics.pictures.labels("failed" if hasattr(answer, "reason") else "answered").inc()
    return answers


def _queue_full() -> HTTPException:
    return HTTPException(429, "the queue is full; try again soon", {"retry-after": "1"})


def _add_errors(app: FastAPI) -> None:
    """Every error is a JSON object with `error`, in words."""

    @app.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        return JSONResponse({"error": str(error.detail)}, error.status_code, dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        told = "; ".join(f"{'.'.join(map(str, each['loc'][1:]))}: {each['msg']}" for each in error.errors())
        return JSONResponse({"error": as_text(told)}, 422)

    @app.exception_handler(UserError)
    async def wrong(_: Request, error: UserError) -> Response:
        if isinstance(cause := error.__cause__, OSError):  # a full disk, or no right to write
            return _not_written(cause)
        return JSONResponse({"error": as_text(str(error))}, 422)

    @app.exception_handler(OSError)
    async def no_room(_: Request, error: OSError) -> Response:
        if not is_disk_full(error):
            raise error
        return _not_written(error)


def _not_written(error: OSError) -> Response:
    reason = error.strerror or "the disk is full"
    return JSONResponse({"error": f"the gallery cannot be written ({reason}); it is as it was"}, 507)


def _add_meter(app: FastAPI, metrics: Metrics) -> None:

    @app.middleware("http")
    async def measure(request: Request, respond: Callable[..., Any]) -> Response:
        started, status = time.perf_counter(), 500
        try:
            response = await respond(request)
            status = response.status_code
        finally:
            route = request.scope.get("route")  # of addresses that are none there is one label
            path = getattr(route, "path", "") or "other"
            metrics.requests.labels(path, str(status)).inc()
            metrics.seconds.labels(path).observe(time.perf_counter() - started)
        return response


def _add_facts(app: FastAPI, service: Service, options: ServiceOptions, metrics: Metrics) -> None:

    @app.get("/health", tags=["service"])
    async def health() -> dict[str, Any]:
        """Whether the service answers, and how many pictures wait."""
        return {"status": "ok", "waiting": service.batcher.count_waiting()}

    @app.get("/metrics", tags=["service"], responses={401: _ERRORS[401]}, response_class=PlainTextResponse)
    async def figures() -> Response:
        """Requests, seconds, pictures and batches, in Prometheus' text form."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")

    @app.get("/api/about", tags=["service"], responses={401: _ERRORS[401]})
    async def about() -> dict[str, Any]:
        """What can be asked, of which network, and how much at once."""
        return {**service.describe(), "writable": options.writable, "max_upload": options.max_upload,
                "max_pictures": options.max_pictures, "max_pixels": service.batcher.options.max_pixels}


def _add_questions(app: FastAPI, service: Service, uploads: Uploads, metrics: Metrics) -> None:

    async def answer(request: Request, question: Question, *, strict: bool = True) -> Response:
        if missing := [part for part in question.parts if part not in service.parts]:
            raise HTTPException(404, {"classify": "the network names no artists", "search": "there is no gallery"}.get(
                missing[0], missing[0]))
        async with uploads.read(request) as pictures:
            answers = await ask(service, pictures, metrics)
        records = await run_in_threadpool(
            lambda: [service.record(*pair, question) for pair in zip(pictures, answers, strict=True)])
        errors = [record["error"] for record in records if "error" in record]
        if strict and len(errors) == len(records):
            return JSONResponse({"error": errors[0], "results": records}, 422)
        return JSONResponse({"results": records})

    @app.post("/api/classify", tags=["pictures"], openapi_extra=_BODY, responses=_ERRORS)
    async def classify(request: Request, top_k: TopK = 5, threshold: Threshold = 0) -> Response:
        """The most probable artists of each picture; with a calibration the verdict, too."""
        return await answer(request, Question(parts=("classify",), top_k=top_k, threshold=threshold))

    @app.post("/api/features", tags=["pictures"], openapi_extra=_BODY, responses=_ERRORS)
    async def features(request: Request) -> Response:
        """The feature vector of each picture."""
        return await answer(request, Question(parts=("features",)))

    @app.post("/api/search", tags=["pictures"], openapi_extra=_BODY, responses=_ERRORS)
    async def search(request: Request, top_k: TopK = 5) -> Response:
        """The nearest pictures of the gallery, and the artists that they speak for."""
        return await answer(request, Question(parts=("search",), top_k=top_k))

    @app.post("/api/describe", tags=["pictures"], openapi_extra=_BODY, responses=_ERRORS)
    async def describe(request: Request, top_k: TopK = 5, threshold: Threshold = 0) -> Response:
        """Classify and search at once, whichever of both there is; also 200 where no picture can be read."""
        parts = tuple(part for part in service.parts if part != "features")
        return await answer(request, Question(parts=parts, top_k=top_k, threshold=threshold), strict=False)


def _add_maps(app: FastAPI, service: Service, uploads: Uploads, metrics: Metrics) -> None:

    @app.post("/api/explain", tags=["pictures"], openapi_extra=_BODY, responses=_ERRORS)
    async def explain(request: Request, artist: Explained = "top1", form: MapForm = "overlay") -> Response:
        """Where one picture speaks for an artist: class maps with probabilities, as PNG in data: addresses."""
        explainer = service.explainer
        if explainer is None:
            raise HTTPException(404, service.unexplained)
        choose = explainer.choose(artist)
        async with uploads.read(request) as pictures:
            if len(pictures) > 1:
                raise HTTPException(413, f"{len(pictures)} pictures; one per request is explained")
            try:
                work = service.batcher.submit_work(lambda: explainer.explain(pictures[0], choose, form))
            except QueueFull:
                raise _queue_full() from None
            record = await asyncio.wrap_future(work)
        metrics.pictures.labels("failed" if "error" in record else "explained").inc()
        if "error" in record:
            return JSONResponse({"error": record["error"], "results": [record]}, 422)
        return JSONResponse({"results": [record]})


def _add_gallery(app: FastAPI, service: Service, uploads: Uploads, options: ServiceOptions, metrics: Metrics) -> None:

    def check(write: bool) -> None:
        if service.store is None:
            raise HTTPException(404, "there is no gallery; start the service with --gallery")
        if write and not options.writable:
            raise HTTPException(403, "the gallery may only be read; start the service with --writable")

    @app.get("/api/gallery", tags=["gallery"], responses={status: _ERRORS[status] for status in (401, 404)})
    async def artists() -> dict[str, Any]:
        """The artists of the gallery and how many pictures each has."""
        check(write=False)
        return {"artists": service.artists()}

    @app.post("/api/gallery", tags=["gallery"], openapi_extra=_BODY, responses=_ERRORS)
    async def add(request: Request, artist: ArtistName) -> dict[str, Any]:
        """Add pictures of an artist, new or known; their features are kept, the pictures are not."""
        check(write=True)
        async with uploads.read(request) as pictures:
            answers = await ask(service, pictures, metrics)
        return await run_in_threadpool(service.add, artist, pictures, answers)

    @app.delete("/api/gallery", tags=["gallery"], responses=_ERRORS)
    async def remove(artist: ArtistName) -> dict[str, Any]:
        """Remove an artist and all its pictures."""
        check(write=True)
        await run_in_threadpool(service.remove, artist)
        return {"removed": artist}


def _add_page(app: FastAPI) -> None:

    @app.get("/", include_in_schema=False)
    async def page() -> Response:
        return FileResponse(PAGE / "index.html")

    @app.get("/api", include_in_schema=False)
    async def api_page() -> Response:
        return FileResponse(PAGE / "api.html")

    app.mount("/page", StaticFiles(directory=PAGE))
