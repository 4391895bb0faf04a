"""The shield's service as an application of Ray Serve, for those who outgrow one machine.

    serve run deploy.ray_serve:application folder=/shared/shield token_file=/shared/token replicas=2 gpus=1

From the root of a checkout, with ray[serve]; docs/service.md says what differs from `immuno guard serve`.
"""

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve import Application
from starlette.applications import Starlette

from immuno.serving.listening import read_token
from immuno_core.errors import SetupError


class Given(BaseModel):
    """What the application is given, as name=value."""

    model_config = ConfigDict(extra="forbid")
    folder: str
    """Of the shield; the same on all machines."""
    token_file: Path | None = None
    """On this machine. Default: $IMMUNO_TOKEN."""
    model: str | None = None
    pretrained: str | None = None
    device: str = "auto"
    replicas: int = Field(default=1, ge=1)
    cpus: float = Field(default=1.0, ge=0)
    gpus: float = Field(default=0.0, ge=0)
    """Of a replica."""


def application(given: Given) -> Application:
    """Return the application. Raises SetupError without a token: whoever reaches the cluster's proxies could ask."""
    token = read_token(given.token_file)
    if not token:
        raise SetupError("the service needs a token on a cluster: give token_file=PATH, or set $IMMUNO_TOKEN")

    def build() -> Starlette:
        from immuno.shield.service.app import Service, make_app
        from immuno.shield.shield import Shield

        def load() -> Shield:
            return Shield.load(given.folder, model=given.model, pretrained=given.pretrained, device=given.device)

        return make_app(Service(load, token=token))

    deployment = serve.deployment(
        serve.ingress(build)(),
        name="shield",
        num_replicas=given.replicas,
        max_ongoing_requests=1_000,  # the service itself says when it is full
        ray_actor_options={"num_cpus": given.cpus, "num_gpus": given.gpus},
    )
    return deployment.bind()
