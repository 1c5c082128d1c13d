# docker build .                  the server; compose.yaml starts it with limits
# docker build --target train .   the command line with PyTorch, for training; about 6.8 GB

# Another source of this image, or one build of it: --build-arg PYTHON_IMAGE=python:3.13-slim@sha256:...
ARG PYTHON_IMAGE=python:3.13-slim

# No digest of pipenv is checked, so it has a stage of its own, out of which only these lists are read.
FROM ${PYTHON_IMAGE} AS requirements
ENV PIP_NO_CACHE_DIR=1
WORKDIR /requirements
RUN python -m pip install pipenv==2026.10.3
COPY Pipfile Pipfile.lock ./
RUN pipenv requirements --hash --categories build > build.txt \
    && pipenv requirements --hash --categories serve > serve.txt \
    && pipenv requirements --hash > train.txt

FROM ${PYTHON_IMAGE} AS build
ENV PIP_NO_CACHE_DIR=1
WORKDIR /build
RUN --mount=type=bind,from=requirements,source=/requirements,target=/requirements \
    python -m pip install --require-hashes --only-binary :all: --requirement /requirements/build.txt
COPY LICENSE README.md pyproject.toml ./
COPY model model
COPY dexpression dexpression
RUN python -m pip wheel --no-deps --no-build-isolation --wheel-dir /wheel .

# What both images have. A system that refuses root can judge a user by its number only.
FROM ${PYTHON_IMAGE} AS base
ENV PIP_NO_CACHE_DIR=1 PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
# The image of Python comes without the bytecode of its library, and without it the server takes twice as long to start.
RUN python -m compileall -q -x site-packages "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && useradd --uid 10001 --no-create-home dexpression

FROM base AS train
RUN --mount=type=bind,from=requirements,source=/requirements,target=/requirements \
    python -m pip install --require-hashes --only-binary :all: --requirement /requirements/train.txt
RUN --mount=type=bind,from=build,source=/wheel,target=/wheel \
    python -m pip install --no-deps /wheel/*.whl && python -m pip check
# Libraries keep caches in the home folder, and a user of `docker run --user` has none.
ENV HOME=/tmp
WORKDIR /work
USER 10001:10001
ENTRYPOINT ["dexpression"]
CMD ["--help"]

FROM base AS serve
RUN --mount=type=bind,from=requirements,source=/requirements,target=/requirements \
    python -m pip install --require-hashes --only-binary :all: --requirement /requirements/serve.txt
# Without pip, which the server does not need, scanners do not report the libraries that are copied into it.
RUN --mount=type=bind,from=build,source=/wheel,target=/wheel \
    python -m pip install --no-deps /wheel/*.whl && python -m pip check \
    && python -m pip uninstall --yes pip
USER 10001:10001
ENV DEXPRESSION_HOST=0.0.0.0
EXPOSE 9874
STOPSIGNAL SIGTERM
# This address makes a real prediction, so it proves more than an open port. `http.client` ignores HTTP_PROXY.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", "\
import os, sys; from http.client import HTTPConnection; port = os.environ.get('DEXPRESSION_PORT', ''); \
server = HTTPConnection('localhost', int(port) if port.isdigit() else 9874, timeout=4); \
server.request('GET', '/health/ready'); sys.exit(server.getresponse().status != 200)"]
CMD ["dexpression", "serve"]
