# The REST API (the last stage, hence the default), the web app (--target app) and an MLflow server (--target mlflow).
#   docker build -t unmask . && docker run -p 127.0.0.1:8000:8000 -v ./outputs/train/first/bundle:/model:ro unmask
FROM python:3.11-slim AS base
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 1000 unmask && mkdir /data && chown unmask /data
WORKDIR /build

FROM base AS mlflow
COPY requirements-mlflow.lock ./
RUN python -m pip install --require-hashes -r requirements-mlflow.lock
ENV MLFLOW_DISABLE_TELEMETRY=true
USER 1000
WORKDIR /data
EXPOSE 5000
HEALTHCHECK --start-period=60s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:5000/health', timeout=4)"]
CMD ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000", "--backend-store-uri", "sqlite:////data/mlflow.db", "--artifacts-destination", "/data/mlartifacts", "--allowed-hosts", "localhost:*,127.0.0.1:*,mlflow:*"]

FROM base AS app
ENV ORT_DISABLE_TELEMETRY=1 UNMASK_CACHE=/opt/weights UNMASK_HOME=/data UNMASK_CHECKPOINT=/model
COPY requirements-app.lock ./
RUN python -m pip install --require-hashes -r requirements-app.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY configs configs
RUN python -m pip install --no-deps .
RUN python -m unmask.faces.retinaface_mobilenet && chmod -R a+rX /opt/weights
RUN ln -s "$(python -c 'import unmask; print(unmask.__path__[0])')" /opt/unmask
USER 1000
WORKDIR /data
EXPOSE 8501
HEALTHCHECK --start-period=30s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8501/_stcore/health', timeout=4)"]
CMD ["streamlit", "run", "/opt/unmask/web/app/main.py", "--server.address", "0.0.0.0", "--server.port", "8501", "--server.headless", "true"]

FROM base AS api
ENV ORT_DISABLE_TELEMETRY=1 UNMASK_CACHE=/opt/weights UNMASK_HOME=/data
COPY requirements-serve.lock ./
RUN python -m pip install --require-hashes -r requirements-serve.lock
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY configs configs
RUN python -m pip install --no-deps .
RUN python -m unmask.faces.retinaface_mobilenet && chmod -R a+rX /opt/weights
USER 1000
WORKDIR /data
EXPOSE 8000
HEALTHCHECK --start-period=30s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=4)"]
CMD ["unmask", "serve", "checkpoint=/model", "host=0.0.0.0", "port=8000"]
