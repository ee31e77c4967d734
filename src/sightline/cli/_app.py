"""The command `sightline app`."""

import os

from sightline.app import check_host, serve
from sightline.cli._console import console
from sightline.cli._model import loaded
from sightline.gad import GAD
from sightline.options import AppOptions, ModelOptions


def app(model: ModelOptions, asked: AppOptions) -> None:
    """Serve an app in the browser."""
    network = loaded(model)
    password = os.environ.get("SIGHTLINE_PASSWORD")
    check_host(asked.host, password)
    distanced = None if asked.support is None else GAD.load(asked.support, network)
    console.print(f"Open http://{asked.host}:{asked.port} in a browser; Ctrl-C stops it.", soft_wrap=True)
    serve(network, gad=distanced, host=asked.host, port=asked.port, password=password)
