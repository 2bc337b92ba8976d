# The service as an image, for development: compose.yml starts it. Servers are installed with Ansible.
# BASE_IMAGE: any Debian with Python 3.11 or newer and its venv.
ARG BASE_IMAGE=python:3.12-slim

FROM ${BASE_IMAGE} AS packages
# A mirror of PyPI, where one is needed; a proxy comes with HTTPS_PROXY, which Docker passes on.
ARG PIP_INDEX_URL=
COPY docker/ca/ /usr/local/share/ca-certificates/
COPY service/requirements.txt /tmp/requirements.txt
RUN update-ca-certificates && python3 -m venv /opt/horizon \
    && PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1 \
        /opt/horizon/bin/pip install --no-cache-dir --only-binary :all: --require-hashes \
        --requirement /tmp/requirements.txt \
    && rm -r /opt/horizon/bin/pip* /opt/horizon/lib/python3*/site-packages/pip*

FROM ${BASE_IMAGE}
COPY docker/ca/ /usr/local/share/ca-certificates/
# A folder for what is kept: the spool, and the secrets that compose.yml asks for.
RUN update-ca-certificates \
    && useradd --system --uid 10001 --home-dir /var/lib/horizon --create-home --shell /usr/sbin/nologin horizon
COPY --from=packages /opt/horizon /opt/horizon
COPY docker/horizonctl /usr/local/bin/horizonctl
COPY service /srv/horizon/service
# The service may not write here, and would compile its modules at every start.
RUN /opt/horizon/bin/python -m compileall -q /srv/horizon/service
ENV PYTHONPATH=/srv/horizon PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt \
    WEB_BIND=0.0.0.0:8000 SPOOL_DIR=/var/lib/horizon/spool ALERT_STATE_FILE=/var/lib/horizon/alerts.json
USER horizon
WORKDIR /var/lib/horizon
VOLUME /var/lib/horizon
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=30s --start-period=60s CMD ["horizonctl", "is-ready"]
ENTRYPOINT ["horizonctl"]
CMD ["web"]
