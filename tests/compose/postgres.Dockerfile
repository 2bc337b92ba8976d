# As much of the official image of PostgreSQL as compose.yml uses, where none can be pulled.
ARG BASE_IMAGE
FROM ${BASE_IMAGE}
COPY postgres-entrypoint /usr/local/bin/
RUN ln -s /usr/lib/postgresql/*/bin/* /usr/local/bin/ 2>/dev/null; chmod 755 /usr/local/bin/postgres-entrypoint
ENV PGDATA=/var/lib/postgresql/data
VOLUME /var/lib/postgresql/data
STOPSIGNAL SIGINT
ENTRYPOINT ["postgres-entrypoint"]
