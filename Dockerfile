# The server with the model of the folder model/, run by a user without privileges. Start it with compose.yaml.
FROM python:3.11-slim

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIPENV_NOSPIN=1 PIP_NO_CACHE_DIR=1 MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /srv/dexpression

# Before the code, so that a change of the code does not build this layer of 6 GB again.
COPY Pipfile Pipfile.lock ./
RUN python -m pip install pipenv==2026.10.3 \
    && pipenv sync --system \
    && python -m pip uninstall --yes pipenv

COPY server.py ./
COPY dexpression dexpression
COPY model model

RUN useradd --uid 10001 --no-create-home dexpression
USER 10001

ENV DEXPRESSION_HOST=0.0.0.0
EXPOSE 9874
STOPSIGNAL SIGTERM
# This address makes a real prediction, so it proves more than an open port.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://localhost:9874/health/ready', timeout=4)"]
CMD ["python", "server.py"]
