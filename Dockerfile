# wordsight without torch, for a machine without a network:
#   docker build -t wordsight .
#   docker run --rm --network none -u "$(id -u):$(id -g)" -v "$PWD:/data" wordsight run -c cat,dog -p photos
FROM python:3.12-slim
COPY pyproject.toml README.md LICENSE /src/
COPY src /src/src
RUN pip install --no-cache-dir /src && rm -r /src
# whoever runs it may write its caches
ENV WORDSIGHT_HOME=/var/lib/wordsight WORDSIGHT_OFFLINE=1
RUN useradd --create-home wordsight && install -d -m 1777 /var/lib/wordsight
USER wordsight
WORKDIR /data
ENTRYPOINT ["wordsight"]
CMD ["--help"]
