# Images of tscnc-deploy. Three targets:
#
#   docker build --target check -t tscnc-deploy:check .    the gate of a pipeline, on the CPU
#   docker build --target serve -t tscnc-deploy:serve .    the inference server
#   docker build --target gpu   -t tscnc-deploy:gpu .      the server with TensorRT, for --gpus all
#
#   docker run --rm -v "$PWD/bundle:/bundle:ro" tscnc-deploy:check check /bundle
#
# The check image carries the server too, so that the two share every layer; only what they start differs. On x86-64 the
# index's own torch brings CUDA along, which is most of their size: --build-arg UV_TORCH_BACKEND=cpu takes the build for
# CPUs from PyTorch's index. Pin the base with BASE=python:3.13-slim@sha256:...
ARG BASE=docker.io/library/python:3.13-slim
# Of the package and in the label of the images; git's history, which would say it, stays outside of the build.
ARG VERSION=0.1.dev0

# The compiler stays behind in this stage.
FROM ${BASE} AS wheel
# For networks with certificates of their own; arguments of a stage leave no trace in the targets.
ARG PIP_CERT
ARG SSL_CERT_FILE
ARG VERSION
# One date for every file: the same sources give the same wheel.
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 SOURCE_DATE_EPOCH=1735689600 \
    SETUPTOOLS_SCM_PRETEND_VERSION_FOR_TSCNC_DEPLOY=${VERSION}
RUN apt-get update && apt-get install --yes --no-install-recommends g++ && rm -rf /var/lib/apt/lists/* && \
    python3 -m venv /opt/pip
WORKDIR /src
COPY pyproject.toml setup.py MANIFEST.in README.md LICENSE ./
COPY export export
COPY pipelines pipelines
COPY tscnc_deploy tscnc_deploy
# The core is optional to pip, but not to an image.
RUN /opt/pip/bin/pip wheel --no-deps --wheel-dir /wheels . && python3 -m zipfile --list /wheels/*.whl | grep _core.so

# What is needed to install stays behind in these.
FROM ${BASE} AS install
ARG PIP_CERT
# Bytecode comes along, as a read-only container could not keep it: every start would compile for seconds.
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 UV_NO_CACHE=1 UV_COMPILE_BYTECODE=1 VIRTUAL_ENV=/opt/tscnc-deploy
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install uv && /opt/uv/bin/uv venv "$VIRTUAL_ENV"
WORKDIR /src
COPY pyproject.toml ./

# Apart from what it depends on, which changes less often than the code.
FROM install AS package
COPY --from=wheel /wheels /wheels
RUN /opt/uv/bin/uv pip install --no-index --no-deps --prefix /opt/package /wheels/*.whl

FROM install AS build
# Of this stage alone, and read by uv where they are given: other indexes, and whose GPUs torch is for ("cpu": none).
ARG SSL_CERT_FILE
ARG UV_DEFAULT_INDEX
ARG UV_INDEX
ARG UV_TORCH_BACKEND
# Of no use on a CPU: the CUDA half of onnxruntime, and the compiler by which torch.compile writes for GPUs.
RUN printf 'onnxruntime-gpu\ntriton\n' > /opt/excluded && \
    /opt/uv/bin/uv pip install --excludes /opt/excluded -r pyproject.toml --extra sign --extra serve "onnxruntime>=1.22"

FROM install AS build-gpu
ARG SSL_CERT_FILE
ARG UV_DEFAULT_INDEX
ARG UV_INDEX
ARG UV_TORCH_BACKEND
RUN /opt/uv/bin/uv pip install -r pyproject.toml --extra sign --extra serve --extra tensorrt

# What the targets share. The root file system may be read-only: what is written goes to the volume.
FROM ${BASE} AS runtime
ARG BASE
ARG VERSION
ARG REVISION=unknown
LABEL org.opencontainers.image.title="tscnc-deploy" \
      org.opencontainers.image.description="Checks and serves image classifiers that are small and hard to fool" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.base.name="${BASE}"
ENV PATH=/opt/tscnc-deploy/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    HOME=/scratch TMPDIR=/scratch XDG_CACHE_HOME=/scratch MPLCONFIGDIR=/scratch
RUN mkdir /scratch && chown 10001:10001 /scratch
VOLUME /scratch
WORKDIR /scratch
USER 10001:10001

FROM runtime AS check
COPY --from=build /opt/tscnc-deploy /opt/tscnc-deploy
COPY --from=package /opt/package /opt/tscnc-deploy
ENTRYPOINT ["tscnc-deploy"]
CMD ["--help"]

FROM check AS serve
EXPOSE 8000 8001
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=2)"]
ENTRYPOINT ["tscnc-deploy", "serve"]
CMD ["/bundle", "--host", "0.0.0.0"]

FROM runtime AS gpu
COPY --from=build-gpu /opt/tscnc-deploy /opt/tscnc-deploy
COPY --from=package /opt/package /opt/tscnc-deploy
EXPOSE 8000 8001
HEALTHCHECK --interval=10s --timeout=3s --start-period=120s \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/v2/health/ready', timeout=2)"]
ENTRYPOINT ["tscnc-deploy", "serve"]
CMD ["/bundle", "--host", "0.0.0.0"]
