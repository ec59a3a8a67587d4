# The program pghub as an image: a static binary, certificates to trust, and nothing else. It does not run as root.
#
#	docker build --build-arg VERSION=v0.1.0 --tag pghub:v0.1.0 - <Dockerfile
#	docker run --rm -p 8080:8080 -e DATABASE_URL=postgres://db/shop pghub:v0.1.0 serve --topics 'orders'
#
# It takes the released module, as go install does, so it needs no other file of this repository.
FROM golang:1.26-alpine AS build
ARG VERSION=latest
RUN CGO_ENABLED=0 go install -trimpath -ldflags='-s -w' github.com/pghub/pghub/cmd/pghub@${VERSION}

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /go/bin/pghub /pghub
USER 65534:65534
# 127.0.0.1, the default, is not to be reached from outside of a container.
ENV PGHUB_LISTEN=:8080
EXPOSE 8080
STOPSIGNAL SIGTERM
ENTRYPOINT ["/pghub"]
