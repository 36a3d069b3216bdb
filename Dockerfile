# CPU:  docker build -t fastreid-plugins .
# CUDA: docker build -t fastreid-plugins --build-arg INDEX=https://pypi.org/simple .
#       The wheels there bring the CUDA libraries; the driver is the host's: docker run --gpus all.
# BASE may name another image that has Python 3.11 to 3.13 and pip, such as one made from nvidia/cuda.
# Run:  docker run --rm --shm-size 2g -v "$PWD:/work" fastreid-plugins demo
# Nobody has built this image yet: no Docker daemon ran where it was written.
ARG BASE=python:3.11-slim
FROM ${BASE}
ARG INDEX=https://download.pytorch.org/whl/cpu

WORKDIR /opt/fastreid-plugins
COPY requirements.txt requirements-fastreid.txt ./
RUN pip install --no-cache-dir --extra-index-url ${INDEX} -r requirements.txt \
    && pip install --no-cache-dir --no-deps --require-hashes -r requirements-fastreid.txt
COPY setup.py pyproject.toml MANIFEST.in README.md LICENSE ./
COPY configs configs
COPY plugins plugins
COPY tools tools
RUN pip install --no-cache-dir --no-deps .

# Not root: files of a run belong to this user, or to the one of `docker run --user`.
RUN useradd --create-home user && mkdir /work && chown user /work
USER user
WORKDIR /work
ENTRYPOINT ["fastreid-plugins"]
CMD ["--help"]
