"""The API's description as a page that needs nothing from elsewhere."""

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import HTMLResponse
from fastapi.security import HTTPBearer
from starlette.staticfiles import StaticFiles

ASSETS = "/docs/assets"

# declares what Admission holds; it refuses nothing itself
key_scheme = HTTPBearer(
    auto_error=False,
    scheme_name="key",
    bearerFormat="csw_<prefix>_<secret>",
    description="A key of scope `read`, `write` or `admin`, from `convsweep key create`.",
)


def serve_docs(app: FastAPI) -> None:
    """Serves Swagger UI at ``/docs`` from an installed package, not from other servers."""
    assets = StaticFiles(packages=[("fastapi_swagger", "resources")])

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        return get_swagger_ui_html(
            openapi_url="/openapi.json",
            title="convsweep",
            swagger_js_url=f"{ASSETS}/swagger-ui-bundle.js",
            swagger_css_url=f"{ASSETS}/swagger-ui.css",
            swagger_favicon_url=f"{ASSETS}/favicon-32x32.png",
        )

    app.mount(ASSETS, assets)
