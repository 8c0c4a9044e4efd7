"""A client of the JSON API that checks each answer against the OpenAPI document."""

import json
import re
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import aiohttp
import jsonschema
from yarl import URL

from exporter.web.api import endpoints
from exporter.web.api.openapi import document

DOCUMENT = document(endpoints)


class Api:
    """Asks a running exporter."""

    def __init__(self, url: str) -> None:
        self.url = url

    async def get(self, path: str, status: int = 200) -> Any:
        """The answer to a GET, which has this status."""
        return await self._ask("GET", path, status)

    async def check(self, body: object = None, query: str = "", status: int = 200) -> Any:
        """The answer to an immediate check."""
        return await self._ask("POST", f"/api/health/check{query}", status, body)

    async def post(self, path: str, status: int = 200, body: object = None) -> Any:
        """The answer to a POST."""
        return await self._ask("POST", path, status, body)

    async def put(
        self, path: str, body: object, status: int = 200, headers: Mapping[str, str] | None = None
    ) -> Any:
        """The answer to a PUT."""
        return await self._ask("PUT", path, status, body, headers)

    async def refused(self, path: str, status: int = 400) -> dict[str, str]:
        """What is wrong with a GET, by field."""
        return wrong_fields(await self.get(path, status))

    async def etag(self, path: str) -> str:
        """The ETag of what a GET answers."""
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as answer:
            return answer.headers["ETag"]

    async def status(self, method: str, path: str, headers: Mapping[str, str], body: object = None) -> int:
        """What is answered, its body aside."""
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.url + path, headers=headers, json=body) as answer,
        ):
            return answer.status

    async def _ask(
        self,
        method: str,
        path: str,
        status: int,
        body: object = None,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        url = URL(self.url + path, encoded=True)
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, url, json=body, headers=headers) as answer,
        ):
            text = await answer.text()
            assert answer.status == status, text
            assert answer.content_type == "application/json"
        found = json.loads(text, parse_constant=_refuse)
        fits(found, method, declared_path(path), status)
        return found


def declared_path(path: str) -> str:
    """The document's path that this one is an instance of."""
    plain = path.partition("?")[0]
    return next(
        (each for each in DOCUMENT["paths"] if re.fullmatch(re.sub(r"\{\w+\}", "[^/]+", each), plain)), plain
    )


def wrong_fields(answer: Mapping[str, Any]) -> dict[str, str]:
    """The messages of an error by field."""
    assert answer["error"]["code"] == "invalid_request"
    return {each["field"]: each["message"] for each in answer["error"]["details"]}


def fits(answer: object, method: str, path: str, status: int) -> None:
    """ValidationError unless the document declares this answer."""
    declared = DOCUMENT["paths"][path][method.lower()]["responses"][str(status)]
    schema = declared["content"]["application/json"]["schema"]
    whole = {**schema, "components": DOCUMENT["components"]}
    checker = jsonschema.Draft202012Validator(
        whole, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER
    )
    checker.validate(answer)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


def execute(config: Path, sql: str, *values: object) -> None:
    """Changes the history as somebody with sqlite3 would."""
    with closing(sqlite3.connect(config.with_name("r2-exporter.db"))) as connection:
        connection.execute(sql, values)
        connection.commit()
