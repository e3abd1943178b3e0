"""The route of variants: /api/variant/IMAGE_ID?width=640&format=webp."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from jobs.serve.lake_app import App
from jobs.serve.variants.kept import LIFETIME_S
from udfs.transforms.variants import TYPES, Variant


def answer(app: App, row: int, request: Request) -> Response:
    """The file, or why there is none. row: of the image in the gallery. Raises NotReadyError."""
    try:
        how = Variant.of_query(dict(request.query_params))
    except ValueError as error:
        return PlainTextResponse(str(error), 400, headers={"cache-control": "no-store"})
    reference = app.open.columns.reference(row)
    image_id = int(app.open.columns.id[row])
    data = app.variants.get(image_id, reference, how, lambda: app.pictures.variant(reference, how))
    if data is None:
        return PlainTextResponse("no picture", 404, headers={"cache-control": "no-store"})
    lasts = {"cache-control": f"private, max-age={int(LIFETIME_S)}"}
    return Response(data, headers=lasts, media_type=TYPES[how.format])
