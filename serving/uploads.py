"""From the body of a request to the pictures in it: files of a form, or base64 in JSON. Nothing is put on the disk."""

from __future__ import annotations

import asyncio
import base64
import binascii
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import msgspec
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from serving.batching import Upload
from serving.options import ServiceOptions

MEBIBYTE = 2**20
LONGEST_NAME = 1000  # letters of a picture's name
BODIES = 8  # largest requests that may be in memory at once


class _Picture(msgspec.Struct):
    """One picture of a JSON body."""

    data: str
    name: Annotated[str, msgspec.Meta(max_length=LONGEST_NAME)] = ""


class _Pictures(msgspec.Struct):
    """What a JSON body must hold."""

    images: list[_Picture]


class _InMemory(MultiPartParser):
    """A form whose files stay in memory: the size of the body is limited anyway."""

    spool_max_size = sys.maxsize
    whole = False  # whether the line that closes the form has come

    def on_end(self) -> None:
        """Note it; the parser drops a part that is cut off, and says nothing."""
        self.whole = True


class Uploads:
    """Reads bodies within the limits of `ServiceOptions`."""

    def __init__(self, options: ServiceOptions) -> None:
        """Nothing is in memory yet."""
        self.options, self.most, self.held = options, options.max_upload * MEBIBYTE, 0

    @asynccontextmanager
    async def read(self, request: Request) -> AsyncIterator[list[Upload]]:
        """Yield the pictures of a request, at least one; their bytes count as held until the block ends.

        Raises:
            HTTPException: 400, 408, 413, 415, 422 or 429, with the reason in words.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in ("multipart/form-data", "application/json"):
            raise HTTPException(415, "send pictures as files of a form (multipart/form-data), or as JSON with base64")
        size = self._declared(request)
        if self.held + size > BODIES * self.most:
            raise HTTPException(429, "too many requests at once; try again soon", {"retry-after": "1"})
        self.held += size
        try:
            body = await self._arrived(request)
            uploads = _from_json(body) if kind == "application/json" else await self._from_form(request, body)
            if not 0 < len(uploads) <= self.options.max_pictures:
                raise HTTPException(422 if not uploads else 413, f"{len(uploads)} pictures; expected 1 to "
                                                                 f"{self.options.max_pictures}")
            yield uploads
        finally:
            self.held -= size

    async def _arrived(self, request: Request) -> bytes:
        try:
            return await asyncio.wait_for(self._body(request), self.options.upload_time)
        except (asyncio.TimeoutError, TimeoutError):  # two classes up to Python 3.10
            raise HTTPException(408, f"the request took over {self.options.upload_time} s to arrive") from None
        except ClientDisconnect:
            raise HTTPException(400, "the client left") from None

    def _declared(self, request: Request) -> int:
        """Bytes that the body may have."""
        try:
            size = int(request.headers.get("content-length", self.most))
        except ValueError:
            raise HTTPException(400, "a content-length that is no number") from None
        if size > self.most:
            raise self._too_large()
        return size

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"a request of over {self.options.max_upload} MiB (--max-upload)")

    async def _body(self, request: Request) -> bytes:
        body = bytearray()
        async for chunk in request.stream():
            body += chunk
            if len(body) > self.most:
                raise self._too_large()
        return bytes(body)

    async def _from_form(self, request: Request, body: bytes) -> list[Upload]:
        async def stream() -> AsyncIterator[bytes]:
            yield body

        try:
            parser = _InMemory(request.headers, stream(), max_files=self.options.max_pictures, max_fields=16)  # type: ignore[arg-type]  # any iterator will do
            form = await parser.parse()
        except (MultiPartException, KeyError, ValueError, AssertionError) as error:
            raise HTTPException(400, f"a form that cannot be read ({error})") from None
        if not parser.whole:
            raise HTTPException(400, "a form that is cut off")
        files = [file for _, file in form.multi_items() if isinstance(file, UploadFile)]
        return [Upload((file.filename or "")[:LONGEST_NAME] or f"picture {number}", await file.read())
                for number, file in enumerate(files, 1)]


def _from_json(body: bytes) -> list[Upload]:
    try:
        pictures = msgspec.json.decode(body, type=_Pictures).images
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise HTTPException(422, f'expected {{"images": [{{"name": …, "data": base64}}]}}; {error}') from None
    try:
        return [Upload(picture.name or f"picture {number}",
                       base64.b64decode(picture.data.partition(";base64,")[2] if picture.data.startswith("data:")
                                        else picture.data, validate=True))
                for number, picture in enumerate(pictures, 1)]
    except (binascii.Error, ValueError) as error:
        raise HTTPException(422, f"data that is not base64 ({error})") from None
