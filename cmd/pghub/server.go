package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/gateway"
)

// server is what pghub serve runs.
type server struct {
	logger    *slog.Logger
	dsn       string
	name      string
	address   string
	base      string // "/" or "/prefix"
	cert, key string
	grace     time.Duration
	codec     pghub.Codec
	gateway   gateway.Config
}

// run serves until ctx ends, and then ends within the grace time. The database may be away, at the beginning too.
func (s *server) run(ctx context.Context) error {
	pool, err := pgxpool.New(ctx, s.dsn)
	if err != nil {
		return err // pgx leaves the password out
	}
	hub, err := pghub.New(pghub.Config{Pool: pool, Name: s.name, Logger: s.logger, Codec: s.codec})
	if err != nil {
		return err
	}
	gw, err := gateway.New(hub, s.gateway)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", s.address)
	if err != nil {
		return err
	}
	web := &http.Server{
		Handler:           s.mount(gw),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug), // broken handshakes, mostly
	}
	hubEnded, webEnded := make(chan error, 1), make(chan error, 1)
	go func() { hubEnded <- hub.Run(context.WithoutCancel(ctx)) }()
	go func() { webEnded <- s.serve(web, listener) }()
	s.logger.Info("serving", "address", listener.Addr().String(), "path", s.base, "tls", s.cert != "")

	select {
	case <-ctx.Done():
	case err = <-hubEnded:
	case err = <-webEnded:
	}
	s.logger.Info("stopping", "grace", s.grace)
	return errors.Join(err, s.stop(ctx, gw, web, hub, pool))
}

// mount puts the gateway under the base path.
func (s *server) mount(gw http.Handler) http.Handler {
	if s.base == "/" {
		return gw
	}
	mux := http.NewServeMux()
	mux.Handle(s.base+"/", http.StripPrefix(s.base, gw))
	return mux
}

func (s *server) serve(web *http.Server, l net.Listener) error {
	if s.cert != "" {
		return web.ServeTLS(l, s.cert, s.key)
	}
	return web.Serve(l)
}

// stop ends all parts within the grace time: clients first, so that they are told.
func (s *server) stop(ctx context.Context, gw *gateway.Gateway, web *http.Server, hub *pghub.Hub, pool *pgxpool.Pool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.grace)
	defer cancel()
	// Clients that do not answer must not use up the time of the rest.
	clients, cancelClients := context.WithTimeout(ctx, s.grace/2)
	defer cancelClients()
	if err := gw.Shutdown(clients); err != nil {
		s.logger.Warn("not all clients have said goodbye", "error", err)
	}
	var err error
	if webErr := web.Shutdown(ctx); webErr != nil {
		err = errors.Join(fmt.Errorf("stop serving: %w", webErr), web.Close())
	}
	err = errors.Join(err, hub.Stop(ctx))
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		pool.Close() // waits for connections that are in use
	}()
	select {
	case <-closed:
	case <-ctx.Done():
	}
	return err
}
