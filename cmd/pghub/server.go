package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/pghub/pghub"
	"github.com/pghub/pghub/gateway"
	"github.com/pghub/pghub/stream"
)

// server is what pghub serve runs.
type server struct {
	logger    *slog.Logger
	dsn       string
	name      string
	address   string
	base      string // "/" or "/prefix"
	cert, key string
	clientCA  string
	grace     time.Duration

	reconnectMax time.Duration
	tokens       *tokens // nil: none
	codec        pghub.Codec
	streamTopics []string // of the gateway's stream, which run opens; none: there is no stream
	gateway      gateway.Config
}

// run serves until ctx ends, and then ends within the grace time. The database may be away, at the beginning too.
func (s *server) run(ctx context.Context) error {
	var secure *tls.Config // read before anything is said to be served
	if s.cert != "" {
		config, cert, err := newTLS(s.cert, s.key, s.clientCA, s.logger)
		if err != nil {
			return err
		}
		secure = config
		defer onSignal(syscall.SIGHUP, cert.reload)()
	}
	if s.tokens != nil {
		ctx, cancel := context.WithCancel(ctx) // of the goroutine that fetches keys
		defer cancel()
		v, err := s.tokens.verifier(ctx, func(err error) { s.logger.Warn("the keys of tokens were not fetched", "error", err) })
		if err != nil {
			return err
		}
		s.gateway.Authorize, s.gateway.Expires = v.authorize, v.expires
	}
	pool, err := pgxpool.New(ctx, s.dsn)
	if err != nil {
		return err // pgx leaves the password out
	}
	hub, err := pghub.New(pghub.Config{Pool: pool, Name: s.name, Logger: s.logger, Codec: s.codec, ReconnectMax: s.reconnectMax})
	if err != nil {
		return err
	}
	if len(s.streamTopics) > 0 {
		if s.gateway.Stream, err = s.openStream(ctx, hub, pool); err != nil || ctx.Err() != nil {
			return err
		}
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
		ConnContext:       gateway.ConnContext,
		TLSConfig:         secure,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.logger.Handler(), slog.LevelDebug), // broken handshakes, mostly
	}
	s.warn(listener.Addr())
	hubEnded, webEnded := make(chan error, 1), make(chan error, 1)
	go func() { hubEnded <- hub.Run(context.WithoutCancel(ctx)) }()
	served := make(chan struct{})
	go func() {
		defer close(served)
		webEnded <- s.serve(web, listener)
	}()
	s.logger.Info("serving", "address", listener.Addr().String(), "path", s.base, "tls", s.cert != "")

	select {
	case <-ctx.Done():
	case err = <-hubEnded:
	case err = <-webEnded:
	}
	s.logger.Info("stopping", "grace", s.grace)
	return errors.Join(err, s.stop(ctx, gw, web, served, hub, pool))
}

// openStream opens the stream once the database can be reached. Before that nothing is served: what a client has missed could not
// be said. It returns nil when ctx ends.
func (s *server) openStream(ctx context.Context, hub *pghub.Hub, pool *pgxpool.Pool) (*stream.Stream, error) {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, s.reconnectMax) {
		err := pool.Ping(ctx)
		var refused *pgconn.PgError
		switch {
		case ctx.Err() != nil:
			return nil, nil
		case err == nil:
			opened, err := stream.Open(ctx, hub, stream.Config{Live: s.streamTopics})
			if ctx.Err() != nil {
				return nil, nil
			}
			return opened, err
		case errors.As(err, &refused) && !strings.HasPrefix(refused.Code, "57") && !strings.HasPrefix(refused.Code, "53"): // waiting would not mend it
			return nil, err
		}
		s.logger.Warn("the database cannot be reached, and --stream needs it", "error", err, "again", pause)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, nil
		}
	}
}

// onSignal calls a function at every signal of a kind until stop is called, which waits for its end.
func onSignal(kind os.Signal, act func()) (stop func()) {
	signals, ended := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, kind)
	go func() {
		defer close(ended)
		for range signals {
			act()
		}
	}()
	return func() {
		signal.Stop(signals)
		close(signals)
		<-ended
	}
}

// warn says what is open to others without protection.
func (s *server) warn(address net.Addr) {
	if tcp, is := address.(*net.TCPAddr); is && tcp.IP.IsLoopback() {
		return
	}
	if s.cert == "" {
		s.logger.Warn("serving other machines without TLS: --tls-cert and --tls-key, or a proxy, would keep events and tokens secret")
	}
	if s.gateway.Authorize == nil && s.clientCA == "" {
		s.logger.Warn("serving other machines without a token: whoever reaches this port may listen to --topics (and publish to --publish)")
	}
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
	if web.TLSConfig != nil {
		return web.ServeTLS(l, "", "")
	}
	return web.Serve(l)
}

// stop ends all parts within the grace time. Clients are told, and before that nobody gets in any more: they come back at
// once. served is closed when web has come to serve nobody else, and has closed its listener.
func (s *server) stop(ctx context.Context, gw interface{ Shutdown(context.Context) error }, web *http.Server, served <-chan struct{}, hub *pghub.Hub, pool *pgxpool.Pool) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.grace)
	defer cancel()
	webEnded := make(chan error, 1)
	go func() { webEnded <- web.Shutdown(ctx) }()
	<-served
	// Clients that do not answer must not use up the time of the rest.
	clients, cancelClients := context.WithTimeout(ctx, s.grace/2)
	defer cancelClients()
	if err := gw.Shutdown(clients); err != nil {
		s.logger.Warn("not all clients have said goodbye", "error", err)
	}
	var err error
	if webErr := <-webEnded; webErr != nil {
		err = errors.Join(fmt.Errorf("stop serving: %w", webErr), web.Close())
	}
	err = errors.Join(err, hub.Stop(ctx))
	poolClosed := make(chan struct{})
	go func() {
		defer close(poolClosed)
		pool.Close() // waits for connections that are in use
	}()
	select {
	case <-poolClosed:
	case <-ctx.Done():
	}
	return err
}
