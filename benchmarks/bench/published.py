"""Published figures of known services, with what they measure. None was measured here."""

from __future__ import annotations

from .figures import Published

_FIRST_RESULT = "API call to first command's answer"
_SURVEY = "ComputeSDK, 1 Apr 2026, one at a time, 100 iterations, over the internet"

STARTS = (
    Published(service="Daytona", figure="110 ms p50, 280 p95, 290 p99", what=_FIRST_RESULT, where=_SURVEY),
    Published(
        service="Daytona",
        figure="663 ms p50, 1,666 p95, 7,770 p99",
        what="create to `echo ready`",
        where="a competitor's documentation (Podflare), 2026, 30 iterations",
    ),
    Published(service="E2B", figure="440 ms p50, 850 p95, 990 p99", what=_FIRST_RESULT, where=_SURVEY),
    Published(service="HopX", figure="1,050 ms p50, 1,420 p95, 1,640 p99", what=_FIRST_RESULT, where=_SURVEY),
    Published(
        service="Modal", figure="2,660 ms p50, 11,780 p95, 22,390 p99", what=_FIRST_RESULT, where=_SURVEY
    ),
    Published(
        service="CubeSandbox",
        figure="66.7 ms average, 64.5 p50, 78.2 p95, 80.2 p99",
        what="API call to ready, one at a time",
        where="its blog, 3 Jun 2026, cloud VM with 16 cores and the PVM kernel",
    ),
    Published(
        service="CubeSandbox",
        figure="364.6 ms average, 521.4 p95",
        what="API call to ready, 20 at once",
        where="the same",
    ),
    Published(
        service="Manta",
        figure="51.4 ms p50, 59.0 p95, 60.8 p99",
        what="create and first command, guest network included",
        where="its blog, 2026, Firecracker with KVM on a laptop (i5-1345U)",
    ),
    Published(
        service="PandaStack",
        figure="about 20 ms (docs), 112 ms p50 (site)",
        what="claim of a sandbox that waits in a pool",
        where="its documentation and site, 2026",
    ),
    Published(
        service="agent-sandbox",
        figure="170 ms API server + 100 to 250 ms controller",
        what="claim of a warm sandbox to ready, before the runtime's part",
        where="its repository, GKE",
    ),
)
