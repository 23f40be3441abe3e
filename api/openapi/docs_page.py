"""The API's description as a page that needs nothing from elsewhere."""

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response
from fastapi.security import HTTPBearer
from starlette.staticfiles import StaticFiles

ASSETS = "/docs/assets"
START = "/docs/start.js"

# The interface sets styles of its own; scripts come only from our files.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
# addresses relative to the page, so that it works below any path of a reverse proxy
PAGE = """<!doctype html>
<html lang="en">
  <head>
    <meta charset="utf-8" />
    <meta name="viewport" content="width=device-width, initial-scale=1" />
    <title>convsweep API</title>
    <link rel="icon" href="docs/assets/favicon-32x32.png" />
    <link rel="stylesheet" href="docs/assets/swagger-ui.css" />
  </head>
  <body>
    <div id="swagger-ui"></div>
    <script src="docs/assets/swagger-ui-bundle.js"></script>
    <script src="docs/start.js"></script>
  </body>
</html>
"""
SCRIPT = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  layout: "BaseLayout",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
})
"""

# declares what Admission holds; it refuses nothing itself
key_scheme = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    bearerFormat="csw_<prefix>_<secret>",
    description="A key of scope `read`, `write` or `admin`, from `convsweep key create`.",
)


def serve_docs(app: FastAPI) -> None:
    """Serves Swagger UI at ``/docs`` from an installed package, not from other servers."""

    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(PAGE, headers={"Content-Security-Policy": POLICY})

    @app.get(START, include_in_schema=False)
    async def start() -> Response:
        return Response(SCRIPT, media_type="text/javascript")

    app.mount(ASSETS, StaticFiles(packages=[("fastapi_swagger", "resources")]))
