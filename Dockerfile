# One image for every role: docker build --tag nilometer .
FROM python:3.13-slim AS wheel
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY src ./src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
COPY requirements.txt /tmp/requirements.txt
RUN pip install --no-cache-dir --require-hashes --requirement /tmp/requirements.txt
RUN --mount=type=bind,from=wheel,source=/wheels,target=/wheels pip install --no-cache-dir --no-deps /wheels/*.whl
RUN useradd --system --uid 10001 --no-create-home nilometer \
    && install --directory --owner nilometer --mode 0700 /data
USER 10001
ENV NILOMETER_HOST=0.0.0.0 NILOMETER_DATA_DIR=/data PYTHONUNBUFFERED=1
VOLUME /data
EXPOSE 8000 4317
ENTRYPOINT ["nilometer"]
CMD ["serve"]
