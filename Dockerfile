# The server with the model that lies in model/, as an ordinary user; see compose.yaml for how to run it.
FROM python:3.11-slim

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PIPENV_NOSPIN=1 PIP_NO_CACHE_DIR=1 MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /srv/dexpression

# Before the code, so that a change of that leaves this layer, of 6 GB, as it is.
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
# A prediction through the detector and the network, not a port that is merely open.
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://localhost:9874/health/ready', timeout=4)"]
CMD ["python", "server.py"]
