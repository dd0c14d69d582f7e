# A server image: docker build -t graftwork . && docker run -p 127.0.0.1:8000:8000 -v ./model-repository:/models:ro graftwork
FROM python:3.11-slim-trixie

RUN useradd --uid 10001 --create-home graftwork
WORKDIR /app
COPY requirements-image.txt pyproject.toml README.md LICENSE graftwork.py ./
COPY models models
COPY finetune finetune
COPY service service
RUN pip install --no-cache-dir --no-deps --require-hashes -r requirements-image.txt \
    && pip install --no-cache-dir --no-deps .

# What the first start on a machine finds out and exports; a volume keeps it for the next one.
RUN mkdir /cache && chown graftwork /cache
# By its number: runAsNonRoot of Kubernetes cannot look up names.
USER 10001
VOLUME /cache
ENV GRAFTWORK_REPOSITORY=/models GRAFTWORK_CACHE_DIR=/cache PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1
# HTTP, and gRPC where it is asked for: graftwork serve --host 0.0.0.0 --grpc-port 8001
EXPOSE 8000 8001
HEALTHCHECK --interval=10s --timeout=3s --start-period=90s \
    CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/health/ready', timeout=2)"]
# It does not start without a key (graftwork keys create), unless it is given --allow-unauthenticated besides.
# As the first process it needs no tini: it has handlers from its start on, and waits for processes that lost their parent.
CMD ["graftwork", "serve", "--host", "0.0.0.0"]
